// What the tools and the kernel say → what is there. Read at start, after a failure, and when something was found missing; never on the way
// of a sync, but for the connections of real servers that are to go.

import { hostPort, isLoopback, parseIp, type Ip } from '../../lib/ip.ts';
import { KNOWN_SETS, LINK, type RealKey, type ServerKey, type SetEntry } from './names.ts';

export interface SavedServer {
  /** What stands behind its address: `-s rr -p 10800`. */
  readonly options: string;
  /** Real servers, with what stands behind their address: `-m -w 1`. */
  readonly reals: ReadonlyMap<RealKey, string>;
}

const PROTOCOLS = new Map([
  ['-t', 'TCP'],
  ['-u', 'UDP'],
  ['--sctp-service', 'SCTP'],
]);

/** Reads `ipvsadm --save --numeric`. Virtual servers of firewall marks are nobody's of ours and are passed over. */
export function parseServers(text: string): ReadonlyMap<ServerKey, SavedServer> {
  const servers = new Map<ServerKey, { options: string; reals: Map<RealKey, string> }>();
  for (const line of text.split('\n')) {
    const match = /^-([Aa]) (\S+) (\S+) (.*)$/.exec(line);
    const protocol = PROTOCOLS.get(match?.[2] ?? '');
    if (!match || protocol === undefined) continue;
    const key = `${protocol} ${canonicalPlace(match[3] ?? '')}`;
    const rest = (match[4] ?? '').trim();
    if (match[1] === 'A') {
      servers.set(key, { options: rest, reals: new Map() });
      continue;
    }
    const real = /^-r (\S+) (.*)$/.exec(rest);
    if (real) servers.get(key)?.reals.set(canonicalPlace(real[1] ?? ''), (real[2] ?? '').trim());
  }
  return servers;
}

/** The tool writes `[fd00::1]:80` as the C library does, which is the form of RFC 5952 but for embedded IPv4 addresses. */
function canonicalPlace(place: string): string {
  if (!place.startsWith('[')) return place;
  const colon = place.lastIndexOf(':');
  const ip = parseIp(place.slice(1, colon - 1));
  return ip === undefined ? place : hostPort(ip, Number(place.slice(colon + 1)));
}

export interface SavedSet {
  readonly type: string;
  /** Undefined for a bitmap. */
  readonly family: string | undefined;
  readonly capacity: number | undefined;
  readonly entries: ReadonlySet<SetEntry>;
}

/** Reads `ipset save`: the sets whose names are ours, whatever their type. */
export function parseSets(text: string): ReadonlyMap<string, SavedSet> {
  const sets = new Map<string, SavedSet & { readonly entries: Set<SetEntry> }>();
  for (const line of text.split('\n')) {
    const [verb, name = '', word = ''] = line.split(' ', 3);
    if (!KNOWN_SETS.has(name)) continue;
    if (verb === 'create') {
      const capacity = / maxelem ([0-9]+)/.exec(line)?.[1];
      sets.set(name, {
        type: word,
        family: / family (\S+)/.exec(line)?.[1],
        capacity: capacity === undefined ? undefined : Number(capacity),
        entries: new Set(),
      });
    } else if (verb === 'add') sets.get(name)?.entries.add(`${name} ${word}`);
  }
  return sets;
}

/** How many entries each of our sets has, by `ipset list -terse`. */
export function parseCounts(text: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  let name = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('Name: ')) name = line.slice(6).trim();
    else if (line.startsWith('Number of entries: ') && KNOWN_SETS.has(name)) counts.set(name, Number(line.slice(19)));
  }
  return counts;
}

export interface SavedAddresses {
  /** Whether the dummy link is there. */
  readonly hasLink: boolean;
  /** On the dummy link. */
  readonly ours: ReadonlySet<Ip>;
  /** On other links, but for loopback and link-local addresses; sorted. A node may have its own addresses on a dummy link. */
  readonly local: readonly Ip[];
}

/** Reads `ip -json address show`. Throws SyntaxError when it is no JSON. */
export function parseAddresses(text: string): SavedAddresses {
  const ours = new Set<Ip>();
  const local = new Set<Ip>();
  let hasLink = false;
  for (const link of asList(JSON.parse(text === '' ? '[]' : text))) {
    const name = asText(link['ifname']);
    if (name === LINK) hasLink = true;
    for (const address of asList(link['addr_info'])) {
      const ip = parseIp(asText(address['local']));
      if (ip === undefined) continue;
      if (name === LINK) ours.add(ip);
      else if (!isLoopback(ip) && !isLinkLocal(ip)) local.add(ip);
    }
  }
  return { hasLink, ours, local: [...local].sort() };
}

/** Reads `ip -brief address show`: the line of the dummy link, undefined when it is not there, and all others as they are. */
export function parseBrief(text: string): { readonly own: string | undefined; readonly others: string } {
  const lines = text.split('\n');
  const own = lines.find((line) => line.startsWith(`${LINK} `));
  return { own, others: lines.filter((line) => line !== own).join('\n') };
}

/** The addresses in such a line. */
export function addressesOf(line: string): ReadonlySet<Ip> {
  const found = new Set<Ip>();
  for (const word of line.split(' ').slice(1)) {
    const ip = word.includes('/') ? parseIp(word.slice(0, word.indexOf('/'))) : undefined;
    if (ip !== undefined) found.add(ip);
  }
  return found;
}

/** 169.254.0.0/16 and fe80::/10. */
function isLinkLocal(ip: Ip): boolean {
  return ip.startsWith('169.254.') || /^fe[89ab]/.test(ip);
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function asList(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.map(asRecord) : [];
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export interface RealConnections {
  readonly weight: number;
  /** Open connections. */
  readonly active: number;
  /** Those that are closing, and flows of UDP. */
  readonly inactive: number;
}

/** The real servers of one virtual server. */
export type Reals = ReadonlyMap<RealKey, RealConnections>;

export type Connections = ReadonlyMap<ServerKey, Reals>;

/** Reads `/proc/net/ip_vs`: the real servers of the virtual servers asked for, or of all. */
export function parseConnections(
  text: string,
  wanted?: ReadonlySet<ServerKey> | ReadonlyMap<ServerKey, unknown>,
): Connections {
  return new Map(serversIn(text, wanted));
}

/** The same, one virtual server after the other: a large table is never there as a whole. */
export function serversIn(
  text: string,
  wanted?: ReadonlySet<ServerKey> | ReadonlyMap<ServerKey, unknown>,
): Generator<readonly [ServerKey, Reals]> {
  return serversOf(text, hexPlace, wanted);
}

/** Reads `ipvsadm -L -n`, of all or of one virtual server after the other. */
export function parseListing(text: string): Connections {
  return new Map(serversOf(text, canonicalPlace));
}

function* serversOf(
  text: string,
  placeOf: (text: string) => string | undefined,
  wanted?: ReadonlySet<ServerKey> | ReadonlyMap<ServerKey, unknown>,
): Generator<readonly [ServerKey, Reals]> {
  let key: ServerKey | undefined;
  let reals = new Map<RealKey, RealConnections>();
  for (let at = 0, end = text.indexOf('\n'); end >= 0; at = end + 1, end = text.indexOf('\n', at)) {
    if (text.startsWith('  ->', at)) {
      if (key === undefined) continue;
      REAL.lastIndex = at;
      const [, place = '', weight, active, inactive] = REAL.exec(text) ?? [];
      const real = placeOf(place);
      if (real !== undefined) {
        reals.set(real, { weight: Number(weight), active: Number(active), inactive: Number(inactive) });
      }
      continue;
    }
    if (key !== undefined) yield [key, reals];
    key = undefined;
    SERVER.lastIndex = at;
    const [, protocol, own = ''] = SERVER.exec(text) ?? [];
    const place = protocol === undefined ? undefined : placeOf(own);
    if (place === undefined || wanted?.has(`${protocol} ${place}`) === false) continue;
    key = `${protocol} ${place}`;
    reals = new Map();
  }
  if (key !== undefined) yield [key, reals];
}

const SERVER = /(TCP|UDP|SCTP) +(\S+) /y;
const REAL = /  -> (\S+) +\S+ +([0-9]+) +([0-9]+) +([0-9]+)/y;

/** `0A000001:1F90` → `10.0.0.1:8080`; `[fd00:…:0001]:0050` → `[fd00::1]:80`. */
function hexPlace(text: string): string | undefined {
  const colon = text.lastIndexOf(':');
  const port = Number.parseInt(text.slice(colon + 1), 16);
  if (Number.isNaN(port)) return undefined;
  if (!text.startsWith('[')) {
    const bits = colon === 8 ? Number.parseInt(text.slice(0, 8), 16) : Number.NaN;
    return Number.isNaN(bits)
      ? undefined
      : `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}:${port}`;
  }
  const ip = parseIp(text.slice(1, colon - 1));
  return ip === undefined ? undefined : hostPort(ip, port);
}

/**
 * Reads `/proc/net/ip_vs_conn`: the virtual servers of TCP connections that one side alone has ended, one for each. The other side may go on for as
 * long as it likes, and the kernel does not count them among the active ones.
 */
export function* halfClosedIn(text: string): Generator<ServerKey> {
  for (const [, address = '', port = ''] of text.matchAll(HALF_CLOSED)) {
    const place = hexPlace(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
    if (place !== undefined) yield `TCP ${place}`;
  }
}

/** Protocol, client, virtual server, real server, state: each of the three an address and a port. */
const HALF_CLOSED = /^TCP +\S+ +\S+ +(\S+) +(\S+) +\S+ +\S+ +(?:FIN_WAIT|CLOSE_WAIT) /gm;

/** The lines of `/proc/net/ip_vs`, and how many of them are virtual and real servers: not the heading, nor those of firewall marks. */
export function countTable(text: string): { readonly lines: number; readonly servers: number } {
  let lines = 0;
  let servers = 0;
  let counts = false;
  for (let at = 0, end = text.indexOf('\n'); end >= 0; at = end + 1, end = text.indexOf('\n', at)) {
    lines++;
    // Of the three lines of heading the third looks like a real server.
    if (!text.startsWith('  ->', at)) counts = lines > 3 && !text.startsWith('FWM', at);
    if (counts) servers++;
  }
  return { lines, servers };
}
