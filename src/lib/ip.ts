// IP addresses as canonical text. An `Ip` is a branded string, so that two equal addresses are `===`
// and can key a Map; the constructors parse, nothing else makes one.

declare const ipBrand: unique symbol;

/** A canonical IPv4 dotted quad, or a canonical IPv6 address in the form of RFC 5952. */
export type Ip = string & { readonly [ipBrand]: 'Ip' };

export type IpFamily = 4 | 6;

/** Parses strictly: no leading zeros, no surrounding space, no zone id. Returns the canonical form, or undefined. */
export function parseIp(text: string): Ip | undefined {
  const bytes = text.includes(':') ? parseIpv6(text) : parseIpv4(text, false);
  return bytes && ipFromBytes(bytes);
}

/**
 * Parses as the Kubernetes API reads addresses in old fields: leading zeros in an IPv4 octet are decimal
 * (`172.30.0.041` is `172.30.0.41`). Returns the canonical form, or undefined.
 */
export function parseIpSloppy(text: string): Ip | undefined {
  const trimmed = text.trim();
  const bytes = trimmed.includes(':') ? parseIpv6(trimmed) : parseIpv4(trimmed, true);
  return bytes && ipFromBytes(bytes);
}

export function ipFamily(ip: Ip): IpFamily {
  return ip.includes(':') ? 6 : 4;
}

/** The address as 4 or 16 bytes in network order. */
export function ipBytes(ip: Ip): Uint8Array {
  const bytes = ip.includes(':') ? parseIpv6(ip) : parseIpv4(ip, false);
  if (!bytes) throw new Error(`not an address: ${ip}`);
  return bytes;
}

/** The canonical text of 4 or 16 bytes in network order. An IPv4-mapped address stays IPv6. */
export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip;
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  const run = longestZeroRun(groups);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  if (run.length < 2) return hex(groups) as Ip;
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}` as Ip;
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(ip: Ip): boolean {
  return ip === '::1' || ip.startsWith('127.');
}

/** 0.0.0.0 and ::. */
export function isUnspecified(ip: Ip): boolean {
  return ip === '0.0.0.0' || ip === '::';
}

/**
 * Addresses that mean this machine or its own link, never another host's service: loopback, link-local (clouds answer for credentials there),
 * unspecified and multicast; of IPv6 also those that hold such an IPv4 address.
 */
export function isOfThisMachine(ip: Ip): boolean {
  if (isLoopback(ip) || isUnspecified(ip)) return true;
  const mapped = /^(?:::ffff:|64:ff9b::)(.+)$/.exec(ip)?.[1];
  const inner = mapped === undefined ? undefined : parseIp(mapped.includes('.') ? mapped : fromGroups(mapped));
  if (inner) return isOfThisMachine(inner);
  return ip.includes(':') ? /^(fe[89ab]|ff)/.test(ip) : /^(0\.|169\.254\.|22[4-9]\.|2[3-5][0-9]\.)/.test(ip);
}

/** `7f00:1` → `127.0.0.1`. */
function fromGroups(text: string): string {
  const [high = 0, low = 0] = text.split(':').map((group) => Number.parseInt(group, 16));
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** `1.2.3.4:80` or `[fd00::1]:80`. */
export function hostPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function parseIpv4(text: string, sloppy: boolean): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (const [i, part] of parts.entries()) {
    if (!/^[0-9]{1,9}$/.test(part)) return undefined;
    if (!sloppy && part.length > 1 && part.startsWith('0')) return undefined;
    const value = Number.parseInt(part, 10);
    if (value > 255) return undefined;
    bytes[i] = value;
  }
  return bytes;
}

/** RFC 4291 section 2.2, with an embedded IPv4 tail. */
function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  if (!head) return undefined;
  const bytes = new Uint8Array(16);
  if (halves.length === 1) {
    if (head.length !== 16) return undefined;
    bytes.set(head);
    return bytes;
  }
  const tail = parseGroups(halves[1] ?? '', true);
  if (!tail || head.length + tail.length > 14) return undefined;
  bytes.set(head);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const groups = text.split(':');
  for (const [i, group] of groups.entries()) {
    if (mayEndInIpv4 && i === groups.length - 1 && group.includes('.')) {
      const quad = parseIpv4(group, false);
      if (!quad) return undefined;
      bytes.push(...quad);
      continue;
    }
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
    const value = Number.parseInt(group, 16);
    bytes.push(value >> 8, value & 0xff);
  }
  return bytes.length <= 16 ? bytes : undefined;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  let length = 0;
  for (const [i, group] of groups.entries()) {
    if (group !== 0) {
      length = 0;
      continue;
    }
    if (length === 0) start = i;
    length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
