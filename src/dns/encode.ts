// A reply as bytes: header, question as asked, sections, EDNS, and the size limit of the transport.

import { FLAG, HEADER_SIZE, MAX_MESSAGE_SIZE, MIN_UDP_SIZE, RCODE, RR } from './wire/types.ts';
import { lowerName, originAt, ROOT, type DnsName } from './wire/name.ts';
import { dataShape, uint16, type ResourceRecord } from './wire/record.ts';
import type { Edns, Query, Refusal } from './wire/query.ts';
import type { Reply } from './reply.ts';

/** An OPT record without options. */
export const OPT_SIZE = 11;
const POINTER = 0xc000;
/** A pointer has 14 bits. */
const MAX_POINTER = 0x3fff;

// One message is assembled at a time, and copied out at its real size.
const scratch = Buffer.alloc(MAX_MESSAGE_SIZE + 1);

/** How large a reply may be: 65535 over TCP, else what EDNS says, 512 at least (RFC 6891 section 6.2.3). */
export function sizeLimit(edns: Edns | undefined, transport: 'udp' | 'tcp'): number {
  if (transport === 'tcp') return MAX_MESSAGE_SIZE;
  return edns ? Math.max(edns.udpSize, MIN_UDP_SIZE) : MIN_UDP_SIZE;
}

/**
 * The packet that answers the query, at most `limit` bytes: what does not fit is left off from the end and TC is set.
 * `random` (0 to 1) chooses the address that comes first, so that clients that take the first one spread.
 */
export function encodeReply(
  query: Query,
  reply: Reply,
  limit: number,
  random: () => number,
  extras?: EdnsExtras,
): Buffer {
  let end = writeQuestion(query);
  const options = extras || reply.kind === 'message' ? optionsOf(query, reply, extras) : '';
  // An error is explained to clients without EDNS too, as CoreDNS does.
  const edns = query.edns ?? (options === '' ? undefined : EXPLAINING_EDNS);
  const room = limit - (edns ? OPT_SIZE + options.length : 0);
  let flags = FLAG.QR | (query.flags & (FLAG.RD | FLAG.CD));
  let counts: Counts = NO_RECORDS;
  let rcode: number = RCODE.NOERROR;
  switch (reply.kind) {
    case 'addresses': {
      const fit = Math.min(reply.body.length, reply.recordSize * Math.floor((room - end) / reply.recordSize));
      flags |= FLAG.AA | (fit < reply.body.length ? FLAG.TC : 0);
      counts = { answer: fit / reply.recordSize, authority: 0, additional: 0 };
      end = writeRotated(reply.body, reply.recordSize, fit, end, random);
      break;
    }
    case 'negative': {
      flags |= FLAG.AA;
      rcode = reply.rcode;
      const { body, pointers } = reply.zone.negative;
      scratch.write(body, end, 'latin1');
      const zoneAt = HEADER_SIZE + query.name.length - reply.zone.origin.length;
      for (const pointer of pointers) scratch.writeUInt16BE(POINTER | zoneAt, end + pointer);
      end += body.length;
      counts = { answer: 0, authority: 1, additional: 0 };
      break;
    }
    case 'records': {
      const written = writeRecords(query, reply.origin, [reply.answer, [], reply.additional], end, room, random);
      flags |= FLAG.AA | (written.truncated ? FLAG.TC : 0);
      counts = written;
      end = written.end;
      break;
    }
    case 'message': {
      const sections = [reply.answer, reply.authority, reply.additional] as const;
      const written = writeRecords(query, ROOT, sections, end, room, reply.rcode === RCODE.NOERROR ? random : NO_TURNS);
      flags |= reply.flags | (written.truncated ? FLAG.TC : 0);
      rcode = reply.rcode;
      counts = written;
      end = written.end;
      break;
    }
    case 'code':
      rcode = reply.rcode;
      break;
  }
  return finish(query.id, flags, rcode, 1, counts, edns, end, options);
}

/** What a server adds to the OPT record of its replies. */
export interface EdnsExtras {
  /** For those who ask (RFC 5001). */
  readonly nsid: string;
}

export const OPTION_NSID = 3;
const OPTION_EDE = 15;
const EXPLAINING_EDNS: Edns = { udpSize: 4096, dnssecOk: true, version: 0, wantsNsid: false };
const NO_TURNS = (): number => 0;

function optionsOf(query: Query, reply: Reply, extras: EdnsExtras | undefined): string {
  let options = '';
  if (reply.kind === 'message' && reply.ede) options += option(OPTION_EDE, uint16(reply.ede.code) + reply.ede.text);
  if (extras && query.edns?.wantsNsid) options += nsidOption(extras);
  return options;
}

export function nsidOption({ nsid }: EdnsExtras): string {
  return option(OPTION_NSID, nsid);
}

function option(code: number, data: string): string {
  return uint16(code) + uint16(data.length) + data;
}

/** The packet for what could not be taken as a query; undefined when nothing is answered. */
export function encodeRefusal(refusal: Refusal): Buffer | undefined {
  if (refusal.kind === 'drop') return undefined;
  const { question } = refusal;
  const end = question ? writeQuestion(question) : HEADER_SIZE;
  // The opcode is repeated (RFC 1035 section 4.1.1): bits 11 to 14.
  const flags = FLAG.QR | (refusal.flags & (FLAG.RD | 0x7800));
  return finish(refusal.id, flags, refusal.rcode, question ? 1 : 0, NO_RECORDS, refusal.edns, end);
}

interface Counts {
  readonly answer: number;
  readonly authority: number;
  readonly additional: number;
}

const NO_RECORDS: Counts = { answer: 0, authority: 0, additional: 0 };

function writeQuestion(question: Pick<Query, 'name' | 'type' | 'klass'>): number {
  const end = HEADER_SIZE + scratch.write(question.name, HEADER_SIZE, 'latin1');
  scratch.writeUInt16BE(question.type, end);
  scratch.writeUInt16BE(question.klass, end + 2);
  return end + 4;
}

/** The reply's OPT repeats the client's size and DO bit, and carries the upper bits of the code. */
function finish(
  id: number,
  flags: number,
  rcode: number,
  questions: number,
  counts: Counts,
  edns: Edns | undefined,
  bodyEnd: number,
  options = '',
): Buffer {
  let end = bodyEnd;
  if (edns) {
    scratch[end] = 0;
    scratch.writeUInt16BE(RR.OPT, end + 1);
    scratch.writeUInt16BE(edns.udpSize, end + 3);
    scratch.writeUInt32BE(((rcode >> 4) << 24) | (edns.dnssecOk ? 0x8000 : 0), end + 5);
    scratch.writeUInt16BE(options.length, end + 9);
    end += OPT_SIZE;
    if (options !== '') end += scratch.write(options, end, 'latin1');
  }
  scratch.writeUInt16BE(id, 0);
  scratch.writeUInt16BE(flags | (rcode & 0xf), 2);
  scratch.writeUInt16BE(questions, 4);
  scratch.writeUInt16BE(counts.answer, 6);
  scratch.writeUInt16BE(counts.authority, 8);
  scratch.writeUInt16BE(counts.additional + (edns ? 1 : 0), 10);
  const packet = Buffer.allocUnsafe(end);
  scratch.copy(packet, 0, 0, end);
  return packet;
}

function writeRotated(body: string, recordSize: number, fit: number, at: number, random: () => number): number {
  const count = body.length / recordSize;
  const first = count > 1 ? Math.floor(random() * count) * recordSize : 0;
  const turned = first === 0 ? body : body.slice(first) + body.slice(0, first);
  return at + scratch.write(fit === body.length ? turned : turned.slice(0, fit), at, 'latin1');
}

type Sections = readonly [
  answer: readonly ResourceRecord[],
  authority: readonly ResourceRecord[],
  additional: readonly ResourceRecord[],
];

/** The sections in order, until the room is used up. */
function writeRecords(
  query: Query,
  origin: DnsName,
  sections: Sections,
  start: number,
  room: number,
  random: () => number,
): Counts & { readonly end: number; readonly truncated: boolean } {
  const writer = new RecordWriter(query, origin, start);
  const counts = [0, 0, 0];
  const done = (truncated: boolean) => {
    const [answer = 0, authority = 0, additional = 0] = counts;
    return { answer, authority, additional, end: writer.end, truncated };
  };
  for (let i = 0; i < 3; i++) {
    const section = sections[i] ?? [];
    for (const record of i === 0 ? rotated(section, random) : section) {
      if (!writer.write(record, room)) return done(true);
      counts[i] = (counts[i] ?? 0) + 1;
    }
  }
  return done(false);
}

/** How many beginnings a reply is kept with, at most. */
const MOST_TURNS = 8;

/** How many packets a reply makes that differ in the address in front; more than a few are stood for by a few. */
export function turnsOf(reply: Reply): number {
  switch (reply.kind) {
    case 'addresses':
      return Math.min(MOST_TURNS, reply.body.length / reply.recordSize);
    case 'records':
    case 'message': {
      const { answer } = reply;
      let addresses = 0;
      while (isAddress(answer[answer.length - 1 - addresses])) addresses++;
      return Math.min(MOST_TURNS, Math.max(1, addresses));
    }
    case 'negative':
    case 'code':
      return 1;
  }
}

/** Turns the addresses at the end of an answer; CNAMEs stay in front, other types stay as they are. */
function rotated(records: readonly ResourceRecord[], random: () => number): readonly ResourceRecord[] {
  let start = records.length;
  while (start > 0 && isAddress(records[start - 1])) start--;
  const count = records.length - start;
  if (count < 2) return records;
  const first = start + Math.floor(random() * count);
  return [...records.slice(0, start), ...records.slice(first), ...records.slice(start, first)];
}

function isAddress(record: ResourceRecord | undefined): boolean {
  return record?.type === RR.A || record?.type === RR.AAAA;
}

/** Writes records into the scratch message with name compression (RFC 1035 section 4.1.4), exact in case. */
class RecordWriter {
  end: number;
  readonly #question: DnsName;
  readonly #klass: number;
  readonly #origin: DnsName;
  /** The zone as the question spells it; undefined when the question is not in the zone. */
  readonly #originAsAsked: string | undefined;
  readonly #offsets = new Map<string, number>();

  constructor(query: Query, origin: DnsName, start: number) {
    this.end = start;
    this.#question = query.name;
    this.#klass = query.klass;
    this.#origin = origin;
    const at = originAt(query.key, origin);
    this.#originAsAsked = at < 0 ? undefined : query.name.slice(at);
    for (let i = 0; i < query.name.length - 1; i += 1 + query.name.charCodeAt(i))
      this.#offsets.set(query.name.slice(i), HEADER_SIZE + i);
  }

  /** False, with nothing written, when the record does not fit into `room` bytes of message. */
  write(record: ResourceRecord, room: number): boolean {
    const start = this.end;
    // Uncompressed size bounds what is written; only near the limit does it matter that it is less.
    const bound = start + (record.owner ?? this.#question).length + 10 + record.data.length;
    if (bound > MAX_MESSAGE_SIZE) return false;
    this.#name(record.owner === undefined ? this.#question : this.#spelled(record.owner), true);
    scratch.writeUInt16BE(record.type, this.end);
    scratch.writeUInt16BE(this.#klass, this.end + 2);
    scratch.writeUInt32BE(record.ttl, this.end + 4);
    const lengthAt = this.end + 8;
    this.end += 10;
    this.#data(record);
    scratch.writeUInt16BE(this.end - lengthAt - 2, lengthAt);
    if (this.end <= room) return true;
    this.end = start;
    return false;
  }

  #data(record: ResourceRecord): void {
    const shape = dataShape(record.type);
    let at = shape?.before ?? record.data.length;
    this.#bytes(record.data.slice(0, at));
    for (let i = 0; i < (shape?.names ?? 0); i++) {
      let end = at;
      while (record.data.charCodeAt(end) > 0) end += 1 + record.data.charCodeAt(end);
      this.#name(this.#spelled(record.data.slice(at, end + 1) as DnsName), shape?.compress ?? false);
      at = end + 1;
    }
    this.#bytes(record.data.slice(at));
  }

  #spelled(name: DnsName): DnsName {
    if (this.#originAsAsked === undefined || this.#originAsAsked === this.#origin) return name;
    const at = originAt(lowerName(name), this.#origin);
    return at < 0 ? name : ((name.slice(0, at) + this.#originAsAsked) as DnsName);
  }

  #name(name: DnsName, compress: boolean): void {
    let at = 0;
    while (at < name.length - 1) {
      const suffix = name.slice(at);
      const known = compress ? this.#offsets.get(suffix) : undefined;
      if (known !== undefined) {
        scratch.writeUInt16BE(POINTER | known, this.end);
        this.end += 2;
        return;
      }
      if (this.end <= MAX_POINTER && !this.#offsets.has(suffix)) this.#offsets.set(suffix, this.end);
      const next = at + 1 + name.charCodeAt(at);
      this.#bytes(name.slice(at, next));
      at = next;
    }
    scratch[this.end++] = 0;
  }

  #bytes(bytes: string): void {
    this.end += scratch.write(bytes, this.end, 'latin1');
  }
}
