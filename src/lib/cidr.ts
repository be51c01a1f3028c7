// Address ranges as canonical text, `network/length` with the host bits cleared.

import { ipBytes, ipFamily, ipFromBytes, parseIp, parseIpSloppy, type Ip, type IpFamily } from './ip.ts';

declare const cidrBrand: unique symbol;

/** A canonical range such as `10.0.0.0/8` or `fd00::/64`. */
export type Cidr = string & { readonly [cidrBrand]: 'Cidr' };

/** Parses strictly; host bits are cleared. Undefined when the text is no range. */
export function parseCidr(text: string): Cidr | undefined {
  return parseWith(text, parseIp, /^(0|[1-9][0-9]{0,2})$/);
}

/** Parses as the API reads old fields: surrounding space and leading zeros are allowed (`203.0.113.000/025`). */
export function parseCidrSloppy(text: string): Cidr | undefined {
  return parseWith(text.trim(), parseIpSloppy, /^[0-9]{1,4}$/);
}

export function cidrFamily(cidr: Cidr): IpFamily {
  return cidr.includes(':') ? 6 : 4;
}

/** The range of the one address: /32 or /128. */
export function cidrOfIp(ip: Ip): Cidr {
  return `${ip}/${ipFamily(ip) === 4 ? 32 : 128}` as Cidr;
}

export function prefixLength(cidr: Cidr): number {
  return Number(cidr.slice(cidr.indexOf('/') + 1));
}

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  if (cidrFamily(cidr) !== ipFamily(ip)) return false;
  const bits = prefixLength(cidr);
  const network = ipBytes(cidr.slice(0, cidr.indexOf('/')) as Ip);
  const address = ipBytes(ip);
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (network[i] !== address[i]) return false;
  if ((bits & 7) === 0) return true;
  const mask = maskOfByte(bits & 7);
  return ((network[whole] ?? 0) & mask) === ((address[whole] ?? 0) & mask);
}

/** How many addresses the range holds, as a bigint (an IPv6 range exceeds 2^53). */
export function cidrSize(cidr: Cidr): bigint {
  return 1n << BigInt((cidrFamily(cidr) === 4 ? 32 : 128) - prefixLength(cidr));
}

/** The address at `index` (0 is the network address). `index` must be below `cidrSize`. */
export function cidrNth(cidr: Cidr, index: bigint): Ip {
  const bytes = ipBytes(cidr.slice(0, cidr.indexOf('/')) as Ip);
  let rest = index;
  for (let i = bytes.length - 1; i >= 0 && rest > 0n; i--) {
    const sum = BigInt(bytes[i] ?? 0) + (rest & 0xffn);
    bytes[i] = Number(sum & 0xffn);
    rest = (rest >> 8n) + (sum >> 8n);
  }
  return ipFromBytes(bytes);
}

function parseWith(text: string, parse: (text: string) => Ip | undefined, length: RegExp): Cidr | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const ip = parse(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  if (!ip || !length.test(lengthText)) return undefined;
  const bits = Number.parseInt(lengthText, 10);
  const bytes = ipBytes(ip);
  if (bits > bytes.length * 8) return undefined;
  for (let i = 0; i < bytes.length; i++) {
    const kept = Math.min(8, Math.max(0, bits - i * 8));
    bytes[i] = (bytes[i] ?? 0) & maskOfByte(kept);
  }
  return `${ipFromBytes(bytes)}/${bits}` as Cidr;
}

function maskOfByte(bits: number): number {
  return (0xff << (8 - bits)) & 0xff;
}
