// The chains that are there whatever the cluster holds, their rules, and the jumps that lead into them.

import { cidrFamily, type Cidr, cidrContains, parseCidr } from '../../lib/cidr.ts';
import { parseIp, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import { podRange, type RulesConfig } from '../config.ts';
import { CANARY, KUBELET_FIREWALL, chainId, type ChainId, type ChainName, type Table } from './names.ts';
import { INVALID_DROPPED, counted } from './accounting.ts';
import { rule } from './rule.ts';

/** What the machine has to say about the rules, beside what the user says. */
export interface MachineFacts {
  /**
   * Packets that belong to no connection are dropped, unless conntrack is liberal about them: one that is translated no
   * more would reset its connection (kubernetes#74839).
   */
  readonly dropInvalid: boolean;
  /** The kernel has counters for rules to name (accounting.ts). */
  readonly countsPackets?: boolean;
}

/**
 * Tells our chains from kube-proxy's, which have the same names: kube-proxy writes this chain anew when it starts, so where the
 * comment is missing it has taken over, and `cleanup` has nothing to take away.
 */
export const OWNER = 'written by fairlead';

export interface Jump {
  readonly table: Table;
  readonly from: ChainName;
  readonly to: ChainName;
  /** Its line without `-A FROM `. */
  readonly text: string;
}

/** Chains that hold lines of many Services, those of the first Service by name first. */
export const SHARED_CHAINS: readonly (readonly [Table, ChainName])[] = [
  ['filter', 'KUBE-SERVICES'],
  ['filter', 'KUBE-EXTERNAL-SERVICES'],
  ['filter', 'KUBE-NODEPORTS'],
  ['filter', 'KUBE-PROXY-FIREWALL'],
  ['nat', 'KUBE-SERVICES'],
  ['nat', 'KUBE-NODEPORTS'],
];

/** In the order in which they are put before what is there, so that the last stands on top. */
export function jumps(config: RulesConfig, family: IpFamily): readonly Jump[] {
  const fresh = '-m conntrack --ctstate NEW ';
  const firewall = '-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall"';
  const list: (readonly [Table, ChainName, ChainName, string])[] = [
    [
      'filter',
      'INPUT',
      'KUBE-EXTERNAL-SERVICES',
      `${fresh}${comment('kubernetes externally-visible service portals')}`,
    ],
    [
      'filter',
      'FORWARD',
      'KUBE-EXTERNAL-SERVICES',
      `${fresh}${comment('kubernetes externally-visible service portals')}`,
    ],
    // kube-proxy has no such jump: what the node itself sends to an external address without endpoints leaves by the
    // default route there, and is refused here.
    [
      'filter',
      'OUTPUT',
      'KUBE-EXTERNAL-SERVICES',
      `${fresh}${comment('kubernetes externally-visible service portals')}`,
    ],
    ['filter', 'INPUT', 'KUBE-NODEPORTS', comment('kubernetes health check service ports')],
    ['filter', 'FORWARD', 'KUBE-SERVICES', `${fresh}${comment('kubernetes service portals')}`],
    ['filter', 'OUTPUT', 'KUBE-SERVICES', `${fresh}${comment('kubernetes service portals')}`],
    ['filter', 'FORWARD', 'KUBE-FORWARD', comment('kubernetes forwarding rules')],
    ['filter', 'INPUT', 'KUBE-PROXY-FIREWALL', firewall],
    ['filter', 'OUTPUT', 'KUBE-PROXY-FIREWALL', firewall],
    ['filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', firewall],
    ['nat', 'OUTPUT', 'KUBE-SERVICES', comment('kubernetes service portals')],
    ['nat', 'PREROUTING', 'KUBE-SERVICES', comment('kubernetes service portals')],
    ['nat', 'POSTROUTING', 'KUBE-POSTROUTING', comment('kubernetes postrouting rules')],
  ];
  if (guardsLoopback(config, family)) {
    list.push(['filter', 'INPUT', KUBELET_FIREWALL, ''], ['filter', 'OUTPUT', KUBELET_FIREWALL, '']);
  }
  return list.map(([table, from, to, match]) => ({ table, from, to, text: `${match} -j ${to}`.trim() }));
}

function comment(text: string): string {
  return `-m comment --comment "${text}"`;
}

/** Chains of which every rule is fixed. */
export function fixedChains(config: RulesConfig, family: IpFamily, facts: MachineFacts): ReadonlyMap<ChainId, string> {
  const mark = hex(config.masqueradeMark);
  const chains = new Map<ChainId, string>();
  const put = (table: Table, name: ChainName, ...lines: readonly string[]): void => {
    chains.set(chainId(family, table, name), lines.join(''));
  };
  put('mangle', CANARY);
  put('filter', CANARY);
  put('nat', CANARY);
  const invalid = rule('KUBE-FORWARD', {
    matches: `-m conntrack --ctstate INVALID${facts.countsPackets === true ? ` ${counted(INVALID_DROPPED)}` : ''}`,
    target: 'DROP',
  });
  put(
    'filter',
    'KUBE-FORWARD',
    facts.dropInvalid ? invalid : '',
    rule('KUBE-FORWARD', {
      comment: 'kubernetes forwarding rules',
      matches: `-m mark --mark ${mark}/${mark}`,
      target: 'ACCEPT',
    }),
    rule('KUBE-FORWARD', {
      comment: 'kubernetes forwarding conntrack rule',
      matches: '-m conntrack --ctstate RELATED,ESTABLISHED',
      target: 'ACCEPT',
    }),
  );
  put('nat', 'KUBE-MARK-MASQ', rule('KUBE-MARK-MASQ', { comment: OWNER, target: `MARK --set-xmark ${mark}/${mark}` }));
  put(
    'nat',
    'KUBE-POSTROUTING',
    rule('KUBE-POSTROUTING', { matches: `-m mark ! --mark ${mark}/${mark}`, target: 'RETURN' }),
    // The mark is taken off, so that a tunnel's packet around this one is not masqueraded as well (kubernetes#92035).
    rule('KUBE-POSTROUTING', { target: `MARK --set-xmark ${mark}/0x0` }),
    rule('KUBE-POSTROUTING', {
      comment: 'kubernetes service traffic requiring SNAT',
      target: 'MASQUERADE --random-fully',
    }),
  );
  return chains;
}

/** The rule of ours in the chain that kubelet may have, too; undefined where there is none. */
export function loopbackGuard(config: RulesConfig, family: IpFamily): string | undefined {
  if (!guardsLoopback(config, family)) return undefined;
  // With route_localnet others could reach what listens on loopback only (CVE-2020-8558).
  return rule(KUBELET_FIREWALL, {
    source: '! -s 127.0.0.0/8',
    destination: LOOPBACK_4,
    comment: 'block incoming localnet connections',
    matches: '-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT',
    target: 'DROP',
  });
}

function guardsLoopback(config: RulesConfig, family: IpFamily): boolean {
  return family === 4 && answersOnLoopback(config);
}

/** Whether NodePorts answer on 127.0.0.1: IPv4 only, as the kernel has no such switch for ::1. */
export function answersOnLoopback(config: RulesConfig): boolean {
  if (!config.localhostNodePorts || config.nodePortAddresses.kind === 'primary') return false;
  const ranges = nodePortRanges(config, 4);
  return ranges === 'all' || ranges.some(overlapsLoopback);
}

/** The ranges that are named for the family; none, or all of it among them, means every local address. */
function nodePortRanges({ nodePortAddresses }: RulesConfig, family: IpFamily): readonly Cidr[] | 'all' {
  if (nodePortAddresses.kind !== 'cidrs') return 'all';
  const ranges = nodePortAddresses.cidrs.filter((range) => cidrFamily(range) === family);
  return ranges.length === 0 || ranges.some((range) => range.endsWith('/0')) ? 'all' : ranges;
}

function overlapsLoopback(range: Cidr): boolean {
  return startsInLoopback(range) || cidrContains(range, LOOPBACK);
}

function startsInLoopback(range: Cidr): boolean {
  const network = parseIp(range.slice(0, range.indexOf('/')));
  return network !== undefined && isLoopback(network);
}

const LOOPBACK = mustParse(parseIp('127.0.0.1'));
export const LOOPBACK_4 = mustParse(parseCidr('127.0.0.0/8'));
const LOOPBACK_6 = mustParse(parseCidr('::1/128'));

function mustParse<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a constant cannot be parsed');
  return value;
}

/** The last lines of KUBE-SERVICES: what goes to an address of the node on which NodePorts answer. */
export function nodePortLines(config: RulesConfig, family: IpFamily, nodeIps: readonly Ip[]): string {
  const base = {
    comment: 'kubernetes service nodeports; NOTE: this must be the last rule in this chain',
    target: 'KUBE-NODEPORTS',
  };
  const local = { ...base, matches: '-m addrtype --dst-type LOCAL' };
  if (config.nodePortAddresses.kind === 'primary') {
    const own = nodeIps.filter((ip) => !isLoopback(ip) && ip.includes(':') === (family === 6));
    return own.map((destination) => rule('KUBE-SERVICES', { ...base, destination })).join('');
  }
  const ranges = nodePortRanges(config, family);
  const onLoopback = family === 4 && answersOnLoopback(config);
  if (ranges === 'all') {
    const notDestination = onLoopback ? undefined : family === 4 ? LOOPBACK_4 : LOOPBACK_6;
    return rule('KUBE-SERVICES', { ...local, notDestination });
  }
  // A range stands for every local address inside, also for one that comes later.
  const answering = onLoopback ? ranges : ranges.filter((range) => !startsInLoopback(range));
  return answering.map((destination) => rule('KUBE-SERVICES', { ...local, destination })).join('');
}

export interface PodMatch {
  readonly pod: { readonly source?: string; readonly input?: string };
  readonly notPod: { readonly source?: string; readonly input?: string };
}

/** How a packet of a Pod is told; undefined where it cannot be. */
export function podMatch({ detectLocal }: RulesConfig, family: IpFamily): PodMatch | undefined {
  switch (detectLocal.kind) {
    case 'none':
      return undefined;
    case 'cidrs': {
      const range = podRange(detectLocal, family);
      return range === undefined ? undefined : { pod: { source: `-s ${range}` }, notPod: { source: `! -s ${range}` } };
    }
    case 'bridge':
      return podInput(detectLocal.interface);
    case 'interface-prefix':
      return podInput(`${detectLocal.prefix}+`);
  }
}

function podInput(name: string): PodMatch {
  return { pod: { input: `-i ${name}` }, notPod: { input: `! -i ${name}` } };
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}
