// The parameters of SVCB and HTTPS records in their text form (RFC 9460 section 2.1 and appendix A).

import { ipFamily, parseIp } from '../lib/ip.ts';
import type { Word } from './record-text.ts';
import { addressData, uint16 } from './wire/record.ts';

const KEYS: readonly string[] = ['mandatory', 'alpn', 'no-default-alpn', 'port', 'ipv4hint', 'ech', 'ipv6hint'];

/** `alpn=h2,h3 port=8443 …` as bytes, in order of key; undefined when they are none, or a key stands twice. */
export function serviceParameters(words: readonly Word[]): string | undefined {
  const found = new Map<number, string>();
  for (const [i, { text, quoted }] of words.entries()) {
    // `alpn="h2"`: the scanner hands the quoted value on as a word of its own.
    if (quoted) continue;
    const equals = text.indexOf('=');
    const name = (equals < 0 ? text : text.slice(0, equals)).toLowerCase();
    const following = words[i + 1];
    const value = equals === text.length - 1 && following?.quoted ? following.text : text.slice(equals + 1);
    const key = keyOf(name);
    const data = key === undefined ? undefined : valueOf(key, equals < 0 ? '' : value);
    if (key === undefined || data === undefined || found.has(key)) return undefined;
    found.set(key, data);
  }
  return [...found]
    .toSorted(([a], [b]) => a - b)
    .map(([key, data]) => uint16(key) + uint16(data.length) + data)
    .join('');
}

function keyOf(name: string): number | undefined {
  const known = KEYS.indexOf(name);
  if (known >= 0) return known;
  const number = /^key([0-9]{1,5})$/.exec(name)?.[1];
  return number !== undefined && Number(number) < 0xffff ? Number(number) : undefined;
}

function valueOf(key: number, value: string): string | undefined {
  const parts = value.split(',');
  switch (KEYS[key]) {
    case 'mandatory': {
      const keys = parts.map((part) => keyOf(part));
      return keys.includes(undefined)
        ? undefined
        : keys
            .map((one) => one ?? 0)
            .toSorted((a, b) => a - b)
            .map(uint16)
            .join('');
    }
    case 'alpn':
      return parts.every((part) => part !== '' && part.length <= 255)
        ? parts.map((part) => String.fromCharCode(part.length) + part).join('')
        : undefined;
    case 'no-default-alpn':
      return value === '' ? '' : undefined;
    case 'port':
      return /^[0-9]{1,5}$/.test(value) && Number(value) <= 0xffff ? uint16(Number(value)) : undefined;
    case 'ipv4hint':
    case 'ipv6hint': {
      const family = KEYS[key] === 'ipv4hint' ? 4 : 6;
      const ips = parts.map((part) => parseIp(part));
      return ips.every((ip) => ip !== undefined && ipFamily(ip) === family)
        ? ips.map((ip) => (ip ? addressData(ip) : '')).join('')
        : undefined;
    }
    case 'ech':
      return Buffer.from(value, 'base64').toString('latin1');
    default:
      return value;
  }
}
