// Which endpoints each traffic policy may use, and why each other endpoint is left out.

import type { Candidate } from './endpoint.ts';
import type { TrafficPolicy } from './records.ts';
import type { Endpoint, EndpointSet, LeftOut, LeftOutReason, NodeIdentity, TopologyMode } from './snapshot.ts';
import { fitsTopology, topologyMode } from './topology.ts';

export interface PolicyInput {
  readonly internalTrafficPolicy: TrafficPolicy;
  readonly externalTrafficPolicy: TrafficPolicy;
  /** NodePort, an external IP or a load balancer VIP. */
  readonly externallyReachable: boolean;
}

export interface Categories {
  readonly topology: TopologyMode;
  readonly cluster: EndpointSet;
  readonly local: EndpointSet;
  readonly hasEndpoints: boolean;
}

const UNUSED: EndpointSet = { kind: 'unused' };
const NOTHING_LEFT_OUT: readonly LeftOut[] = [];

/**
 * Splits the endpoints of one ServicePort.
 * - `cluster`: the ready endpoints that fit the topology; when none is ready, those that serve while terminating, wherever
 *   they are (KEP-1669). Used unless all traffic is internal and internalTrafficPolicy is Local.
 * - `local`: the same among this node's endpoints, topology left aside. Used where a policy says Local; an
 *   externalTrafficPolicy of Local counts only when the port can be reached from outside.
 * - `hasEndpoints`: anything usable anywhere. Without it an address is refused; with it, a policy that finds nothing drops.
 * `all` are the endpoints of the candidates, in their order; it is returned as the set when every one is used.
 */
export function categorize(
  candidates: readonly Candidate[],
  all: readonly Endpoint[],
  policy: PolicyInput,
  node: NodeIdentity,
): Categories {
  const usesCluster = policy.internalTrafficPolicy !== 'Local' || policy.externallyReachable;
  const usesLocal =
    policy.internalTrafficPolicy === 'Local' ||
    (policy.externalTrafficPolicy === 'Local' && policy.externallyReachable);
  const topology = topologyMode(candidates, node);
  return {
    topology,
    cluster: usesCluster ? choose(candidates, all, { topology, node, localOnly: false }) : UNUSED,
    local: usesLocal ? choose(candidates, all, { topology: 'none', node, localOnly: true }) : UNUSED,
    hasEndpoints: candidates.some(({ endpoint }) => endpoint.ready || servesWhileTerminating(endpoint)),
  };
}

interface Choice {
  readonly topology: TopologyMode;
  readonly node: NodeIdentity;
  readonly localOnly: boolean;
}

function choose(candidates: readonly Candidate[], all: readonly Endpoint[], choice: Choice): EndpointSet {
  const reachable = (endpoint: Endpoint): boolean => !choice.localOnly || endpoint.local;
  const terminatingFallback =
    !candidates.some(({ endpoint }) => endpoint.ready && reachable(endpoint)) &&
    candidates.some(({ endpoint }) => servesWhileTerminating(endpoint) && reachable(endpoint));
  const endpoints: Endpoint[] = [];
  const leftOut: LeftOut[] = [];
  for (const candidate of candidates) {
    const reason = reasonToLeaveOut(candidate, choice, terminatingFallback);
    if (reason) leftOut.push({ endpoint: candidate.endpoint, reason });
    else endpoints.push(candidate.endpoint);
  }
  return {
    kind: 'used',
    endpoints: leftOut.length === 0 ? all : endpoints,
    leftOut: leftOut.length === 0 ? NOTHING_LEFT_OUT : leftOut,
    terminatingFallback,
  };
}

function reasonToLeaveOut(
  candidate: Candidate,
  choice: Choice,
  terminatingFallback: boolean,
): LeftOutReason | undefined {
  const { endpoint } = candidate;
  if (choice.localOnly && !endpoint.local) return 'not-local';
  if (terminatingFallback) {
    if (servesWhileTerminating(endpoint)) return undefined;
    return endpoint.terminating ? 'not-serving' : 'not-ready';
  }
  if (!endpoint.ready) {
    if (!endpoint.terminating) return 'not-ready';
    return endpoint.serving ? 'terminating-not-needed' : 'not-serving';
  }
  if (fitsTopology(candidate, choice.topology, choice.node)) return undefined;
  return choice.topology === 'same-node' ? 'other-node' : 'other-zone';
}

function servesWhileTerminating(endpoint: Endpoint): boolean {
  return endpoint.serving && endpoint.terminating;
}
