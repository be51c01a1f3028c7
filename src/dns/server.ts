// One packet in, one packet out: parsing, the server block's chain, encoding, counting, and the log of queries.

import type { Logger } from '../observe/log.ts';
import type { Timeouts } from './block.ts';
import { encodeRefusal, encodeReply, OPT_SIZE, sizeLimit, turnsOf } from './encode.ts';
import { packetOf, refuse, type Answer, type Asked, type Outcome, type Peer, type Transport } from './handler.ts';
import { KeptAnswers, MOST_KEPT_BYTES } from './kept-answers.ts';
import type { DnsMetrics, ServerMetrics } from './metrics.ts';
import { queryLine } from './query-log.ts';
import type { Route, Routes } from './route.ts';
import type { Clock } from '../system/clock.ts';
import { nameText } from './wire/name.ts';
import { parseQuery, type Query, type Refusal } from './wire/query.ts';
import { CLASS_IN, HEADER_SIZE, RCODE, rcodeName, typeName } from './wire/types.ts';

export interface ServerOptions {
  readonly log: Logger;
  readonly metrics: DnsMetrics;
  readonly clock: Pick<Clock, 'monotonic' | 'after'>;
}

/** What answers at one address; replaced as a whole when the configuration changes. */
export interface Site {
  routes: Routes;
  /** Grows with every change of what is answered. */
  version: number;
  /** As a block there says; the listener's own where it says nothing. */
  timeouts?: Timeouts | undefined;
}

export interface Arrival {
  readonly transport: Transport;
  readonly ipv6: boolean;
  /** Of the listener. */
  readonly address: string;
  readonly port: number;
  /** The counters of the address it came in on. */
  readonly metrics: ServerMetrics;
  readonly site: Site;
  readonly kept: KeptAnswers;
}

/** One message, or those of a transfer (over TCP only); undefined for none. */
export type Answered = Buffer | readonly Buffer[] | undefined;

export interface DnsServer {
  /**
   * Answers a packet: at once, by a promise that never rejects where others have to be asked, or not at all
   * (undefined) for what is no query and for what is dropped. Never throws. The answer is lent: it may be written over
   * at the next call with the same arrival.
   */
  receive(packet: Buffer, arrival: Arrival, from: Peer): Answered | Promise<Answered>;
  /** Resolves when no query waits for others any more. */
  idle(): Promise<void>;
  /** Resolves when those that wait now are answered, whatever comes meanwhile. */
  underWay(): Promise<void>;
}

const NO_ZONE = 'dropped';

/** One query under way. */
interface Passage {
  readonly asked: Asked;
  readonly route: Route | undefined;
  readonly start: number;
  readonly packet: Buffer;
  readonly arrival: Arrival;
}

/** One answer in so many that are given again is timed, and stands for the others. */
const TIMED = 256;

export function createDnsServer(options: ServerOptions): DnsServer {
  const { clock, log } = options;
  const waiting = new Set<Promise<Answered>>();

  const seconds = ({ start }: { readonly start: number }): number => (clock.monotonic() - start) / 1000;
  let untilTimed = 0;

  const record = (passage: Passage, rcode: number, by: string, answer: Buffer): void => {
    const { arrival, start } = passage;
    arrival.metrics.record({ ...recorded(passage, answer), rcode, by, seconds: seconds({ start }) });
  };

  const finish = (passage: Passage, outcome: Outcome): Answered => {
    const { asked, route } = passage;
    const block = route?.block;
    const packet = written(passage, outcome, block?.random ?? zero);
    if (!packet) return undefined;
    const rcode = (packet[3] ?? 0) & 0xf;
    record(passage, rcode, route ? asked.by : 'refuse', packet);
    if (block && (block.errorLog || block.logs.length > 0)) note(passage, outcome, packet);
    return outcome.kind === 'messages' ? outcome.packets : packet;
  };

  /** Keeps the answer for the next who asks the same, where the chain says that it may be. */
  const keep = (passage: Passage, outcome: Outcome, question: string, answer: Buffer): void => {
    if (outcome.kind === 'silence' || outcome.kind === 'messages' || !outcome.keep || answer.length > MOST_KEPT_BYTES)
      return;
    const { asked, route, arrival, packet } = passage;
    const { query, by } = asked;
    // Spelled at random, or with options such as a cookie: nobody asks in these bytes again.
    if (query.name !== query.key || packet.length !== plainSize(query) || !route || route.block.logs.length > 0) return;
    if (!arrival.site.routes.byQuestion) return;
    if (!arrival.kept.isAskedAgain(packet)) return;
    const turns = outcome.kind === 'reply' && route.block.turns ? turnsOf(outcome.reply) : 1;
    const packets: Buffer[] = [];
    for (let i = 0; i < turns; i++) {
      const turned = turns === 1 ? answer : written(passage, outcome, () => i / turns);
      if (turned) packets.push(Buffer.from(turned));
    }
    const told = { ...recorded(passage, answer), rcode: (answer[3] ?? 0) & 0xf, by };
    arrival.kept.keep(question, { packets, keep: outcome.keep, recorded: told }, arrival.site.version);
  };

  const note = (passage: Passage, outcome: Outcome, packet: Buffer): void => {
    const { asked, route } = passage;
    const { query } = asked;
    if (outcome.kind === 'reply' && outcome.why !== undefined)
      route?.block.errorLog?.(
        `${rcodeName((packet[3] ?? 0) & 0xf)} ${nameText(query.name)} ${typeName(query.type)}`,
        outcome.why,
      );
    const size = passage.packet.length;
    const line = queryLine(route?.block.logs ?? [], { asked, packet, size, seconds: seconds(passage) });
    if (line !== undefined) log.info(line);
  };

  /** A bug of ours: the client gets SERVFAIL, the log says what, and the next packet is answered as ever. */
  const failed = (passage: Passage, error: unknown): Buffer => {
    const { query, transport } = passage.asked;
    options.metrics.panicked();
    log.error('a query failed unexpectedly; please report this', {
      name: nameText(query.name),
      type: typeName(query.type),
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    const answer = encodeReply(query, { kind: 'code', rcode: RCODE.SERVFAIL }, sizeLimit(query.edns, transport), zero);
    record(passage, RCODE.SERVFAIL, '', answer);
    return answer;
  };

  const later = async (passage: Passage, answer: Promise<Outcome>): Promise<Answered> => {
    try {
      const deadline = passage.route?.block.deadlineMs;
      return finish(passage, await (deadline === undefined ? answer : within(clock, answer, deadline)));
    } catch (error) {
      return failed(passage, error);
    }
  };

  const answer = (packet: Buffer, question: string, arrival: Arrival, from: Peer): Answered | Promise<Answered> => {
    const start = clock.monotonic();
    const read = parseQuery(packet);
    if (read.kind !== 'query') return refused(read, packet.length, start, arrival);
    const { transport, site } = arrival;
    const arrived = { address: arrival.address, port: arrival.port, size: packet.length };
    const unbounded: Asked = { query: read, transport, client: from, arrived, by: '' };
    const route = site.routes.find(unbounded);
    const query = bounded(read, route?.block.bufsize);
    const asked: Asked = query === read ? unbounded : { ...unbounded, query };
    const passage: Passage = { asked, route, start, packet, arrival };
    try {
      const outcome = answerOf(asked, route);
      if (outcome instanceof Promise) {
        const told = later(passage, outcome);
        waiting.add(told);
        void told.then(() => waiting.delete(told));
        return told;
      }
      const told = finish(passage, outcome);
      if (Buffer.isBuffer(told)) keep(passage, outcome, question, told);
      return told;
    } catch (error) {
      return failed(passage, error);
    }
  };

  /** What never was a query that a block could answer. */
  const refused = (read: Refusal, size: number, start: number, arrival: Arrival): Buffer | undefined => {
    const packet = encodeRefusal(read);
    if (read.kind === 'drop' || !packet) return undefined;
    const { transport, ipv6, metrics } = arrival;
    const { rcode, question, edns } = read;
    metrics.record({
      zone: NO_ZONE,
      view: '',
      type: question?.type ?? 0,
      transport,
      ipv6,
      rcode,
      by: '',
      dnssecOk: edns?.dnssecOk === true,
      size,
      answerSize: packet.length,
      seconds: seconds({ start }),
    });
    return packet;
  };

  return {
    receive: (packet, arrival, from) => {
      const question = KeptAnswers.question(packet);
      if (--untilTimed > 0) {
        return (
          arrival.kept.take(question, packet, arrival.site.version, clock.monotonic) ??
          answer(packet, question, arrival, from)
        );
      }
      untilTimed = TIMED;
      const start = clock.monotonic();
      const again = arrival.kept.take(question, packet, arrival.site.version, clock.monotonic);
      if (!again) return answer(packet, question, arrival, from);
      arrival.kept.seconds = seconds({ start });
      return again;
    },
    idle: async () => {
      while (waiting.size > 0) await Promise.all(waiting);
    },
    underWay: async () => {
      await Promise.all(waiting);
    },
  };
}

/** What is counted of a query, but for how it was answered. */
function recorded({ arrival, route, packet, asked }: Passage, answer: Buffer) {
  return {
    zone: route?.zone ?? NO_ZONE,
    view: route?.view ?? '',
    type: asked.query.type,
    transport: arrival.transport,
    ipv6: arrival.ipv6,
    dnssecOk: asked.query.edns?.dnssecOk === true,
    size: packet.length,
    answerSize: answer.length,
  };
}

/** The packet as the block sends it; `random` chooses the address in front. */
function written({ asked, route }: Passage, outcome: Outcome, random: () => number): Buffer | undefined {
  const block = route?.block;
  const packet = packetOf(asked, outcome, random, block?.extras);
  if (packet && block?.header) setBits(packet, block.header.set, block.header.clear);
  return packet;
}

/** Of a query without EDNS options. */
function plainSize(query: Query): number {
  return HEADER_SIZE + query.name.length + 4 + (query.edns ? OPT_SIZE : 0);
}

function answerOf(asked: Asked, route: Route | undefined): Answer {
  if (!route) return refuse(asked);
  if (asked.query.klass === CLASS_IN) return route.block.handle(asked);
  asked.by = 'refuse';
  return route.block.handleOther(asked);
}

/** The size that the client takes, as far as the block lets it. */
function bounded(query: Query, most: number | undefined): Query {
  if (most === undefined || !query.edns || query.edns.udpSize <= most) return query;
  return { ...query, edns: { ...query.edns, udpSize: most } };
}

function within(clock: Pick<Clock, 'after'>, answer: Promise<Outcome>, ms: number): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const late: Outcome = {
      kind: 'reply',
      reply: { kind: 'code', rcode: RCODE.SERVFAIL },
      why: `not answered within ${ms} ms`,
    };
    const timer = clock.after(ms, () => resolve(late));
    answer.then(resolve, reject).finally(() => timer.cancel());
  });
}

function setBits(packet: Buffer, set: number, clear: number): void {
  packet.writeUInt16BE((packet.readUInt16BE(2) | set) & ~clear & 0xffff, 2);
}

function zero(): number {
  return 0;
}
