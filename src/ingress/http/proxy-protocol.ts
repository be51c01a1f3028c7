// The PROXY protocol of HAProxy, versions 1 and 2: who the client is, in front of its first byte.

import { ipFamily, ipFromBytes, parseIp } from '../../lib/ip.ts';
import { CR, LF } from './octets.ts';

export interface ProxiedClient {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localPort: number;
}

export type ProxyHeader =
  | { readonly kind: 'more' }
  | { readonly kind: 'bad' }
  /** `client` is undefined for a peer that speaks for itself (LOCAL, UNKNOWN). */
  | { readonly kind: 'header'; readonly length: number; readonly client: ProxiedClient | undefined };

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** The longest line of version 1, and what a header of version 2 may hold with its extensions. */
const MAX_LINE = 107;
const MAX_BINARY = 4096;
const MORE: ProxyHeader = { kind: 'more' };
const BAD: ProxyHeader = { kind: 'bad' };

export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const known = Math.min(bytes.length, SIGNATURE.length);
  if (SIGNATURE.compare(bytes, 0, known, 0, known) === 0) return readBinary(bytes);
  const start = 'PROXY ';
  const length = Math.min(bytes.length, start.length);
  return bytes.toString('latin1', 0, length) === start.slice(0, length) ? readLine(bytes) : BAD;
}

function readLine(bytes: Buffer): ProxyHeader {
  const end = bytes.indexOf(LF);
  if (end < 0) return bytes.length > MAX_LINE ? BAD : MORE;
  if (end >= MAX_LINE || bytes[end - 1] !== CR) return BAD;
  const words = bytes.toString('latin1', 0, end - 1).split(' ');
  const length = end + 1;
  if (words[1] === 'UNKNOWN') return { kind: 'header', length, client: undefined };
  const [, family, source = '', target = '', sourcePort = '', targetPort = ''] = words;
  const colons = family === 'TCP6';
  const fits = (text: string): boolean => parseIp(text) !== undefined && text.includes(':') === colons;
  if (words.length !== 6 || (family !== 'TCP4' && family !== 'TCP6') || !fits(source) || !fits(target)) return BAD;
  const [from, to] = [portOf(sourcePort), portOf(targetPort)];
  if (from === undefined || to === undefined) return BAD;
  return { kind: 'header', length, client: { remoteAddress: source, remotePort: from, localPort: to } };
}

function readBinary(bytes: Buffer): ProxyHeader {
  if (bytes.length < 16) return MORE;
  const [version = 0, family = 0] = [bytes[12], bytes[13]];
  const size = bytes.readUInt16BE(14);
  const command = version & 0x0f;
  if (version >> 4 !== 2 || command > 1 || size > MAX_BINARY) return BAD;
  const length = 16 + size;
  if (bytes.length < length) return MORE;
  const local: ProxyHeader = { kind: 'header', length, client: undefined };
  if (command === 0) return local;
  const width = family === 0x11 ? 4 : family === 0x21 ? 16 : 0;
  if (width === 0) return family === 0 ? local : BAD;
  if (size < 2 * width + 4) return BAD;
  return {
    kind: 'header',
    length,
    client: {
      remoteAddress: ipFromBytes(bytes.subarray(16, 16 + width)),
      remotePort: bytes.readUInt16BE(16 + 2 * width),
      localPort: bytes.readUInt16BE(18 + 2 * width),
    },
  };
}

function portOf(text: string): number | undefined {
  return /^(0|[1-9][0-9]{0,4})$/.test(text) && Number(text) < 65_536 ? Number(text) : undefined;
}

/** The header of version 1, for a backend. `UNKNOWN` where the two addresses are not of one family. */
export function proxyLine(from: string, fromPort: number, to: string, toPort: number): string {
  const [source, target] = [parseIp(from), parseIp(to)];
  if (source === undefined || target === undefined || ipFamily(source) !== ipFamily(target)) return 'PROXY UNKNOWN\r\n';
  return `PROXY TCP${ipFamily(source)} ${source} ${target} ${fromPort} ${toPort}\r\n`;
}
