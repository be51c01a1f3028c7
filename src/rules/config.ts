// What the user may say about the rules, as values. Fields are named after KubeProxyConfiguration where it has them.

import type { Cidr } from '../lib/cidr.ts';
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

export interface RulesConfig {
  /**
   * The cluster's Pod addresses (`clusterCIDR`): traffic to a ClusterIP from elsewhere is masqueraded, and Pods count as
   * inside for `externalTrafficPolicy: Local`. The first of each family counts; without one, no source is known as a Pod.
   */
  readonly clusterCIDRs: readonly Cidr[];
  /** Masquerade everything that goes to a ClusterIP (`masqueradeAll`). */
  readonly masqueradeAll: boolean;
  /** The one bit of the packet mark that says "masquerade me" (`masqueradeBit` 14 is 0x4000). */
  readonly masqueradeMark: number;
  readonly nodePortAddresses: NodePortAddresses;
  /** In iptables mode: NodePorts answer on 127.0.0.1 as well, where `nodePortAddresses` holds loopback (`iptables.localhostNodePorts`). */
  readonly localhostNodePorts: boolean;
  /** The shortest time from the start of one sync to the next, in milliseconds, so that a burst of changes shares a few. */
  readonly minSyncPeriodMs: number;
}

export const defaultRulesConfig: RulesConfig = {
  clusterCIDRs: [],
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'primary' },
  localhostNodePorts: true,
  minSyncPeriodMs: 10,
};

/** A configuration that leaves to the mode what the user did not say. */
export type RulesSettings = Omit<RulesConfig, 'nodePortAddresses'> & {
  /** `by-mode`: every local address in iptables mode, the node's own in the others, as kube-proxy has it. */
  readonly nodePortAddresses: NodePortAddresses | 'by-mode';
};

export function configFor(mode: RulesMode, settings: RulesSettings): RulesConfig {
  const { nodePortAddresses } = settings;
  if (nodePortAddresses !== 'by-mode') return { ...settings, nodePortAddresses };
  return { ...settings, nodePortAddresses: { kind: mode === 'iptables' ? 'all' : 'primary' } };
}
