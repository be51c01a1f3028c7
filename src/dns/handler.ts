// The chain that answers: plugins in order, each of which answers a question, or hands it on and may change what comes back.

import { readOptions, writeOptions } from './edns-option.ts';
import { encodeReply, nsidOption, OPT_SIZE, OPTION_NSID, sizeLimit, type EdnsExtras } from './encode.ts';
import type { Keep } from './kept-answers.ts';
import type { Reply } from './reply.ts';
import { cutTo, parseMessage, type Message } from './wire/message.ts';
import type { ResourceRecord } from './wire/record.ts';
import { readName } from './wire/name.ts';
import { FLAG, HEADER_SIZE, MAX_MESSAGE_SIZE, RCODE, RR } from './wire/types.ts';
import type { Query } from './wire/query.ts';

export type Transport = 'udp' | 'tcp';

export interface Peer {
  readonly address: string;
  readonly port: number;
}

export interface Asked {
  readonly query: Query;
  /** Where it came in, and how large it was; undefined for questions of our own. */
  readonly arrived?: { readonly address: string; readonly port: number; readonly size: number };
  readonly transport: Transport;
  /** What plugins say of the question by label, where the block has `metadata`. */
  metadata?: Map<string, string>;
  /** Who asks; undefined for questions of our own, such as where an ExternalName leads. */
  readonly client: Peer | undefined;
  /** How many questions led to this one; none for a client's own. */
  readonly steps?: number;
  /** The plugin that has the question: the one that answered, once it is answered. */
  by: string;
}

export type Outcome =
  | {
      readonly kind: 'reply';
      readonly reply: Reply;
      /** Why it is a failure, for the log of `errors`. */
      readonly why?: string;
      /** Set by those whose answer may be given again to whoever asks in the same bytes. */
      readonly keep?: Keep;
    }
  /** A whole message from elsewhere with the client's question in it. Its id and size are seen to later. */
  | { readonly kind: 'packet'; readonly packet: Buffer; readonly keep?: Keep }
  /** A transfer: several messages one after the other, over TCP. At least one. */
  | { readonly kind: 'messages'; readonly packets: readonly Buffer[] }
  /** No answer at all. */
  | { readonly kind: 'silence' };

export type Answer = Outcome | Promise<Outcome>;

export type Handle = (asked: Asked) => Answer;

export interface Handler {
  readonly name: string;
  /**
   * Whether what it does with a question and with its answer depends on nothing but the question's bytes: then answers
   * that come from behind it may be given again without asking it. Not who asks, not when, nothing counted or logged.
   */
  readonly byQuestion?: true;
  /** At once where that can be; a promise that never rejects where others have to be asked. */
  handle(asked: Asked, next: Handle): Answer;
}

const REFUSED: Outcome = { kind: 'reply', reply: { kind: 'code', rcode: RCODE.REFUSED } };
const NOBODY: Outcome = {
  kind: 'reply',
  reply: { kind: 'code', rcode: RCODE.SERVFAIL },
  why: 'no plugin of the server block answers this name',
};

/** The ends of chains: nothing there to answer (REFUSED), and nothing that did (SERVFAIL). */
export const refuse: Handle = () => REFUSED;
export const nobodyAnswered: Handle = () => NOBODY;

/** The handlers as one function, `end` behind the last. */
export function chainOf(handlers: readonly Handler[], end: Handle): Handle {
  return handlers.reduceRight<Handle>((next, handler) => {
    const behind = handler.byQuestion ? next : (asked: Asked) => changed(next(asked), notKept);
    return (asked) => {
      asked.by = handler.name;
      return handler.handle(asked, behind);
    };
  }, end);
}

function notKept(outcome: Outcome): Outcome {
  if (outcome.kind === 'silence' || outcome.kind === 'messages' || !outcome.keep) return outcome;
  const { keep: _, ...once } = outcome;
  return once;
}

/** Changes what comes back, now or later. */
export function changed(answer: Answer, change: (outcome: Outcome) => Outcome): Answer {
  return answer instanceof Promise ? answer.then(change) : change(answer);
}

/** The packet for an outcome, within the client's size; undefined for silence. */
export function packetOf(
  asked: Asked,
  outcome: Outcome,
  random: () => number,
  extras?: EdnsExtras,
): Buffer | undefined {
  switch (outcome.kind) {
    case 'reply':
      return encodeReply(asked.query, outcome.reply, sizeLimit(asked.query.edns, asked.transport), random, extras);
    case 'packet':
      return forClient(outcome.packet, asked, extras);
    case 'messages':
      return outcome.packets[0];
    case 'silence':
      return undefined;
  }
}

/** The outcome as a message, whole; for plugins that look into answers or change them. Undefined for silence, transfers and what cannot be read. */
export function messageOf(asked: Asked, outcome: Outcome): Message | undefined {
  switch (outcome.kind) {
    case 'reply':
      return parseMessage(encodeReply(asked.query, outcome.reply, MAX_MESSAGE_SIZE, () => 0));
    case 'packet':
      return parseMessage(outcome.packet);
    case 'messages':
    case 'silence':
      return undefined;
  }
}

/** The reply that says what a message says. */
export function replyOf(message: {
  readonly flags: number;
  readonly rcode: number;
  readonly answer: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
}): Reply {
  const { flags, rcode, answer, authority, additional } = message;
  return {
    kind: 'message',
    flags: flags & (FLAG.AA | FLAG.TC | FLAG.RA | FLAG.AD),
    rcode,
    answer,
    authority,
    additional,
  };
}

/** Another's message with the client's id, spelling and EDNS: the OPT record speaks of this hop alone (RFC 6891 section 6.1.1). */
function forClient(message: Buffer, asked: Asked, extras: EdnsExtras | undefined): Buffer {
  const { query, transport } = asked;
  const limit = sizeLimit(query.edns, transport);
  const fits = message.length <= limit;
  const copy = fits ? Buffer.from(message) : cutTo(message, limit - (query.edns ? OPT_SIZE : 0));
  const packet = ednsOf(copy, query, extras, fits);
  packet.writeUInt16BE(query.id, 0);
  packet.write(query.name, HEADER_SIZE, 'latin1');
  return packet;
}

/** The packet, or one with room for more, with the client's OPT record at its end; the options of another's stay. */
function ednsOf(packet: Buffer, query: Query, extras: EdnsExtras | undefined, whole: boolean): Buffer {
  const { edns } = query;
  if (!edns) return packet;
  const at = whole ? optAt(packet) : -1;
  const out = at < 0 ? withEdns(packet, query) : packet;
  const opt = at < 0 ? packet.length : at;
  out.writeUInt16BE(edns.udpSize, opt + 3);
  // The upper bits of the code stay.
  out[opt + 6] = 0;
  out.writeUInt16BE(edns.dnssecOk ? 0x8000 : 0, opt + 7);
  const isLast = opt + OPT_SIZE + out.readUInt16BE(opt + 9) === out.length;
  if (!extras || !edns.wantsNsid || !isLast) return out;
  // This server's name, in the place of that of the one behind it.
  const others = readOptions(out.toString('latin1', opt + OPT_SIZE)).filter(({ code }) => code !== OPTION_NSID);
  const options = writeOptions(others) + nsidOption(extras);
  out.writeUInt16BE(options.length, opt + 9);
  return Buffer.concat([out.subarray(0, opt + OPT_SIZE), Buffer.from(options, 'latin1')]);
}

/** Where the OPT record stands; -1 for none, and for what cannot be read. */
function optAt(packet: Buffer): number {
  let at = HEADER_SIZE;
  for (let left = packet.readUInt16BE(4); left > 0; left--) {
    const name = readName(packet, at, packet.length);
    if (!name) return -1;
    at = name.end + 4;
  }
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10);
  for (let i = 0; i < records; i++) {
    const owner = readName(packet, at, packet.length);
    if (!owner || owner.end + 10 > packet.length) return -1;
    if (packet.readUInt16BE(owner.end) === RR.OPT && owner.end === at + 1) return at;
    at = owner.end + 10 + packet.readUInt16BE(owner.end + 8);
  }
  return -1;
}

/** Adds the OPT record of a reply (RFC 6891) to a message that has none, in place of a message of another. */
export function withEdns(message: Buffer, query: Query): Buffer {
  const { edns } = query;
  if (!edns) return message;
  const packet = Buffer.alloc(message.length + OPT_SIZE);
  message.copy(packet);
  packet.writeUInt16BE(RR.OPT, message.length + 1);
  packet.writeUInt16BE(edns.udpSize, message.length + 3);
  packet[message.length + 7] = edns.dnssecOk ? 0x80 : 0;
  packet.writeUInt16BE(packet.readUInt16BE(10) + 1, 10);
  return packet;
}
