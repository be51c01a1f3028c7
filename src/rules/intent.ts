// What the rules of one node are to do, before any backend says how: the addresses of each ServicePort, and what happens to
// traffic there by traffic policy.

import type { Ip } from '../lib/ip.ts';
import type { Port } from '../lib/port.ts';
import type { Protocol } from '../model/records.ts';
import type { Endpoint, EndpointSet, ResolvedPort, ResolvedService } from '../model/snapshot.ts';

export type FrontendKind = 'clusterIP' | 'externalIP' | 'loadBalancerIP' | 'nodePort';

/** One place where a ServicePort can be reached. */
export interface Frontend {
  readonly kind: FrontendKind;
  /** Undefined for a NodePort: every NodePort address of the node. */
  readonly address: Ip | undefined;
  readonly protocol: Protocol;
  readonly port: Port;
  readonly servicePort: ResolvedPort;
}

/** What happens to traffic, endpoints in their fixed order. A `forward` has at least one endpoint. */
export type Action =
  | { readonly kind: 'forward'; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' };

const REJECT: Action = { kind: 'reject' };
const DROP: Action = { kind: 'drop' };

/** The ports of the Service that get rules: none for a Service that somebody else carries or that has no address. */
export function carriedPorts(service: ResolvedService | undefined): readonly ResolvedPort[] {
  return service?.carried.kind === 'carried' ? service.ports : [];
}

/** Every frontend of the port: ClusterIP, external IPs, load balancer VIPs (`ipMode: Proxy` gets none), NodePort. */
export function frontendsOf(port: ResolvedPort): readonly Frontend[] {
  const base = { protocol: port.protocol, port: port.port, servicePort: port };
  const frontends: Frontend[] = [];
  if (port.clusterIP !== undefined) frontends.push({ ...base, kind: 'clusterIP', address: port.clusterIP });
  for (const address of port.externalIPs) frontends.push({ ...base, kind: 'externalIP', address });
  for (const { ip, vip } of port.loadBalancerIPs) {
    if (vip) frontends.push({ ...base, kind: 'loadBalancerIP', address: ip });
  }
  if (port.nodePort !== undefined) {
    frontends.push({ ...base, kind: 'nodePort', address: undefined, port: port.nodePort });
  }
  return frontends;
}

/** Traffic to the ClusterIP: by internalTrafficPolicy (KEP-2086). */
export function internalAction(port: ResolvedPort): Action {
  return actionOf(port, port.internalTrafficPolicy === 'Local' ? port.local : port.cluster);
}

/** Traffic from outside the cluster to an external address: by externalTrafficPolicy. */
export function externalAction(port: ResolvedPort): Action {
  return actionOf(port, port.externalTrafficPolicy === 'Local' ? port.local : port.cluster);
}

/** Traffic from a local pod or the node itself to an external address: never cut to the local endpoints. */
export function shortCircuitAction(port: ResolvedPort): Action {
  return actionOf(port, port.cluster);
}

/** No endpoint anywhere is refused; some, but none that the policy allows, is dropped. */
function actionOf(port: ResolvedPort, set: EndpointSet): Action {
  if (!port.hasEndpoints) return REJECT;
  if (set.kind === 'unused' || set.endpoints.length === 0) return DROP;
  return { kind: 'forward', endpoints: set.endpoints };
}
