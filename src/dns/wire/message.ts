// Reading a whole message: replies of upstreams, and our own in tests and in text form.

import { FLAG, HEADER_SIZE, RR } from './types.ts';
import { readName, skipName, type DnsName } from './name.ts';
import { readData, type ResourceRecord } from './record.ts';
import type { Edns } from './query.ts';

export interface OwnedRecord extends ResourceRecord {
  readonly owner: DnsName;
  readonly klass: number;
}

export interface Message {
  readonly id: number;
  /** The header's second word. */
  readonly flags: number;
  /** With the upper bits from EDNS. */
  readonly rcode: number;
  readonly truncated: boolean;
  readonly question: { readonly name: DnsName; readonly type: number; readonly klass: number } | undefined;
  readonly answer: readonly OwnedRecord[];
  readonly authority: readonly OwnedRecord[];
  /** Without the OPT record. */
  readonly additional: readonly OwnedRecord[];
  readonly edns: Edns | undefined;
}

/** Undefined when anything in it is malformed. At most one question is read; more are malformed. */
export function parseMessage(packet: Buffer, length = packet.length): Message | undefined {
  if (length < HEADER_SIZE) return undefined;
  const questions = packet.readUInt16BE(4);
  if (questions > 1) return undefined;
  let at = HEADER_SIZE;
  let question: Message['question'];
  if (questions === 1) {
    const read = readName(packet, at, length);
    if (!read || read.end + 4 > length) return undefined;
    question = {
      name: read.name,
      type: packet.readUInt16BE(read.end),
      klass: packet.readUInt16BE(read.end + 2),
    };
    at = read.end + 4;
  }
  const sections: OwnedRecord[][] = [[], [], []];
  let edns: Edns | undefined;
  let upper = 0;
  for (const [i, section] of sections.entries()) {
    for (let left = packet.readUInt16BE(6 + 2 * i); left > 0; left--) {
      const read = readRecord(packet, at, length);
      if (!read) return undefined;
      at = read.end;
      if (read.record.type !== RR.OPT) {
        section.push(read.record);
        continue;
      }
      if (edns || i !== 2) return undefined;
      upper = read.record.ttl >>> 24;
      edns = {
        udpSize: read.record.klass,
        version: (read.record.ttl >>> 16) & 0xff,
        dnssecOk: (read.record.ttl & 0x8000) !== 0,
        wantsNsid: false,
      };
    }
  }
  const [answer = [], authority = [], additional = []] = sections;
  const flags = packet.readUInt16BE(2);
  return {
    id: packet.readUInt16BE(0),
    flags,
    rcode: (upper << 4) | (flags & 0xf),
    truncated: (flags & FLAG.TC) !== 0,
    question,
    answer,
    authority,
    additional,
    edns,
  };
}

/** Whether its records are as many and as long as it says; what is in them is not looked at. */
export function isWhole(packet: Buffer): boolean {
  return recordsWithin(packet, Infinity, 3).isWhole;
}

/**
 * What of a message fits into `room` bytes, with TC: whole records of the answer and of the authority. A client that has no TCP is served by
 * them. Of a message that breaks off, those before. The message has a header and the questions that it says.
 */
export function cutTo(message: Buffer, room: number): Buffer {
  const { counts, end } = recordsWithin(message, room, 2);
  const packet = Buffer.from(message.subarray(0, end));
  packet.writeUInt16BE(message.readUInt16BE(2) | FLAG.TC, 2);
  for (const [i, count] of counts.entries()) packet.writeUInt16BE(count, 6 + 2 * i);
  return packet;
}

interface RecordsWithin {
  /** By section. */
  readonly counts: readonly [number, number, number];
  /** Of the last of them. */
  readonly end: number;
  readonly isWhole: boolean;
}

/** The first records, of so many sections, that end within `room` bytes. */
function recordsWithin(packet: Buffer, room: number, sections: 2 | 3): RecordsWithin {
  const { length } = packet;
  const counts: [number, number, number] = [0, 0, 0];
  let at = HEADER_SIZE;
  for (let left = packet.readUInt16BE(4); left > 0; left--) {
    const name = skipName(packet, at, length);
    if (name < 0 || name + 4 > length) return { counts, end: at, isWhole: false };
    at = name + 4;
  }
  for (const i of ([0, 1, 2] as const).slice(0, sections)) {
    for (let left = packet.readUInt16BE(6 + 2 * i); left > 0; left--) {
      const owner = skipName(packet, at, length);
      const end = owner < 0 || owner + 10 > length ? Infinity : owner + 10 + packet.readUInt16BE(owner + 8);
      if (end > Math.min(room, length)) return { counts, end: at, isWhole: false };
      counts[i]++;
      at = end;
    }
  }
  return { counts, end: at, isWhole: true };
}

function readRecord(packet: Buffer, at: number, length: number): { record: OwnedRecord; end: number } | undefined {
  const owner = readName(packet, at, length);
  if (!owner || owner.end + 10 > length) return undefined;
  const type = packet.readUInt16BE(owner.end);
  const start = owner.end + 10;
  const end = start + packet.readUInt16BE(owner.end + 8);
  if (end > length) return undefined;
  const data = readData(packet, type, start, end);
  if (data === undefined) return undefined;
  const klass = packet.readUInt16BE(owner.end + 2);
  const ttl = packet.readUInt32BE(owner.end + 4);
  return { record: { owner: owner.name, type, klass, ttl, data }, end };
}
