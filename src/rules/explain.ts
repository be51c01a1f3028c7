// What the rules make of one ServicePort, in sentences for people: its addresses, and what happens to traffic there. Pure.

import { hostPort } from '../lib/ip.ts';
import type { TrafficPolicy } from '../model/records.ts';
import type { EndpointSet, ResolvedPort } from '../model/snapshot.ts';
import {
  externalAction,
  frontendsOf,
  internalAction,
  shortCircuitAction,
  type Action,
  type Frontend,
  type FrontendKind,
} from './intent.ts';

export interface AddressExplanation {
  readonly kind: FrontendKind | 'loadBalancerIP without rules';
  /** `ip:port`, or `NODE:port` for a NodePort. */
  readonly address: string;
  /** What is special about it. */
  readonly note: string | undefined;
}

export interface TrafficExplanation {
  readonly traffic: 'internal' | 'external' | 'external from Pods and this node';
  readonly policy: TrafficPolicy;
  readonly action: Action['kind'];
  readonly why: string;
}

export function explainAddresses(port: ResolvedPort): readonly AddressExplanation[] {
  const carried = frontendsOf(port).map((frontend) => ({
    kind: frontend.kind,
    address: hostPort(frontend.address ?? 'NODE', frontend.port),
    note: noteOf(frontend),
  }));
  const proxied = port.loadBalancerIPs
    .filter(({ vip }) => !vip)
    .map(({ ip }) => ({
      kind: 'loadBalancerIP without rules' as const,
      address: hostPort(ip, port.port),
      note: 'traffic to it leaves the node and comes back by the load balancer (ipMode Proxy)',
    }));
  return [...carried, ...proxied];
}

function noteOf({ kind, servicePort }: Frontend): string | undefined {
  const { sourceRanges } = servicePort;
  if (kind === 'loadBalancerIP' && sourceRanges) {
    return `only from ${sourceRanges.join(', ')} (loadBalancerSourceRanges); others are dropped`;
  }
  if (kind === 'nodePort') {
    const bypass = sourceRanges ? '; loadBalancerSourceRanges do not hold here' : '';
    return `on the node's NodePort addresses${bypass}`;
  }
  return undefined;
}

/** What happens to traffic by where it comes from; external rows only when there is an external address. */
export function explainTraffic(port: ResolvedPort): readonly TrafficExplanation[] {
  const { internalTrafficPolicy, externalTrafficPolicy } = port;
  const rows: TrafficExplanation[] = [];
  const add = (traffic: TrafficExplanation['traffic'], policy: TrafficPolicy, action: Action): void => {
    const set = policy === 'Local' && traffic !== 'external from Pods and this node' ? port.local : port.cluster;
    rows.push({ traffic, policy, action: action.kind, why: explainAction(action, port, set) });
  };
  if (port.clusterIP !== undefined) add('internal', internalTrafficPolicy, internalAction(port));
  if (!port.externallyReachable) return rows;
  add('external', externalTrafficPolicy, externalAction(port));
  if (externalTrafficPolicy === 'Local') {
    add('external from Pods and this node', externalTrafficPolicy, shortCircuitAction(port));
  }
  return rows;
}

/** The ground for what happens: `set` is the one that the policy looks in. */
export function explainAction(action: Action, port: ResolvedPort, set: EndpointSet): string {
  switch (action.kind) {
    case 'forward': {
      const count = `${action.endpoints.length} endpoint${action.endpoints.length === 1 ? '' : 's'}`;
      const fallback =
        set.kind === 'used' && set.terminatingFallback
          ? '; none is ready, so terminating ones that still serve stand in'
          : '';
      return `forwarded to ${action.endpoints.length > 1 ? `one of ${count}` : count}${fallback}`;
    }
    case 'reject':
      return port.endpoints.length === 0
        ? 'REJECT: it has no endpoints at all (does its selector match a Pod, does its targetPort name a port of it?)'
        : 'REJECT: no endpoint is ready, anywhere';
    case 'drop':
      return set === port.local
        ? 'DROP: there are endpoints, but policy Local finds none on this node'
        : 'DROP: there are endpoints, but none that may be used from here';
  }
}
