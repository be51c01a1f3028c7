// Names in in-addr.arpa (RFC 1035 section 3.5) and ip6.arpa (RFC 3596 section 2.5).

import { ipBytes, ipFromBytes, parseIp, type Ip } from '../../lib/ip.ts';
import { labelsOf, parseName, type DnsName } from '../wire/name.ts';

/** The address of a name in a reverse zone; `labels` from the zone leftwards, so in the address's own order. */
export function reverseAddress(origin: DnsName, labels: readonly string[]): Ip | undefined {
  // A zone such as 10.in-addr.arpa has the beginning of its addresses in its own name.
  const parts = [...labelsOf(origin).reverse().slice(2), ...labels];
  if (origin.endsWith('\x07in-addr\x04arpa\0')) return parts.length === 4 ? parseIp(parts.join('.')) : undefined;
  if (parts.length !== 32 || !parts.every((label) => /^[0-9a-f]$/.test(label))) return undefined;
  return ipFromBytes(Buffer.from(parts.join(''), 'hex'));
}

/** The name under which an address's PTR record is asked for. */
export function reverseName(ip: Ip): DnsName {
  const bytes = ipBytes(ip);
  const text =
    bytes.length === 4
      ? `${[...bytes].reverse().join('.')}.in-addr.arpa`
      : `${Buffer.from(bytes).toString('hex').split('').reverse().join('.')}.ip6.arpa`;
  const name = parseName(text);
  if (!name) throw new Error(`no reverse name for ${ip}`);
  return name;
}
