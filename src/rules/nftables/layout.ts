// The constant part of our tables: which sets and maps there are, and the rules that read them. State lives in the elements;
// a chain is made for each *count* of endpoints in use (`pick-3`), never for a Service. `ip` and `ip6` have a table each,
// alike but for the address type.

import { cidrContains, cidrFamily, cidrNth, prefixLength, type Cidr } from '../../lib/cidr.ts';
import { fnv1a32 } from '../../lib/hash.ts';
import type { IpFamily } from '../../lib/ip.ts';
import { podRange, type RulesConfig } from '../config.ts';

export const TABLE = 'fairlead';
/** kube-proxy's table in nftables mode. */
export const KUBE_PROXY_TABLE = 'kube-proxy';

export const FAMILIES: readonly IpFamily[] = [4, 6];

/** nft's word for the family. */
export function nftFamily(family: IpFamily): 'ip' | 'ip6' {
  return family === 4 ? 'ip' : 'ip6';
}

/**
 * Who reaches which endpoints: by address or by NodePort, under policy Cluster or Local. The word is the prefix of the
 * chains and maps of that flavour: `local-pick-3`, `nodeport-endpoints`.
 */
export type Flavour = '' | 'local-' | 'nodeport-' | 'nodeport-local-';

const FLAVOURS: readonly Flavour[] = ['', 'local-', 'nodeport-', 'nodeport-local-'];

/** Endpoint choices of `jhash` in the affinity chains; any constant does, both sides must agree. */
export const ENDPOINT_SEED = 1;
const CLIENT_SEED = 2;
export const HASH_MODULUS = 4294967295;

type Key = 'address' | 'frontend' | 'nodeport';

interface ContainerSpec {
  readonly name: string;
  readonly kind: 'set' | 'map';
  readonly declaration: (ip: 'ip' | 'ip6') => string;
}

function addressType(ip: 'ip' | 'ip6'): string {
  return ip === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
}

function keyType(ip: 'ip' | 'ip6', key: Key): string {
  if (key === 'address') return addressType(ip);
  return key === 'frontend' ? `${addressType(ip)} . inet_proto . inet_service` : 'inet_proto . inet_service';
}

/** The packet's own key of that kind, before DNAT. */
function packetKey(ip: 'ip' | 'ip6', key: 'frontend' | 'nodeport'): string {
  return key === 'frontend' ? `${ip} daddr . meta l4proto . th dport` : 'meta l4proto . th dport';
}

function keyOf(flavour: Flavour): 'frontend' | 'nodeport' {
  return flavour.startsWith('nodeport-') ? 'nodeport' : 'frontend';
}

/**
 * Endpoints by frontend and number. The number has the type of a packet's priority, which is the register that rules put
 * it into: with `numgen` in the key the type could only be said by `typeof`, and nft 1.0.6 refuses further rules on a map
 * so declared.
 */
function endpoints(name: string, flavour: Flavour): ContainerSpec {
  return {
    name: `${flavour}${name}`,
    kind: 'map',
    declaration: (ip) => `type ${keyType(ip, keyOf(flavour))} . classid : ${addressType(ip)} . inet_service`,
  };
}

/**
 * Which chain picks the endpoint, as a number that `chains` has a verdict for. With the verdict itself as the value, a changed
 * element would have the kernel check all the others' verdicts again: 11 ms at 50,000 Services.
 */
function picks(name: string, flavour: Flavour): ContainerSpec {
  return { name, kind: 'map', declaration: (ip) => `type ${keyType(ip, keyOf(flavour))} : classid` };
}

function verdicts(name: string, key: 'frontend' | 'nodeport'): ContainerSpec {
  return { name, kind: 'map', declaration: (ip) => `type ${keyType(ip, key)} : verdict` };
}

/** Maps of `picks` kind, with the flavour of the chains that their numbers mean. */
const PICKS: ReadonlyMap<string, Flavour> = new Map([
  ['services', ''],
  ['picks', ''],
  ['local-picks', 'local-'],
  ['nodeport-picks', 'nodeport-'],
  ['nodeport-local-picks', 'nodeport-local-'],
]);

const STICKY_NUMBERS = 0x1_0000;

/** The number that stands for `pick-COUNT` or `sticky-COUNT` of a flavour. */
export function pickNumber(sticky: boolean, count: number): number {
  return sticky ? STICKY_NUMBERS + count : count;
}

/** Every set and map whose elements are ours to keep. Their names are the first part of an element's id. */
export const CONTAINERS: readonly ContainerSpec[] = [
  { name: 'cluster-ips', kind: 'set', declaration: (ip) => `type ${addressType(ip)}` },
  { name: 'nodeport-ips', kind: 'set', declaration: (ip) => `type ${addressType(ip)}` },
  {
    name: 'hairpin',
    kind: 'set',
    declaration: (ip) => `type ${addressType(ip)} . ${addressType(ip)} . inet_proto . inet_service`,
  },
  ...FLAVOURS.map((flavour) => endpoints('endpoints', flavour)),
  ...FLAVOURS.map((flavour) => endpoints('sticky-endpoints', flavour)),
  ...(['', 'nodeport-'] as const).map((prefix): ContainerSpec => ({
    name: `${prefix}sticky-ids`,
    kind: 'map',
    declaration: (ip) => `type ${keyType(ip, keyOf(prefix))} : classid`,
  })),
  verdicts('remember', 'frontend'),
  verdicts('nodeport-remember', 'nodeport'),
  verdicts('refusals', 'frontend'),
  verdicts('nodeport-refusals', 'nodeport'),
  { name: 'firewall', kind: 'set', declaration: (ip) => `type ${keyType(ip, 'frontend')}` },
  {
    name: 'allowed-sources',
    kind: 'set',
    declaration: (ip) => `type ${keyType(ip, 'frontend')} . ${addressType(ip)}; flags interval`,
  },
  { name: 'service-cidrs', kind: 'set', declaration: (ip) => `type ${addressType(ip)}; flags interval` },
  picks('picks', ''),
  picks('local-picks', 'local-'),
  picks('nodeport-picks', 'nodeport-'),
  picks('nodeport-local-picks', 'nodeport-local-'),
  picks('services', ''),
  verdicts('externals', 'frontend'),
  verdicts('nodeports', 'nodeport'),
];

export interface ChainText {
  readonly name: string;
  /** `type filter hook input priority 0` for a base chain. */
  readonly hook?: string;
  readonly rules: readonly string[];
}

/** The matches for packets that come from a local Pod, and for those that do not; undefined where nobody can tell. */
function podMatch(
  { detectLocal }: RulesConfig,
  family: IpFamily,
): { readonly is: string; readonly not: string } | undefined {
  switch (detectLocal.kind) {
    case 'none':
      return undefined;
    case 'cidrs': {
      const range = podRange(detectLocal, family);
      const source = `${nftFamily(family)} saddr`;
      return range && { is: `${source} ${range}`, not: `${source} != ${range}` };
    }
    // The name, not the number: the interface may come and go. The node's own packets have none, and so are not a Pod's.
    case 'bridge':
      return { is: `iifname "${detectLocal.interface}"`, not: `iifname != "${detectLocal.interface}"` };
    case 'interface-prefix':
      return { is: `iifname "${detectLocal.prefix}*"`, not: `iifname != "${detectLocal.prefix}*"` };
  }
}

/** The match for packets to an address on which NodePorts answer. */
function nodePortMatch(config: RulesConfig, family: IpFamily): string {
  const ip = nftFamily(family);
  const notLoopback = `${ip} daddr != ${family === 4 ? '127.0.0.0/8' : '::1'}`;
  const choice = config.nodePortAddresses;
  switch (choice.kind) {
    case 'primary':
      return `${ip} daddr @nodeport-ips`;
    case 'all':
      return `fib daddr type local ${notLoopback}`;
    case 'cidrs': {
      const ranges = choice.cidrs.filter((cidr) => cidrFamily(cidr) === family);
      const inRange = ranges.length === 0 ? '' : `${ip} daddr { ${withoutNested(ranges).join(', ')} } `;
      return `fib daddr type local ${inRange}${notLoopback}`;
    }
  }
}

function pick(key: string, map: string): string {
  return `meta priority set ${key} map @${map} meta priority vmap @${PICKS.get(map) ?? ''}chains`;
}

/** The chains that are always there, in the order in which they must be declared (a chain before those that jump to it). */
export function fixedChains(config: RulesConfig, family: IpFamily): readonly ChainText[] {
  const ip = nftFamily(family);
  const mark = `0x${config.masqueradeMark.toString(16)}`;
  const setMark = `meta mark set meta mark or ${mark}`;
  const frontend = packetKey(ip, 'frontend');
  const nodeport = packetKey(ip, 'nodeport');
  const nodeportMatch = nodePortMatch(config, family);
  const pods = podMatch(config, family);
  const external = (prefix: '' | 'nodeport-', key: string): readonly ChainText[] => [
    { name: `${prefix}external`, rules: [setMark, pick(key, `${prefix}picks`)] },
    {
      // Policy Local: pods of the cluster and the node itself are never cut to the local endpoints (KEP-1669).
      name: `${prefix}external-local`,
      rules: [
        ...(pods === undefined ? [] : [`${pods.is} ${pick(key, `${prefix}picks`)}`]),
        `fib saddr type local ${setMark}`,
        `fib saddr type local ${pick(key, `${prefix}picks`)}`,
        pick(key, `${prefix}local-picks`),
      ],
    },
  ];
  const fromOutside = pods === undefined ? undefined : `${ip} daddr @cluster-ips ${pods.not} ${setMark}`;
  const masqueradeClusterIp = config.masqueradeAll ? `${ip} daddr @cluster-ips ${setMark}` : fromOutside;
  return [
    // A reset ends a local client's connect at once; an ICMPv6 error finds its socket busy and is heeded a second later.
    { name: 'refuse', rules: ['meta l4proto tcp reject with tcp reset', 'reject'] },
    ...FLAVOURS.map((flavour) => recallChain(ip, flavour)),
    ...external('', frontend),
    ...external('nodeport-', nodeport),
    {
      name: 'find-service',
      rules: [
        ...(masqueradeClusterIp === undefined ? [] : [masqueradeClusterIp]),
        pick(frontend, 'services'),
        `${frontend} vmap @externals`,
        `${nodeportMatch} ${nodeport} vmap @nodeports`,
      ],
    },
    {
      name: 'check-source',
      rules: [`${frontend} @firewall ${frontend} . ${ip} saddr != @allowed-sources drop`],
    },
    { name: 'check-refusal', rules: [`${frontend} vmap @refusals`] },
    { name: 'check-other-port', rules: [`${ip} daddr @cluster-ips goto refuse`] },
    // An address of the node's own is its own, even inside a Service range.
    { name: 'drop-unallocated', rules: ['fib daddr type local return', 'drop'] },
    { name: 'check-unallocated', rules: [`${ip} daddr @service-cidrs goto drop-unallocated`] },
    { name: 'check-nodeport-refusal', rules: [`${nodeportMatch} ${nodeport} vmap @nodeport-refusals`] },
    { name: 'remember-choice', rules: rememberRules(ip) },
    ...baseChains(ip, mark),
  ];
}

/**
 * Sends a client that has been here to the endpoint it had, if that is still one of the Service's; comes back when there
 * is none. The packet's priority serves as a scratch register, cleared again in output and postrouting: first the number of
 * the ServicePort (the same on each of its addresses), then a hash with the client, then the hash of the endpoint.
 */
function recallChain(ip: 'ip' | 'ip6', flavour: Flavour): ChainText {
  const kind = keyOf(flavour);
  const key = packetKey(ip, kind);
  const client = [
    `meta priority set ${key} map @${kind === 'nodeport' ? 'nodeport-' : ''}sticky-ids`,
    `meta priority set jhash ${ip} saddr . meta priority mod ${HASH_MODULUS} seed ${CLIENT_SEED}`,
  ].join(' ');
  return {
    name: `${flavour}recall`,
    rules: [
      `${client} meta priority set meta priority map @affinity`,
      `dnat to ${key} . meta priority map @${flavour}sticky-endpoints`,
      // An update would leave the endpoint that is no more in its place.
      `${client} delete @affinity { meta priority : meta priority }`,
    ],
  };
}

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

/** A rule for each protocol: nft gives `ct original proto-dst` a type only where the protocol is known. */
function rememberRules(ip: 'ip' | 'ip6'): readonly string[] {
  return PROTOCOLS.flatMap((protocol) => [
    `meta l4proto ${protocol} ct original ${ip} daddr . meta l4proto . ct original proto-dst vmap @remember`,
    `meta l4proto ${protocol} ct original ${ip} daddr != @cluster-ips meta l4proto . ct original proto-dst vmap @nodeport-remember`,
  ]);
}

/**
 * A choice of endpoint leaves a number in the packet's priority. The kernel sets it anew where it forwards; on the node's own
 * packets this does. It concerns the first packet of a connection only.
 */
const CLEAR_PRIORITY = 'ct state new ct status dnat meta priority set 0';

function baseChains(ip: 'ip' | 'ip6', mark: string): readonly ChainText[] {
  const base = (name: string, type: string, hook: string, priority: number, rules: readonly string[]): ChainText => ({
    name,
    hook: `type ${type} hook ${hook} priority ${priority}`,
    rules,
  });
  const refuse = [
    'ct state new jump check-refusal',
    'ct state new jump check-other-port',
    'ct state new jump check-unallocated',
  ];
  // Endpoints of the node's own network are reached through input, all others through postrouting.
  const remember = ['ct state new ct status dnat jump remember-choice'];
  return [
    base('firewall-prerouting', 'filter', 'prerouting', -110, ['ct state new jump check-source']),
    base('firewall-output', 'filter', 'output', -110, ['ct state new jump check-source']),
    base('refuse-input', 'filter', 'input', 0, [
      'ct state new jump check-nodeport-refusal',
      'ct state new jump check-refusal',
    ]),
    base('refuse-forward', 'filter', 'forward', 0, refuse),
    base('refuse-output', 'filter', 'output', 0, [...refuse, CLEAR_PRIORITY]),
    base('nat-prerouting', 'nat', 'prerouting', -100, ['jump find-service']),
    base('nat-output', 'nat', 'output', -100, ['jump find-service']),
    base('remember-input', 'filter', 'input', 10, remember),
    base('remember-postrouting', 'filter', 'postrouting', 90, remember),
    base('nat-postrouting', 'nat', 'postrouting', 100, [
      // The mark goes before the packet does: encapsulated in VXLAN it would be masqueraded a second time (kubernetes#92035).
      `meta mark and ${mark} != 0 meta mark set meta mark xor ${mark} masquerade fully-random`,
      `ct status dnat ${ip} saddr . ${ip} daddr . meta l4proto . th dport @hairpin masquerade fully-random`,
    ]),
  ];
}

/**
 * Maps that are not the plan's: the verdict for each chain that picks, written with the chain; and what the kernel itself
 * fills, hash of client and ServicePort → hash of the endpoint it had.
 */
export const OTHER_MAPS: readonly string[] = [
  ...FLAVOURS.map((flavour) => `map ${flavour}chains { type classid : verdict; }`),
  'map affinity { type classid : classid; size 1048576; flags dynamic,timeout; }',
];

/** Every set and map that a table of ours has. */
export const CONTAINER_NAMES: readonly string[] = [
  ...CONTAINERS.map(({ name }) => name),
  ...OTHER_MAPS.map((text) => text.split(' ')[1] ?? ''),
];

export type ChainName = string;

/** The rules of a chain made on demand, from its name: `pick-3`, `nodeport-local-sticky-2`, `remember-10800`. */
export function chainOnDemand(family: IpFamily, name: ChainName): ChainText {
  const match = /^((?:nodeport-)?(?:local-)?)(pick|sticky|remember)-([1-9][0-9]*)$/.exec(name);
  if (!match?.[3]) throw new Error(`no chain is made by the name ${name}`);
  const flavour = (match[1] ?? '') as Flavour;
  const ip = nftFamily(family);
  const key = packetKey(ip, keyOf(flavour));
  const number = match[3];
  switch (match[2]) {
    case 'pick':
      return {
        name,
        rules: [
          `meta priority set numgen random mod ${number} dnat to ${key} . meta priority map @${flavour}endpoints`,
        ],
      };
    case 'sticky':
      return { name, rules: [`jump ${flavour}recall`, `goto ${flavour}pick-${number}`] };
    default:
      return { name, rules: rememberForRules(ip, flavour, number) };
  }
}

function rememberForRules(ip: 'ip' | 'ip6', flavour: Flavour, seconds: string): readonly string[] {
  const nodeport = keyOf(flavour) === 'nodeport';
  const original = `${nodeport ? '' : `ct original ${ip} daddr . `}meta l4proto . ct original proto-dst`;
  const rules = PROTOCOLS.map((protocol) =>
    [
      `meta l4proto ${protocol}`,
      `meta priority set ${original} map @${nodeport ? 'nodeport-' : ''}sticky-ids`,
      `meta priority set jhash ct original ${ip} saddr . meta priority mod ${HASH_MODULUS} seed ${CLIENT_SEED}`,
      `update @affinity { meta priority timeout ${seconds}s : jhash ${ip} daddr . th dport mod ${HASH_MODULUS} seed ${ENDPOINT_SEED} }`,
    ].join(' '),
  );
  return [...rules, 'meta priority set 0'];
}

/** The element that leads to a chain made on demand; none leads to `remember-T`, which `remember` names by verdict. */
export function dispatchOf(name: ChainName): { readonly map: string; readonly element: string } | undefined {
  const match = /^(.*)(pick|sticky)-([0-9]+)$/.exec(name);
  if (!match) return undefined;
  return { map: `${match[1]}chains`, element: String(pickNumber(match[2] === 'sticky', Number(match[3]))) };
}

/** The chain made on demand that an element of the map needs, by its value. */
export function chainOfElement(map: string, value: string): ChainName | undefined {
  const flavour = PICKS.get(map);
  if (flavour !== undefined) {
    const number = Number(value);
    return number < STICKY_NUMBERS ? `${flavour}pick-${number}` : `${flavour}sticky-${number - STICKY_NUMBERS}`;
  }
  const chain = value.startsWith('goto ') ? value.slice('goto '.length) : '';
  return isOnDemand(chain) ? chain : undefined;
}

/** The chains that a chain made on demand goes to and that are made on demand too. */
export function chainsBehind(name: ChainName): readonly ChainName[] {
  const match = /^(.*)sticky-([0-9]+)$/.exec(name);
  return match ? [`${match[1]}pick-${match[2]}`] : [];
}

export function isOnDemand(name: ChainName): boolean {
  return /(^|-)(pick|sticky|remember)-[0-9]+$/.test(name);
}

/**
 * The name of an empty chain that tells a later run what the table holds: the shape of the sets and base chains, then
 * the rules. Where the first differs the table is made anew, where only the second does the rules are.
 */
export function marker(config: RulesConfig, family: IpFamily): { readonly shape: string; readonly name: string } {
  const chains = fixedChains(config, family);
  const ip = nftFamily(family);
  const shape = [...CONTAINERS.map(({ name, declaration }) => `${name} ${declaration(ip)}`), ...OTHER_MAPS];
  shape.push(...chains.filter(({ hook }) => hook).map(({ name, hook }) => `${name} ${hook ?? ''}`));
  const examples = ['pick-1', 'sticky-1', 'remember-1'].flatMap((name) => chainOnDemand(family, name).rules);
  const rules = [...chains.flatMap((chain) => [chain.name, ...chain.rules]), ...examples];
  const hex = (lines: readonly string[]): string => fnv1a32(lines.join('\n')).toString(16).padStart(8, '0');
  const shapeHash = hex(shape);
  return { shape: `layout-${shapeHash}-`, name: `layout-${shapeHash}-${hex(rules)}` };
}

/** The ranges without those that lie inside another one: an interval set takes no overlaps. */
export function withoutNested(ranges: readonly Cidr[]): readonly Cidr[] {
  const unique = [...new Set(ranges)];
  return unique.filter((range) => !unique.some((other) => other !== range && contains(other, range)));
}

function contains(outer: Cidr, inner: Cidr): boolean {
  return prefixLength(outer) <= prefixLength(inner) && cidrContains(outer, cidrNth(inner, 0n));
}
