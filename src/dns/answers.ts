// Answers of plugins that make their own records.

import type { Outcome } from './handler.ts';
import { FLAG, RCODE } from './wire/types.ts';
import type { ResourceRecord } from './wire/record.ts';

interface Parts {
  readonly rcode?: number;
  readonly answer?: readonly ResourceRecord[];
  readonly authority?: readonly ResourceRecord[];
  readonly additional?: readonly ResourceRecord[];
  readonly ede?: { readonly code: number; readonly text: string };
}

/** An authoritative answer with these sections. */
export function answered({ rcode = RCODE.NOERROR, answer = [], authority = [], additional = [], ede }: Parts): Outcome {
  return {
    kind: 'reply',
    reply: { kind: 'message', rcode, flags: FLAG.AA, answer, authority, additional, ...(ede ? { ede } : {}) },
  };
}

/** A code alone. */
export function coded(rcode: number, why?: string): Outcome {
  return { kind: 'reply', reply: { kind: 'code', rcode }, ...(why === undefined ? {} : { why }) };
}
