// Endpoints of one port of one Service, merged from its EndpointSlices.

import { hostPort, type IpFamily } from '../lib/ip.ts';
import type { EndpointSliceRecord, Protocol, SliceEndpoint } from './records.ts';
import type { Endpoint } from './snapshot.ts';

/** An endpoint with the hints of its slice, which only the choice by topology reads. */
export interface Candidate {
  readonly endpoint: Endpoint;
  readonly zoneHints: readonly string[] | undefined;
  readonly nodeHints: readonly string[] | undefined;
}

export interface PortSelector {
  readonly name: string;
  readonly protocol: Protocol;
  readonly family: IpFamily;
}

/**
 * Every endpoint that the slices give for the port, sorted by `ip:port` text. An address and port that stands in several
 * slices counts once; an entry that is not terminating wins over one that is (a slice that lags behind during a roll-out).
 */
export function mergeEndpoints(
  slices: readonly EndpointSliceRecord[],
  selector: PortSelector,
  nodeName: string,
): readonly Candidate[] {
  const merged = new Map<string, Candidate>();
  for (const slice of slices) {
    if (slice.family !== selector.family) continue;
    for (const port of slice.ports) {
      if (port.name !== selector.name || port.protocol !== selector.protocol) continue;
      for (const member of slice.endpoints) {
        const key = hostPort(member.ip, port.port);
        const known = merged.get(key);
        if (known && !(known.endpoint.terminating && !member.terminating)) continue;
        merged.set(key, {
          endpoint: toEndpoint(member, port.port, nodeName),
          zoneHints: member.zoneHints,
          nodeHints: member.nodeHints,
        });
      }
    }
  }
  const sorted = [...merged].sort(([a], [b]) => (a < b ? -1 : 1));
  return sorted.map(([, candidate]) => candidate);
}

function toEndpoint(member: SliceEndpoint, port: Endpoint['port'], nodeName: string): Endpoint {
  return {
    ip: member.ip,
    port,
    local: member.nodeName === nodeName,
    ready: member.ready,
    serving: member.serving,
    terminating: member.terminating,
    nodeName: member.nodeName,
    zone: member.zone,
    podName: member.podName,
  };
}
