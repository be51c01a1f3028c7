// The chain that answers: handlers in order, each of which answers a question or passes it on.

import { encodeReply, sizeLimit } from './encode.ts';
import type { Reply } from './reply.ts';
import { CLASS_IN, RCODE } from './wire/types.ts';
import type { Query } from './wire/query.ts';

export type Transport = 'udp' | 'tcp';

export interface Asked {
  readonly query: Query;
  readonly transport: Transport;
}

export type Outcome =
  | { readonly kind: 'reply'; readonly reply: Reply }
  /** A whole message from elsewhere with the client's id and question, within the client's size. */
  | { readonly kind: 'packet'; readonly packet: Buffer }
  | { readonly kind: 'pass' };

export interface Handler {
  readonly name: string;
  /** At once where that can be; a promise that never rejects where others have to be asked. */
  handle(asked: Asked): Outcome | Promise<Outcome>;
}

export interface Answered {
  readonly packet: Buffer;
  /** The handler that answered. */
  readonly by: string;
}

export const PASS: Outcome = { kind: 'pass' };

/** Refuses; the end of every chain. */
export const refuse: Handler = {
  name: 'refuse',
  handle: () => ({ kind: 'reply', reply: { kind: 'code', rcode: RCODE.REFUSED } }),
};

/** Asks the handlers in order. A class other than IN is nobody's (REFUSED). */
export function answerWith(
  chain: readonly Handler[],
  asked: Asked,
  random: () => number,
  from = 0,
): Answered | Promise<Answered> {
  const start = asked.query.klass === CLASS_IN ? from : chain.length;
  for (let i = start; i < chain.length; i++) {
    const handler = chain[i] ?? refuse;
    const outcome = handler.handle(asked);
    if (outcome instanceof Promise) {
      return outcome.then((later) =>
        later.kind === 'pass'
          ? answerWith(chain, asked, random, i + 1)
          : { packet: packetOf(asked, later, random), by: handler.name },
      );
    }
    if (outcome.kind !== 'pass') return { packet: packetOf(asked, outcome, random), by: handler.name };
  }
  const refused: Outcome = { kind: 'reply', reply: { kind: 'code', rcode: RCODE.REFUSED } };
  return { packet: packetOf(asked, refused, random), by: refuse.name };
}

function packetOf(asked: Asked, outcome: Exclude<Outcome, { kind: 'pass' }>, random: () => number): Buffer {
  if (outcome.kind === 'packet') return outcome.packet;
  return encodeReply(asked.query, outcome.reply, sizeLimit(asked.query.edns, asked.transport), random);
}
