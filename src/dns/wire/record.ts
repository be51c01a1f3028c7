// Resource records: the data of each type that the server makes, and the names inside data of others.

import { ipBytes, ipFamily, type Ip } from '../../lib/ip.ts';
import { RR } from './types.ts';
import { readName, type DnsName } from './name.ts';

export interface ResourceRecord {
  /** Undefined: the name of the question, in the question's case. */
  readonly owner: DnsName | undefined;
  readonly type: number;
  /** Seconds. */
  readonly ttl: number;
  /** The record's data, one character per byte, names in it uncompressed. */
  readonly data: string;
}

/** Where names stand in the data of a type; `compress` says whether they may be written as pointers. */
export interface DataShape {
  readonly before: number;
  readonly names: number;
  readonly compress: boolean;
}

// RFC 3597 section 4: only the types of RFC 1035 may be compressed, and receivers should still read a pointer in SRV.
const SHAPES: ReadonlyMap<number, DataShape> = new Map([
  [RR.NS, { before: 0, names: 1, compress: true }],
  [RR.CNAME, { before: 0, names: 1, compress: true }],
  [RR.PTR, { before: 0, names: 1, compress: true }],
  [RR.MX, { before: 2, names: 1, compress: true }],
  [RR.SOA, { before: 0, names: 2, compress: true }],
  [RR.SRV, { before: 6, names: 1, compress: false }],
  [RR.DNAME, { before: 0, names: 1, compress: false }],
]);

export function dataShape(type: number): DataShape | undefined {
  return SHAPES.get(type);
}

export function uint16(value: number): string {
  return String.fromCharCode((value >> 8) & 0xff, value & 0xff);
}

export function uint32(value: number): string {
  return uint16(value >>> 16) + uint16(value & 0xffff);
}

/** Data of an A or AAAA record. */
export function addressData(ip: Ip): string {
  return String.fromCharCode(...ipBytes(ip));
}

export function addressType(ip: Ip): number {
  return ipFamily(ip) === 4 ? RR.A : RR.AAAA;
}

/** RFC 2782. */
export function srvData(priority: number, weight: number, port: number, target: DnsName): string {
  return uint16(priority) + uint16(weight) + uint16(port) + target;
}

/** One character-string of at most 255 bytes (RFC 1035 section 3.3.14). */
export function txtData(text: string): string {
  if (text.length > 255) throw new RangeError('a character-string has at most 255 bytes');
  return String.fromCharCode(text.length) + text;
}

export interface Soa {
  readonly primary: DnsName;
  readonly mailbox: DnsName;
  readonly serial: number;
  /** Seconds, as the next three. */
  readonly refresh: number;
  readonly retry: number;
  readonly expire: number;
  readonly minimum: number;
}

export function soaData(soa: Soa): string {
  const numbers = [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum];
  return soa.primary + soa.mailbox + numbers.map(uint32).join('');
}

/** Reads a record's data out of a message and writes out the names in it. Undefined when it is malformed. */
export function readData(message: Buffer, type: number, start: number, end: number): string | undefined {
  const shape = SHAPES.get(type);
  if (!shape) {
    if (type === RR.A && end - start !== 4) return undefined;
    if (type === RR.AAAA && end - start !== 16) return undefined;
    return message.toString('latin1', start, end);
  }
  let at = start + shape.before;
  if (at > end) return undefined;
  let data = message.toString('latin1', start, at);
  for (let i = 0; i < shape.names; i++) {
    const read = readName(message, at, end);
    if (!read) return undefined;
    data += read.name;
    at = read.end;
  }
  const rest = end - at;
  if (rest !== (type === RR.SOA ? 20 : 0)) return undefined;
  return data + message.toString('latin1', at, end);
}
