// What the tools and the kernel say → what is there. Read at start, after a failure, and when something was found missing; never on the way
// of a sync, but for the connections of real servers that are to go.

import { ipFromBytes, isLoopback, parseIp, type Ip } from '../../lib/ip.ts';
import { hostPort } from '../../lib/ip.ts';
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
  /** On other links, but for loopback and link-local addresses, and links that are dummies, too; sorted. */
  readonly local: readonly Ip[];
}

/** Reads `ip -details -json address show`. Throws SyntaxError when it is no JSON. */
export function parseAddresses(text: string): SavedAddresses {
  const ours = new Set<Ip>();
  const local = new Set<Ip>();
  let hasLink = false;
  for (const link of asList(JSON.parse(text === '' ? '[]' : text))) {
    const name = asText(link['ifname']);
    if (name === LINK) hasLink = true;
    const isDummy = asText(asRecord(link['linkinfo'])['info_kind']) === 'dummy';
    for (const address of asList(link['addr_info'])) {
      const ip = parseIp(asText(address['local']));
      if (ip === undefined) continue;
      if (name === LINK) ours.add(ip);
      else if (!isDummy && !isLoopback(ip) && !isLinkLocal(ip)) local.add(ip);
    }
  }
  return { hasLink, ours, local: [...local].sort() };
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

/** Reads `/proc/net/ip_vs`: the real servers of the virtual servers asked for, or of all. */
export function parseConnections(
  text: string,
  wanted?: ReadonlySet<ServerKey> | ReadonlyMap<ServerKey, unknown>,
): ReadonlyMap<ServerKey, ReadonlyMap<RealKey, RealConnections>> {
  const servers = new Map<ServerKey, Map<RealKey, RealConnections>>();
  let reals: Map<RealKey, RealConnections> | undefined;
  for (const line of text.split('\n')) {
    if (line.startsWith('  ->')) {
      if (!reals) continue;
      const [, place = '', , weight, active, inactive] = line.trim().split(/\s+/);
      const real = hexPlace(place);
      if (real === undefined) continue;
      reals.set(real, { weight: Number(weight), active: Number(active), inactive: Number(inactive) });
      continue;
    }
    reals = undefined;
    const match = /^(TCP|UDP|SCTP) +(\S+) /.exec(line);
    if (!match) continue;
    const place = hexPlace(match[2] ?? '');
    if (place === undefined) continue;
    const key = `${match[1]} ${place}`;
    if (wanted && !wanted.has(key)) continue;
    servers.set(key, (reals = new Map()));
  }
  return servers;
}

/** `0A000001:1F90` → `10.0.0.1:8080`; `[fd00:…:0001]:0050` → `[fd00::1]:80`. */
function hexPlace(text: string): string | undefined {
  const colon = text.lastIndexOf(':');
  const address = text.slice(0, colon);
  const ip = address.startsWith('[')
    ? parseIp(address.slice(1, -1))
    : /^[0-9A-F]{8}$/.test(address)
      ? ipFromBytes(Uint8Array.from(Buffer.from(address, 'hex')))
      : undefined;
  const port = Number.parseInt(text.slice(colon + 1), 16);
  return ip === undefined || Number.isNaN(port) ? undefined : hostPort(ip, port);
}

/** How many virtual and real servers there are in `/proc/net/ip_vs`, without a look at which. */
export function countServers(text: string): { readonly servers: number; readonly reals: number } {
  let lines = 0;
  let reals = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) {
    lines++;
    if (text.startsWith('  ->', at + 1)) reals++;
  }
  // Three lines of heading, the third of which looks like a real server.
  return { servers: Math.max(0, lines - reals - 2), reals: Math.max(0, reals - 1) };
}
