// The chains and jumps of the IPVS mode. None of them speaks of a single Service: what belongs to Services is in the sets that they ask.

import type { IpFamily } from '../../lib/ip.ts';
import type { RulesConfig } from '../config.ts';
import { fixedChains as iptablesChains, podMatch, type Jump } from '../iptables/layout.ts';
import { chainId, isOfIpvs, isOurs, type ChainId, type ChainName, type Table } from '../iptables/names.ts';
import { setName, type SetBase } from './names.ts';

/** In the order in which they are put before what is there, so that the last stands on top. */
export function jumps(): readonly Jump[] {
  const list: readonly (readonly [Table, ChainName, ChainName, string])[] = [
    ['filter', 'INPUT', 'KUBE-IPVS-FILTER', comment('kubernetes ipvs access filter')],
    ['filter', 'INPUT', 'KUBE-PROXY-FIREWALL', `${NEW} ${comment('kubernetes load balancer firewall')}`],
    ['filter', 'INPUT', 'KUBE-NODE-PORT', comment('kubernetes health check rules')],
    ['filter', 'FORWARD', 'KUBE-FORWARD', comment('kubernetes forwarding rules')],
    // IPVS takes the node's own packets before the table filter sees them.
    ['mangle', 'OUTPUT', 'KUBE-IPVS-OUT-FILTER', `${NEW} ${comment('kubernetes ipvs access filter')}`],
    ['nat', 'OUTPUT', 'KUBE-SERVICES', comment('kubernetes service portals')],
    ['nat', 'PREROUTING', 'KUBE-SERVICES', comment('kubernetes service portals')],
    ['nat', 'POSTROUTING', 'KUBE-POSTROUTING', comment('kubernetes postrouting rules')],
  ];
  return list.map(([table, from, to, match]) => ({ table, from, to, text: `${match} -j ${to}` }));
}

const NEW = '-m conntrack --ctstate NEW';
const FROM_NODE = '-m addrtype --src-type LOCAL';
const TO_NODE = '-m addrtype --dst-type LOCAL';

function comment(text: string): string {
  return `-m comment --comment "${text}"`;
}

/** A chain that this mode, or the iptables mode, may have left. */
export function isChainOfModes(name: ChainName): boolean {
  return isOurs(name) || isOfIpvs(name);
}

/** Every chain with its lines. */
export function fixedChains(config: RulesConfig, family: IpFamily): ReadonlyMap<ChainId, string> {
  const chains = new Map<ChainId, string>();
  const put = (table: Table, name: ChainName, lines: readonly string[]): void => {
    chains.set(chainId(family, table, name), lines.map((line) => `-A ${name} ${line}\n`).join(''));
  };
  // IPVS translates by itself: packets without a connection are nobody's to drop.
  for (const [id, lines] of iptablesChains(config, family, { dropInvalid: false })) chains.set(id, lines);
  const postrouting = chainId(family, 'nat', 'KUBE-POSTROUTING');
  const hairpin = `${comment('Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose')} ${matchSet(family, 'LOOP-BACK', 'dst,dst,src')} -j MASQUERADE`;
  chains.set(postrouting, `-A KUBE-POSTROUTING ${hairpin}\n${chains.get(postrouting) ?? ''}`);
  put('nat', 'KUBE-SERVICES', services(config, family));
  put('nat', 'KUBE-LOAD-BALANCER', loadBalancer(family));
  put('nat', 'KUBE-NODE-PORT', nodePort(family));
  put('filter', 'KUBE-NODE-PORT', [
    `${comment('Kubernetes health check node port')} ${matchSet(family, 'HEALTH-CHECK-NODE-PORT', 'dst')} -j ACCEPT`,
  ]);
  put('filter', 'KUBE-IPVS-FILTER', accessFilter(family));
  for (const [table, name] of [
    ['filter', 'KUBE-PROXY-FIREWALL'],
    ['mangle', 'KUBE-IPVS-OUT-FILTER'],
  ] as const) {
    put(table, name, drops(config, family, table === 'mangle'));
    put(table, 'KUBE-SOURCE-RANGES-FIREWALL', [
      `${matchSet(family, 'LOAD-BALANCER-SOURCE-CIDR', 'dst,dst,src')} -j RETURN`,
      `${matchSet(family, 'LOAD-BALANCER-SOURCE-IP', 'dst,dst,src')} -j RETURN`,
      '-j DROP',
    ]);
  }
  return chains;
}

/** What is masqueraded; and that nobody else translates what goes to a Service. */
function services(config: RulesConfig, family: IpFamily): readonly string[] {
  const mark = '-j KUBE-MARK-MASQ';
  const others = podMatch(config, family)?.notPod;
  const clusterIP = comment('Kubernetes service cluster ip + port for masquerade purpose');
  // Without knowledge of Pods, only the node itself, which dials an address of the dummy link from that address.
  const masqueraded = config.masqueradeAll
    ? `${clusterIP} ${matchSet(family, 'CLUSTER-IP', 'dst,dst')} ${mark}`
    : others
      ? `${others.source ?? others.input ?? ''} ${clusterIP} ${matchSet(family, 'CLUSTER-IP', 'dst,dst')} ${mark}`
      : `${clusterIP} ${matchSet(family, 'CLUSTER-IP', 'src,dst')} ${mark}`;
  const accepted = ['CLUSTER-IP', 'EXTERNAL-IP', 'EXTERNAL-IP-LOCAL', 'LOAD-BALANCER'] as const;
  return [
    `-s ${family === 4 ? '127.0.0.0/8' : '::1/128'} -j RETURN`,
    `${comment('Kubernetes service lb portal')} ${matchSet(family, 'LOAD-BALANCER', 'dst,dst')} -j KUBE-LOAD-BALANCER`,
    masqueraded,
    `${comment('Kubernetes service external ip + port for masquerade and filter purpose')} ${matchSet(family, 'EXTERNAL-IP', 'dst,dst')} ${mark}`,
    `${matchSet(family, 'EXTERNAL-IP-LOCAL', 'dst,dst')} ${FROM_NODE} ${mark}`,
    ...accepted.map((base) => `${matchSet(family, base, 'dst,dst')} -j ACCEPT`),
    `${TO_NODE} -j KUBE-NODE-PORT`,
  ];
}

function loadBalancer(family: IpFamily): readonly string[] {
  const local = matchSet(family, 'LOAD-BALANCER-LOCAL', 'dst,dst');
  return [
    `${local} ${FROM_NODE} -j KUBE-MARK-MASQ`,
    `${comment('Kubernetes service load balancer ip + port with externalTrafficPolicy=local')} ${local} -j RETURN`,
    '-j KUBE-MARK-MASQ',
  ];
}

function nodePort(family: IpFamily): readonly string[] {
  const sets = [
    ['tcp', 'NODE-PORT-TCP', 'NODE-PORT-LOCAL-TCP', 'dst'],
    ['udp', 'NODE-PORT-UDP', 'NODE-PORT-LOCAL-UDP', 'dst'],
    ['sctp', 'NODE-PORT-SCTP-HASH', 'NODE-PORT-LOCAL-SCTP-HASH', 'dst,dst'],
  ] as const;
  return sets.flatMap(([protocol, all, local, by]) => [
    `-p ${protocol} ${matchSet(family, local, by)} ${FROM_NODE} -j KUBE-MARK-MASQ`,
    `-p ${protocol} ${matchSet(family, local, by)} -j RETURN`,
    `-p ${protocol} ${matchSet(family, all, by)} -j KUBE-MARK-MASQ`,
  ]);
}

/** Keeps what listens on every address of the node from answering at a Service's (kubernetes#72236). */
function accessFilter(family: IpFamily): readonly string[] {
  const places = ['LOAD-BALANCER', 'CLUSTER-IP', 'EXTERNAL-IP', 'EXTERNAL-IP-LOCAL'] as const;
  const others = `${NEW} ${matchSet(family, 'IPVS-IPS', 'dst')}`;
  return [
    ...places.map((base) => `${matchSet(family, base, 'dst,dst')} -j RETURN`),
    `${matchSet(family, 'HEALTH-CHECK-NODE-PORT', 'dst')} -j RETURN`,
    // An ICMPv6 error may meet a local client's socket while `connect` holds it; a reset counts at once.
    ...(family === 6 ? [`-p tcp ${others} -j REJECT --reject-with tcp-reset`] : []),
    `${others} -j REJECT --reject-with ${family === 4 ? 'icmp-port-unreachable' : 'icmp6-port-unreachable'}`,
  ];
}

/** The same at both doors: what comes in, and what the node itself sends. */
function drops(config: RulesConfig, family: IpFamily, fromNode: boolean): readonly string[] {
  const lines = [
    `${comment('Kubernetes service load balancer ip + port for load balancer with sourceRange')} ${matchSet(family, 'LOAD-BALANCER-FW', 'dst,dst')} -j KUBE-SOURCE-RANGES-FIREWALL`,
    `${comment('internalTrafficPolicy Local without an endpoint here')} ${matchSet(family, 'NO-LOCAL-INTERNAL', 'dst,dst')} -j DROP`,
  ];
  // The node and its Pods are inside the cluster: they reach the endpoints elsewhere.
  if (fromNode) return lines;
  const others = podMatch(config, family)?.notPod;
  const outside = others ? `${others.source ?? others.input ?? ''} ` : '';
  return [
    ...lines,
    `${outside}${comment('externalTrafficPolicy Local without an endpoint here')} ${matchSet(family, 'NO-LOCAL-EXTERNAL', 'dst,dst')} -j DROP`,
  ];
}

function matchSet(family: IpFamily, base: SetBase, by: string): string {
  return `-m set --match-set ${setName(family, base)} ${by}`;
}
