// One resource record in the form of a zone file: `NAME TTL IN TYPE DATA`.

import { parseIp } from '../lib/ip.ts';
import { parseName, type DnsName } from './wire/name.ts';
import { addressData, addressType, soaData, srvData, txtData, uint16, type ResourceRecord } from './wire/record.ts';
import { RR, typeCode } from './wire/types.ts';

/** Undefined when the line is no record of a type that can be written so. Names are whole, with or without a final dot. */
export function parseRecord(line: string): ResourceRecord | undefined {
  const match = /^\s*(\S+)\s+(?:([0-9]{1,10})\s+)?(?:IN\s+)?([A-Za-z0-9]+)\s+(.*?)\s*$/s.exec(line);
  const owner = parseName(match?.[1] ?? '');
  const type = typeCode(match?.[3] ?? '');
  if (!match || !owner || type === undefined) return undefined;
  const data = dataOf(type, match[4] ?? '');
  return data === undefined ? undefined : { owner, ttl: Number(match[2] ?? 3600), type, data };
}

function dataOf(type: number, text: string): string | undefined {
  const words = text.split(/\s+/);
  const name = (at: number): DnsName | undefined => parseName(words[at] ?? '');
  const numbers = (from: number, to: number): number[] => words.slice(from, to).map(Number);
  switch (type) {
    case RR.A:
    case RR.AAAA: {
      const ip = parseIp(text);
      return ip && addressType(ip) === type ? addressData(ip) : undefined;
    }
    case RR.CNAME:
    case RR.NS:
    case RR.PTR:
      return words.length === 1 ? name(0) : undefined;
    case RR.MX: {
      const target = name(1);
      return words.length === 2 && target && whole(numbers(0, 1), 0xffff)
        ? uint16(Number(words[0])) + target
        : undefined;
    }
    case RR.SRV: {
      const target = name(3);
      const [priority = 0, weight = 0, port = 0] = numbers(0, 3);
      if (words.length !== 4 || !target || !whole([priority, weight, port], 0xffff)) return undefined;
      return srvData(priority, weight, port, target);
    }
    case RR.SOA: {
      const [primary, mailbox] = [name(0), name(1)];
      const [serial = 0, refresh = 0, retry = 0, expire = 0, minimum = 0] = numbers(2, 7);
      if (words.length !== 7 || !primary || !mailbox || !whole([serial, refresh, retry, expire, minimum], 0xffffffff))
        return undefined;
      return soaData({ primary, mailbox, serial, refresh, retry, expire, minimum });
    }
    case RR.TXT:
      return texts(text);
    default:
      return undefined;
  }
}

function whole(numbers: readonly number[], most: number): boolean {
  return numbers.every((number) => Number.isInteger(number) && number >= 0 && number <= most);
}

function texts(text: string): string | undefined {
  const strings = [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/gs)].map(([, quoted, bare]) =>
    (quoted ?? bare ?? '').replace(/\\(.)/gs, '$1'),
  );
  if (strings.length === 0 || strings.some((one) => one.length > 255)) return undefined;
  return strings.map((one) => txtData(Buffer.from(one, 'utf8').toString('latin1').slice(0, 255))).join('');
}
