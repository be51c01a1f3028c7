// The keys of a server block: `[dns://|tls://|https://]ZONE[:PORT]`, where ZONE may be an address range for its reverse zones.

import { cidrFamily, parseCidr, prefixLength, type Cidr } from '../../lib/cidr.ts';
import { ipBytes, ipFromBytes, type Ip } from '../../lib/ip.ts';
import type { Scheme } from '../listener.ts';
import { lowerName, parseName, type DnsName } from '../wire/name.ts';
import { CorefileError, type Place } from './error.ts';

export interface ServerKey {
  readonly zone: DnsName;
  readonly port: number;
  readonly scheme: Scheme;
}

const PORTS: Readonly<Record<Scheme, number>> = { dns: 53, tls: 853, https: 443 };
/** Transports that are known, and not built. */
const OTHER_SCHEMES: ReadonlySet<string> = new Set(['https3', 'quic', 'grpc']);

/** Throws a CorefileError. `defaultPort` is that of `-dns.port`. */
export function parseKey(text: string, place: Place, defaultPort = PORTS.dns): readonly ServerKey[] {
  const named = /^([a-z0-9]+):\/\//.exec(text)?.[1];
  if (named !== undefined && OTHER_SCHEMES.has(named))
    throw new CorefileError(place, `${named}:// is not built yet; serve this zone over dns://, tls:// or https://`);
  const scheme = named === 'tls' || named === 'https' ? named : 'dns';
  const rest = named === scheme ? text.slice(`${scheme}://`.length) : text;
  const match = /^(.*?)(?::([0-9]{1,5}))?$/s.exec(rest);
  const port = match?.[2] === undefined ? (scheme === 'dns' ? defaultPort : PORTS[scheme]) : Number(match[2]);
  if (port > 65_535) throw new CorefileError(place, `${text}: a port is at most 65535`);
  const zones = parseZone(match?.[1] ?? '');
  if (!zones) throw new CorefileError(place, `"${text}" is no zone: ZONE[:PORT] or an address range was expected`);
  return zones.map((zone) => ({ zone, port, scheme }));
}

/** A zone's name in lower case, or the reverse zones of a range such as 10.0.0.0/27. Undefined when it is neither. */
export function parseZone(text: string): readonly DnsName[] | undefined {
  const range = text.includes('/') ? parseCidr(text) : undefined;
  if (range) return reverseZones(range);
  const name = parseName(text);
  return name && [lowerName(name)];
}

/** Zones end at whole octets, or nibbles in IPv6: a range between two is all the zones of the longer one. */
function reverseZones(range: Cidr): readonly DnsName[] {
  const network = range.slice(0, range.indexOf('/')) as Ip;
  const step = cidrFamily(range) === 4 ? 8 : 4;
  const bits = prefixLength(range);
  const whole = Math.ceil(bits / step);
  const zones: DnsName[] = [];
  for (let i = 0; i < 2 ** (whole * step - bits); i++) {
    const bytes = Uint8Array.from(ipBytes(network));
    const byte = Math.floor((whole * step - 1) / 8);
    const shift = step === 4 && whole % 2 === 1 ? 4 : 0;
    if (whole > 0) bytes[byte] = (bytes[byte] ?? 0) + (i << shift);
    const zone = parseName(reverseText(ipFromBytes(bytes), whole));
    if (zone) zones.push(zone);
  }
  return zones;
}

function reverseText(ip: Ip, parts: number): string {
  const bytes = ipBytes(ip);
  const all = bytes.length === 4 ? [...bytes].map(String) : Buffer.from(bytes).toString('hex').split('');
  return [...all.slice(0, parts).reverse(), bytes.length === 4 ? 'in-addr.arpa' : 'ip6.arpa'].join('.');
}
