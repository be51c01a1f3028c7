// One packet in, one packet out: parsing, the server block's chain, encoding, counting, and the log of queries.

import type { Logger } from '../observe/log.ts';
import { encodeRefusal, encodeReply, sizeLimit } from './encode.ts';
import { packetOf, refuse, type Answer, type Asked, type Outcome, type Peer, type Transport } from './handler.ts';
import type { DnsMetrics, ServerMetrics } from './metrics.ts';
import { queryLine } from './query-log.ts';
import type { Route, Routes } from './route.ts';
import type { Clock } from '../system/clock.ts';
import { nameText } from './wire/name.ts';
import { parseQuery, type Query } from './wire/query.ts';
import { CLASS_IN, RCODE, rcodeName, typeName } from './wire/types.ts';

export interface ServerOptions {
  readonly log: Logger;
  readonly metrics: DnsMetrics;
  readonly clock: Pick<Clock, 'monotonic' | 'after'>;
}

/** What answers at one address; replaced as a whole when the configuration changes. */
export interface Site {
  routes: Routes;
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
}

/** One message, or those of a transfer (over TCP only); undefined for none. */
export type Answered = Buffer | readonly Buffer[] | undefined;

export interface DnsServer {
  /**
   * Answers a packet: at once, by a promise that never rejects where others have to be asked, or not at all
   * (undefined) for what is no query and for what is dropped. Never throws.
   */
  receive(packet: Buffer, arrival: Arrival, from: Peer): Answered | Promise<Answered>;
  /** Resolves when no query waits for others any more. */
  idle(): Promise<void>;
}

const NO_ZONE = 'dropped';

/** One query under way. */
interface Passage {
  readonly asked: Asked;
  readonly route: Route | undefined;
  readonly start: number;
  readonly size: number;
  readonly arrival: Arrival;
}

export function createDnsServer(options: ServerOptions): DnsServer {
  const { clock, log } = options;
  let waiting = 0;
  let whenIdle: (() => void)[] = [];

  const record = (
    type: number,
    rcode: number,
    passage: Pick<Passage, 'start' | 'arrival' | 'route'>,
    by: string,
  ): void => {
    const { transport, ipv6, metrics } = passage.arrival;
    const seconds = (clock.monotonic() - passage.start) / 1000;
    metrics.record({
      zone: passage.route?.zone ?? NO_ZONE,
      view: passage.route?.view ?? '',
      type,
      transport,
      ipv6,
      rcode,
      by,
      seconds,
    });
  };

  const finish = (passage: Passage, outcome: Outcome): Answered => {
    const { asked, route } = passage;
    const block = route?.block;
    const packet = packetOf(asked, outcome, block?.random ?? zero, block?.extras);
    if (!packet) return undefined;
    if (block?.header) setBits(packet, block.header.set, block.header.clear);
    const rcode = (packet[3] ?? 0) & 0xf;
    record(asked.query.type, rcode, passage, route ? asked.by : 'refuse');
    if (block && (block.logsErrors || block.logs.length > 0)) note(passage, outcome, packet);
    return outcome.kind === 'messages' ? outcome.packets : packet;
  };

  const note = ({ asked, route, start, size }: Passage, outcome: Outcome, packet: Buffer): void => {
    const { query } = asked;
    if (route?.block.logsErrors && outcome.kind === 'reply' && outcome.why !== undefined)
      log.error(`${rcodeName((packet[3] ?? 0) & 0xf)} ${nameText(query.name)} ${typeName(query.type)}: ${outcome.why}`);
    const seconds = (clock.monotonic() - start) / 1000;
    const line = queryLine(route?.block.logs ?? [], { asked, packet, size, seconds });
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
    record(query.type, RCODE.SERVFAIL, passage, '');
    return encodeReply(query, { kind: 'code', rcode: RCODE.SERVFAIL }, sizeLimit(query.edns, transport), zero);
  };

  const later = async (passage: Passage, answer: Promise<Outcome>): Promise<Answered> => {
    waiting++;
    try {
      const deadline = passage.route?.block.deadlineMs;
      return finish(passage, await (deadline === undefined ? answer : within(clock, answer, deadline)));
    } catch (error) {
      return failed(passage, error);
    } finally {
      waiting--;
      if (waiting === 0) {
        for (const resolve of whenIdle) resolve();
        whenIdle = [];
      }
    }
  };

  return {
    receive: (packet, arrival, from) => {
      const start = clock.monotonic();
      const read = parseQuery(packet);
      if (read.kind !== 'query') {
        if (read.kind === 'refuse')
          record(read.question?.type ?? 0, read.rcode, { start, arrival, route: undefined }, '');
        return encodeRefusal(read);
      }
      const { transport, site } = arrival;
      const arrived = { address: arrival.address, port: arrival.port, size: packet.length };
      const unbounded: Asked = { query: read, transport, client: from, arrived, by: '' };
      const route = site.routes.find(unbounded);
      const query = bounded(read, route?.block.bufsize);
      const asked: Asked = query === read ? unbounded : { ...unbounded, query };
      const passage: Passage = { asked, route, start, size: packet.length, arrival };
      try {
        const answer = answerOf(asked, route);
        return answer instanceof Promise ? later(passage, answer) : finish(passage, answer);
      } catch (error) {
        return failed(passage, error);
      }
    },
    idle: () => new Promise((resolve) => (waiting === 0 ? resolve() : void whenIdle.push(resolve))),
  };
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
