// Answers of plugins that make their own records.

import { replyOf, type Outcome } from './handler.ts';
import type { Message } from './wire/message.ts';
import { lowerName, type DnsName } from './wire/name.ts';
import { FLAG, RCODE, RR } from './wire/types.ts';
import type { ResourceRecord } from './wire/record.ts';

interface Parts {
  readonly rcode?: number;
  readonly answer?: readonly ResourceRecord[];
  readonly authority?: readonly ResourceRecord[];
  readonly additional?: readonly ResourceRecord[];
  readonly ede?: { readonly code: number; readonly text: string };
  /** False for what is nobody's zone. */
  readonly authoritative?: boolean;
}

/** An answer with these sections, authoritative where nothing else is said. */
export function answered(parts: Parts): Outcome {
  const { rcode = RCODE.NOERROR, answer = [], authority = [], additional = [], ede, authoritative = true } = parts;
  const flags = authoritative ? FLAG.AA : 0;
  return {
    kind: 'reply',
    reply: { kind: 'message', rcode, flags, answer, authority, additional, ...(ede ? { ede } : {}) },
  };
}

/** A code alone. */
export function coded(rcode: number, why?: string): Outcome {
  return { kind: 'reply', reply: { kind: 'code', rcode }, ...(why === undefined ? {} : { why }) };
}

/** The answer to another name as that to `name`: a CNAME in front leads to the name that has the records. */
export function cnameFirst(name: DnsName, message: Message): Outcome {
  const key = lowerName(name);
  const target = message.answer.find(({ owner }) => lowerName(owner) !== key);
  const cname = target && { owner: name, type: RR.CNAME, ttl: target.ttl, data: target.owner };
  return { kind: 'reply', reply: replyOf({ ...message, answer: [...(cname ? [cname] : []), ...message.answer] }) };
}
