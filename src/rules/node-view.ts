// What the rules know of this node, from the Snapshot, the configuration and the machine's addresses. Pure.

import { isLoopback, type Ip } from '../lib/ip.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { RulesMode } from './backend.ts';
import type { RulesConfig } from './config.ts';
import { answersOnLoopback } from './iptables/layout.ts';
import type { NodeView } from './packet.ts';
import { nodePortAddresses } from './userspace/plan.ts';

/** `own`: the machine's addresses; none when a folder is judged somewhere else, and the Node's count alone. */
export function nodeViewOf(snapshot: Snapshot, config: RulesConfig, own: readonly Ip[], mode: RulesMode): NodeView {
  const { node } = snapshot;
  const local = new Set([...node.ips, ...own]);
  const isLocal = (ip: Ip): boolean => isLoopback(ip) || local.has(ip);
  // Relays answer on loopback too, iptables on that of IPv4 when told to; nftables never does.
  const onLoopback = (ip: Ip): boolean =>
    mode === 'userspace' || (mode === 'iptables' && !ip.includes(':') && answersOnLoopback(config));
  return {
    isLocal,
    isNodePortAddress: (ip) =>
      isLocal(ip) &&
      (isLoopback(ip) ? onLoopback(ip) : true) &&
      nodePortAddresses(config.nodePortAddresses, node.ips, [ip]).includes(ip),
    nodeIps: node.ips,
    mode,
    detectLocal: config.detectLocal,
    masqueradeAll: config.masqueradeAll,
    unallocated: mode === 'nftables' ? snapshot.serviceCIDRs : [],
  };
}
