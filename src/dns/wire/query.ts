// Reading a query. What cannot be answered is a value that says how to refuse it, never an exception.

import { CLASS_IN, FLAG, HEADER_SIZE, RCODE, RR } from './types.ts';
import { lowerName, readName, skipPlainName, type DnsName } from './name.ts';

export interface Edns {
  /** What the client can take over UDP, as it says. */
  readonly udpSize: number;
  readonly dnssecOk: boolean;
  readonly version: number;
  /** Whether the server's name is asked for (RFC 5001). */
  readonly wantsNsid: boolean;
  /** The data of the OPT record, one character a byte; left out where it is empty. */
  readonly options?: string;
}

export interface Query {
  readonly kind: 'query';
  readonly id: number;
  /** The header's second word as asked. */
  readonly flags: number;
  /** As asked; the reply repeats its case. */
  readonly name: DnsName;
  /** In lower case. */
  readonly key: DnsName;
  readonly type: number;
  readonly klass: number;
  readonly edns: Edns | undefined;
  /** The version that an IXFR query has already (RFC 1995 section 3). */
  readonly serial?: number;
}

/** A packet that is not answered at all, or one that is answered with a code alone. */
export type Refusal =
  | { readonly kind: 'drop'; readonly reason: 'too-short' | 'not-a-query' }
  | {
      readonly kind: 'refuse';
      readonly rcode: number;
      readonly id: number;
      readonly flags: number;
      /** The question, where it could be read. */
      readonly question: Pick<Query, 'name' | 'type' | 'klass'> | undefined;
      readonly edns: Edns | undefined;
    };

const OPCODE_MASK = 0x7800;
/** An IXFR query carries a SOA there; nothing else is at home in a query's sections (as CoreDNS accepts). */
const MOST_RECORDS = { answer: 1, authority: 1, additional: 2 };

/**
 * Parses one packet of `length` bytes. Dropped: less than a header, and replies (answering one invites a loop).
 * FORMERR: not exactly one question, a malformed name or section, two OPT records (RFC 6891 section 6.1.1).
 * NOTIMP: any opcode but QUERY. BADVERS: an EDNS version other than 0.
 */
export function parseQuery(packet: Buffer, length = packet.length): Query | Refusal {
  if (length < HEADER_SIZE) return { kind: 'drop', reason: 'too-short' };
  const id = packet.readUInt16BE(0);
  const flags = packet.readUInt16BE(2);
  if (flags & FLAG.QR) return { kind: 'drop', reason: 'not-a-query' };
  const refuse = (rcode: number, question?: Query, edns?: Edns): Refusal => ({
    kind: 'refuse',
    rcode,
    id,
    flags,
    question,
    edns,
  });
  if (flags & OPCODE_MASK) return refuse(RCODE.NOTIMP);
  if (packet.readUInt16BE(4) !== 1) return refuse(RCODE.FORMERR);
  const end = skipPlainName(packet, HEADER_SIZE, length);
  if (end < 0 || end + 4 > length) return refuse(RCODE.FORMERR);
  const name = packet.toString('latin1', HEADER_SIZE, end) as DnsName;
  const question: Query = {
    kind: 'query',
    id,
    flags,
    name,
    key: lowerName(name),
    type: packet.readUInt16BE(end),
    klass: packet.readUInt16BE(end + 2),
    edns: undefined,
  };
  // The counts of the three other sections, all zero in most queries without EDNS.
  if (packet.readUInt32BE(6) === 0 && packet.readUInt16BE(10) === 0) return question;
  const edns = readSections(packet, end + 4, length);
  if (edns === 'malformed') return refuse(RCODE.FORMERR, question);
  if (edns && edns.version !== 0) return refuse(RCODE.BADVERS, question, edns);
  if (question.type !== RR.IXFR) return { ...question, edns };
  const serial = serialOf(packet, end + 4, length);
  return serial === undefined ? { ...question, edns } : { ...question, edns, serial };
}

/** Of the SOA record in the Authority section of a query whose sections have been read. */
function serialOf(packet: Buffer, start: number, length: number): number | undefined {
  if (packet.readUInt16BE(6) !== 0 || packet.readUInt16BE(8) !== 1) return undefined;
  const fixed = readName(packet, start, length)?.end ?? length;
  const end = fixed + 10 + packet.readUInt16BE(fixed + 8);
  return packet.readUInt16BE(fixed) === RR.SOA && end - fixed >= 30 ? packet.readUInt32BE(end - 20) : undefined;
}

function readSections(packet: Buffer, start: number, length: number): Edns | undefined | 'malformed' {
  const answer = packet.readUInt16BE(6);
  const authority = packet.readUInt16BE(8);
  const additional = packet.readUInt16BE(10);
  if (answer > MOST_RECORDS.answer || authority > MOST_RECORDS.authority || additional > MOST_RECORDS.additional)
    return 'malformed';
  let edns: Edns | undefined;
  let at = start;
  const first = answer + authority;
  for (let i = 0; i < first + additional; i++) {
    const owner = readName(packet, at, length);
    if (!owner || owner.end + 10 > length) return 'malformed';
    const fixed = owner.end;
    const data = fixed + 10;
    const end = data + packet.readUInt16BE(fixed + 8);
    if (end > length) return 'malformed';
    if (packet.readUInt16BE(fixed) === RR.OPT) {
      if (edns || i < first || owner.name.length !== 1 || !optionsFit(packet, data, end)) return 'malformed';
      edns = {
        udpSize: packet.readUInt16BE(fixed + 2),
        version: packet[fixed + 5] ?? 0,
        dnssecOk: ((packet[fixed + 6] ?? 0) & 0x80) !== 0,
        wantsNsid: hasOption(packet, data, end, OPTION_NSID),
        ...(end > data ? { options: packet.toString('latin1', data, end) } : {}),
      };
    }
    at = end;
  }
  return edns;
}

/** RFC 6891 section 6.1.2: code, length, data, again and again. */
function optionsFit(packet: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    if (at + 4 > end) return false;
    at += 4 + packet.readUInt16BE(at + 2);
  }
  return at === end;
}

const OPTION_NSID = 3;

function hasOption(packet: Buffer, start: number, end: number, code: number): boolean {
  for (let at = start; at + 4 <= end; at += 4 + packet.readUInt16BE(at + 2))
    if (packet.readUInt16BE(at) === code) return true;
  return false;
}

/** A question as a packet, for upstreams and for tests. `udpSize` undefined leaves EDNS out. */
export function encodeQuery(query: {
  readonly id: number;
  readonly flags: number;
  readonly name: DnsName;
  readonly type: number;
  readonly klass?: number;
  readonly udpSize?: number | undefined;
  readonly dnssecOk?: boolean;
  /** The data of its OPT record. */
  readonly options?: string;
}): Buffer {
  const options = query.options ?? '';
  const nameEnd = HEADER_SIZE + query.name.length;
  const packet = Buffer.alloc(nameEnd + 4 + (query.udpSize === undefined ? 0 : 11 + options.length));
  packet.writeUInt16BE(query.id, 0);
  packet.writeUInt16BE(query.flags, 2);
  packet.writeUInt16BE(1, 4);
  packet.write(query.name, HEADER_SIZE, 'latin1');
  packet.writeUInt16BE(query.type, nameEnd);
  packet.writeUInt16BE(query.klass ?? CLASS_IN, nameEnd + 2);
  if (query.udpSize !== undefined) {
    packet.writeUInt16BE(1, 10);
    packet.writeUInt16BE(RR.OPT, nameEnd + 5);
    packet.writeUInt16BE(query.udpSize, nameEnd + 7);
    packet[nameEnd + 11] = query.dnssecOk ? 0x80 : 0;
    packet.writeUInt16BE(options.length, nameEnd + 13);
    packet.write(options, nameEnd + 15, 'latin1');
  }
  return packet;
}
