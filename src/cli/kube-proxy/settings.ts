// A configuration → what the planes, the source and the endpoints are given. Pure.

import { parseCidr, type Cidr } from '../../lib/cidr.ts';
import { ipFamily, isUnspecified, parseIp } from '../../lib/ip.ts';
import type { NodeIdentity } from '../../model/snapshot.ts';
import { defaultRulesConfig, type DetectLocal, type IpvsConfig, type RulesSettings } from '../../rules/config.ts';
import type { RulesModeChoice } from '../../rules/mode.ts';
import { UsageError } from '../errors.ts';
import { parseListen, type ListenAddress } from '../listen-address.ts';
import { parseRulesMode } from '../rules-mode.ts';
import type { KubeProxyConfiguration } from './schema.ts';

/** Where a configuration comes from. In a file, `mode: ""` is kube-proxy's iptables mode, whose section and NodePort addresses count then. */
export type Origin = 'file' | 'flags';

export function modeOf({ mode }: KubeProxyConfiguration, origin: Origin): RulesModeChoice {
  if (mode === '' && origin === 'file') return 'kube-proxy-default';
  const parsed = parseRulesMode(mode === '' ? 'auto' : mode);
  if (parsed !== undefined) return parsed;
  throw new UsageError(`mode is nftables, iptables, ipvs or userspace, not "${mode}"`);
}

/** The section whose `masqueradeAll`, `masqueradeBit` and sync periods count. */
export function activeSection(
  configuration: KubeProxyConfiguration,
): Omit<KubeProxyConfiguration['iptables'], 'localhostNodePorts'> {
  const { mode, iptables, ipvs, nftables } = configuration;
  // What is masqueraded, and by which mark, stands in the section of iptables for both, as kube-proxy has it.
  if (mode === 'ipvs') return { ...iptables, syncPeriod: ipvs.syncPeriod, minSyncPeriod: ipvs.minSyncPeriod };
  return mode === '' || mode === 'iptables' ? iptables : nftables;
}

export function rulesConfigOf(
  configuration: KubeProxyConfiguration,
  origin: Origin,
  node: NodeIdentity,
): RulesSettings {
  const section = activeSection(configuration);
  return {
    ...defaultRulesConfig,
    detectLocal: detectLocalOf(configuration, node),
    masqueradeAll: section.masqueradeAll,
    masqueradeMark: 2 ** section.masqueradeBit,
    nodePortAddresses: nodePortAddressesOf(configuration, origin),
    localhostNodePorts: configuration.iptables.localhostNodePorts,
    minSyncPeriodMs: section.minSyncPeriod,
    ipvs: ipvsConfigOf(configuration),
  };
}

export function ipvsConfigOf({ ipvs }: KubeProxyConfiguration): IpvsConfig {
  return {
    scheduler: ipvs.scheduler.trim(),
    excludeCIDRs: (ipvs.excludeCIDRs ?? []).flatMap((range) => parseCidr(range) ?? []),
    strictARP: ipvs.strictARP,
    tcpTimeoutMs: ipvs.tcpTimeout,
    tcpFinTimeoutMs: ipvs.tcpFinTimeout,
    udpTimeoutMs: ipvs.udpTimeout,
  };
}

/** NodeCIDR follows the Node; while it names no range, no source is known as a Pod. */
export function detectLocalOf(configuration: KubeProxyConfiguration, node: NodeIdentity): DetectLocal {
  const { detectLocalMode, detectLocal, clusterCIDR } = configuration;
  switch (detectLocalMode) {
    case 'NodeCIDR':
      return ofCidrs(node.podCIDRs);
    case 'BridgeInterface':
      return { kind: 'bridge', interface: detectLocal.bridgeInterface };
    case 'InterfaceNamePrefix':
      return { kind: 'interface-prefix', prefix: detectLocal.interfaceNamePrefix };
    default:
      return ofCidrs(clusterCIDR.split(',').flatMap((part) => parseCidr(part.trim()) ?? []));
  }
}

function ofCidrs(cidrs: readonly Cidr[]): DetectLocal {
  return cidrs.length === 0 ? { kind: 'none' } : { kind: 'cidrs', cidrs };
}

function nodePortAddressesOf(
  { nodePortAddresses, mode }: KubeProxyConfiguration,
  origin: Origin,
): RulesSettings['nodePortAddresses'] {
  const words = nodePortAddresses ?? [];
  if (words.length === 0) {
    return mode === '' && origin === 'file' ? { kind: 'all' } : 'by-mode';
  }
  if (words.includes('primary')) return { kind: 'primary' };
  if (words.includes('all')) return { kind: 'all' };
  return { kind: 'cidrs', cidrs: words.flatMap((word) => parseCidr(word) ?? []) };
}

/** A `bindAddress` of the node's own is its address of that family, and that family the primary one. */
export function withBindAddress(node: NodeIdentity, { bindAddress }: KubeProxyConfiguration): NodeIdentity {
  const bound = parseIp(bindAddress);
  if (!bound || isUnspecified(bound)) return node;
  return { ...node, ips: [bound, ...node.ips.filter((ip) => ipFamily(ip) !== ipFamily(bound))] };
}

/** `hostnameOverride`, else the host's name; trimmed and in lower case. */
export function nodeNameOf({ hostnameOverride }: KubeProxyConfiguration, hostname: string): string {
  const name = (hostnameOverride === '' ? hostname : hostnameOverride).trim().toLowerCase();
  if (name === '') throw new UsageError('hostnameOverride is empty; give the name of the Node that this machine is');
  return name;
}

/** Undefined where the endpoint is turned off. */
export function listenOf(text: string, defaultPort: number): ListenAddress | undefined {
  return text === '' ? undefined : parseListen(text, defaultPort);
}
