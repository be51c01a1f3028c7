// Answers as text, for scenarios, `explain` and tests: through the same chain and codec as over a socket.

import { ipFromBytes } from '../lib/ip.ts';
import { chainOf, messageOf, refuse, type Asked } from './handler.ts';
import { kubernetesHandler } from './kubernetes-handler.ts';
import type { OwnedRecord } from './wire/message.ts';
import { lowerName, nameText, parseName, type DnsName } from './wire/name.ts';
import type { Query } from './wire/query.ts';
import { CLASS_IN, rcodeName, RR, typeCode, typeName } from './wire/types.ts';
import type { Zone } from './zone/zone.ts';

export interface TextAnswer {
  /** `NOERROR`, `NXDOMAIN`, … */
  readonly rcode: string;
  /** `name. ttl IN TYPE data` each, as the sections below. */
  readonly answers: readonly string[];
  readonly authority: readonly string[];
  readonly additional: readonly string[];
}

/**
 * Asks the Zone without sockets and without upstream servers: names that only these know answer REFUSED, and an
 * ExternalName that leads outside answers its CNAME alone. Undefined when `name` or `type` is none.
 */
export function resolveName(zone: Zone, name: string, type: string): TextAnswer | undefined {
  const wire = parseName(name);
  const code = typeCode(type);
  if (!wire || code === undefined) return undefined;
  const query: Query = {
    kind: 'query',
    id: 0,
    flags: 0,
    name: wire,
    key: lowerName(wire),
    type: code,
    klass: CLASS_IN,
    edns: undefined,
  };
  const handle = chainOf([kubernetesHandler({ zone: () => zone, resolveOutside: undefined, fallthrough: [] })], refuse);
  // Over TCP nothing is cut; the order is the compiled one.
  const asked: Asked = { query, transport: 'tcp', client: undefined, by: '' };
  const outcome = handle(asked);
  if (outcome instanceof Promise) throw new Error('nothing in this chain waits');
  const message = messageOf(asked, outcome);
  if (!message) throw new Error(`made an answer for ${name} that cannot be read`);
  return {
    rcode: rcodeName(message.rcode),
    answers: message.answer.map(recordText),
    authority: message.authority.map(recordText),
    additional: message.additional.map(recordText),
  };
}

/** `name. ttl IN TYPE data`, the data in the form of a zone file; RFC 3597 form for types without one here. */
export function recordText(record: OwnedRecord): string {
  const klass = record.klass === CLASS_IN ? 'IN' : `CLASS${record.klass}`;
  return `${nameText(record.owner)} ${record.ttl} ${klass} ${typeName(record.type)} ${dataText(record)}`;
}

function dataText({ type, data }: OwnedRecord): string {
  const bytes = Buffer.from(data, 'latin1');
  switch (type) {
    case RR.A:
    case RR.AAAA:
      return ipFromBytes(bytes);
    case RR.NS:
    case RR.CNAME:
    case RR.PTR:
      return nameText(data as DnsName);
    case RR.MX:
      return `${bytes.readUInt16BE(0)} ${nameText(data.slice(2) as DnsName)}`;
    case RR.SRV:
      return `${[0, 2, 4].map((at) => bytes.readUInt16BE(at)).join(' ')} ${nameText(data.slice(6) as DnsName)}`;
    case RR.SOA:
      return soaText(data, bytes);
    case RR.TXT:
      return txtText(data);
    default:
      return `\\# ${bytes.length} ${bytes.toString('hex')}`;
  }
}

function soaText(data: string, bytes: Buffer): string {
  const numbersAt = bytes.length - 20;
  const mailboxAt = nameEnd(data, 0);
  const names = [data.slice(0, mailboxAt), data.slice(mailboxAt, numbersAt)].map((name) => nameText(name as DnsName));
  return [...names, ...[0, 4, 8, 12, 16].map((at) => bytes.readUInt32BE(numbersAt + at))].join(' ');
}

function nameEnd(data: string, start: number): number {
  let at = start;
  while (data.charCodeAt(at) > 0) at += 1 + data.charCodeAt(at);
  return at + 1;
}

function txtText(data: string): string {
  const strings: string[] = [];
  for (let at = 0; at < data.length; at += 1 + data.charCodeAt(at)) {
    const text = data.slice(at + 1, at + 1 + data.charCodeAt(at));
    strings.push(`"${text.replace(/["\\]/g, '\\$&').replace(/[^ -~]/g, escapeByte)}"`);
  }
  return strings.join(' ');
}

function escapeByte(char: string): string {
  return `\\${String(char.charCodeAt(0)).padStart(3, '0')}`;
}
