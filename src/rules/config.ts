// What the user may say about the rules, as values. Fields are named after KubeProxyConfiguration where it has them.

import { cidrFamily, type Cidr } from '../lib/cidr.ts';
import type { IpFamily } from '../lib/ip.ts';
import type { RulesMode } from './backend.ts';

/**
 * The addresses of this node on which NodePorts answer. Loopback addresses do in iptables mode only, with `localhostNodePorts`.
 * `primary`: the node's own addresses, one of each family. `cidrs`: every local address inside a range; a family of
 * which no range is given answers on all of its local addresses, as with kube-proxy.
 */
export type NodePortAddresses =
  | { readonly kind: 'primary' }
  | { readonly kind: 'all' }
  | { readonly kind: 'cidrs'; readonly cidrs: readonly Cidr[] };

/**
 * How a packet of a local Pod is told (`detectLocalMode`): by its source address, of which the first range of each family counts
 * (`ClusterCIDR`, and `NodeCIDR` with the Node's podCIDRs), or by the interface that it came in on (`BridgeInterface`,
 * `InterfaceNamePrefix`). `none`: no source is known as a Pod, nor as none.
 */
export type DetectLocal =
  | { readonly kind: 'none' }
  | { readonly kind: 'cidrs'; readonly cidrs: readonly Cidr[] }
  | { readonly kind: 'bridge'; readonly interface: string }
  | { readonly kind: 'interface-prefix'; readonly prefix: string };

/** What only the IPVS mode asks for. */
export interface IpvsConfig {
  /** The scheduler of every virtual server; empty is rr. */
  readonly scheduler: string;
  /** Virtual servers and addresses of the dummy link inside these ranges are somebody else's: they are never removed. */
  readonly excludeCIDRs: readonly Cidr[];
  /** The node answers ARP for an address on the link that has it only, not for those of the dummy link. */
  readonly strictARP: boolean;
  /** How long IPVS keeps a connection; 0 leaves the kernel's value. */
  readonly tcpTimeoutMs: number;
  readonly tcpFinTimeoutMs: number;
  readonly udpTimeoutMs: number;
}

/** What holds of userspace mode alone. */
export interface UserspaceConfig {
  /** Services (`namespace/name`) whose endpoints are told the client's address and port by PROXY protocol version 2. TCP only. */
  readonly proxyProtocolTo: readonly string[];
  /** TCP connections at a time; further ones are reset. `by-descriptors`: as many as the open files of the process allow. */
  readonly maxConnections: number | 'by-descriptors';
  /** UDP flows at a time; for each further one the longest silent ends. `by-descriptors`: 4096, or fewer where few files may be open. */
  readonly maxUdpFlows: number | 'by-descriptors';
  /** Bytes that were read on one side and not yet written on the other, of all TCP connections; with more, new ones are reset. */
  readonly maxBufferedBytes: number;
  /** As root: lead Service addresses that are not this machine's to the relays, by rules in the kernel. Asked for at the start only. */
  readonly catchAddresses: boolean;
}

export interface RulesConfig {
  /** Traffic to a ClusterIP from others than Pods is masqueraded, and Pods count as inside for `externalTrafficPolicy: Local`. */
  readonly detectLocal: DetectLocal;
  /** Masquerade everything that goes to a ClusterIP (`masqueradeAll`). */
  readonly masqueradeAll: boolean;
  /** The one bit of the packet mark that says "masquerade me" (`masqueradeBit` 14 is 0x4000). */
  readonly masqueradeMark: number;
  readonly nodePortAddresses: NodePortAddresses;
  /** In iptables mode: NodePorts answer on 127.0.0.1 as well, where `nodePortAddresses` holds loopback (`iptables.localhostNodePorts`). */
  readonly localhostNodePorts: boolean;
  /** End TCP connections to endpoints that no EndpointSlice names any more, instead of leaving them to run dry. */
  readonly resetTcpToDeletedEndpoints: boolean;
  /** The shortest time from the start of one sync to the next, in milliseconds, so that a burst of changes shares a few. */
  readonly minSyncPeriodMs: number;
  readonly ipvs: IpvsConfig;
  readonly userspace: UserspaceConfig;
}

export const defaultRulesConfig: RulesConfig = {
  detectLocal: { kind: 'none' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'primary' },
  localhostNodePorts: true,
  resetTcpToDeletedEndpoints: false,
  minSyncPeriodMs: 10,
  ipvs: { scheduler: '', excludeCIDRs: [], strictARP: false, tcpTimeoutMs: 0, tcpFinTimeoutMs: 0, udpTimeoutMs: 0 },
  userspace: {
    proxyProtocolTo: [],
    maxConnections: 'by-descriptors',
    maxUdpFlows: 'by-descriptors',
    maxBufferedBytes: 256 * 1024 * 1024,
    catchAddresses: false,
  },
};

/** The range of local Pods in the family; undefined without one, and where Pods are told by interface. */
export function podRange(detectLocal: DetectLocal, family: IpFamily): Cidr | undefined {
  return detectLocal.kind === 'cidrs' ? detectLocal.cidrs.find((range) => cidrFamily(range) === family) : undefined;
}

/** A configuration that leaves to the mode what the user did not say. */
export type RulesSettings = Omit<RulesConfig, 'nodePortAddresses'> & {
  /** `by-mode`: every local address in iptables and ipvs mode, the node's own in the others, as kube-proxy has it. */
  readonly nodePortAddresses: NodePortAddresses | 'by-mode';
};

export function configFor(mode: RulesMode, settings: RulesSettings): RulesConfig {
  const { nodePortAddresses } = settings;
  if (nodePortAddresses !== 'by-mode') return { ...settings, nodePortAddresses };
  return { ...settings, nodePortAddresses: { kind: mode === 'iptables' || mode === 'ipvs' ? 'all' : 'primary' } };
}
