// Topology by the hints of EndpointSlices (KEP-2433, KEP-3015, KEP-4444). `spec.trafficDistribution` is never read here:
// the EndpointSlice controller turns it into hints.

import type { Candidate } from './endpoint.ts';
import type { NodeIdentity, TopologyMode } from './snapshot.ts';

/**
 * Which hints hold, judged over the ready endpoints: every one must carry the hint, and at least one must name this node
 * (its zone). One endpoint without hints switches the mode off, as its slice may be older than the choice.
 */
export function topologyMode(candidates: readonly Candidate[], node: NodeIdentity): TopologyMode {
  let allHintNodes = true;
  let allHintZones = true;
  let thisNode = false;
  let thisZone = false;
  for (const { endpoint, nodeHints, zoneHints } of candidates) {
    if (!endpoint.ready) continue;
    if (!nodeHints?.length) allHintNodes = false;
    else if (nodeHints.includes(node.name)) thisNode = true;
    if (!zoneHints?.length) allHintZones = false;
    else if (node.zone !== undefined && zoneHints.includes(node.zone)) thisZone = true;
  }
  if (allHintNodes && thisNode) return 'same-node';
  if (allHintZones && thisZone) return 'same-zone';
  return 'none';
}

export function fitsTopology(candidate: Candidate, mode: TopologyMode, node: NodeIdentity): boolean {
  switch (mode) {
    case 'none':
      return true;
    case 'same-node':
      return candidate.nodeHints?.includes(node.name) ?? false;
    case 'same-zone':
      return node.zone !== undefined && (candidate.zoneHints?.includes(node.zone) ?? false);
  }
}
