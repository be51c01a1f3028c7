// From a packet to its answer: parse, ask the chain, count. Whatever goes wrong, one packet concerns that packet only.

import type { Logger } from '../observe/log.ts';
import { encodeRefusal, encodeReply, sizeLimit } from './encode.ts';
import { answerWith, type Answered, type Handler, type Transport } from './handler.ts';
import type { DnsMetrics, ServerMetrics } from './metrics.ts';
import { nameText } from './wire/name.ts';
import { parseQuery, type Query } from './wire/query.ts';
import { RCODE, typeName } from './wire/types.ts';

export interface ServerOptions {
  /** In order; the end of the chain refuses. */
  readonly chain: readonly Handler[];
  readonly log: Logger;
  readonly metrics: DnsMetrics;
  /** Milliseconds, never going back. */
  readonly monotonic: () => number;
  /** 0 to 1. */
  readonly random: () => number;
}

export interface Arrival {
  readonly transport: Transport;
  readonly ipv6: boolean;
  /** The counters of the address it came in on. */
  readonly metrics: ServerMetrics;
}

export interface DnsServer {
  /**
   * Answers a packet: at once, by a promise that never rejects where others have to be asked, or not at all
   * (undefined) for what is no query. Never throws.
   */
  receive(packet: Buffer, arrival: Arrival): Buffer | undefined | Promise<Buffer | undefined>;
  /** Resolves when no query waits for others any more. */
  idle(): Promise<void>;
}

export function createDnsServer(options: ServerOptions): DnsServer {
  const { monotonic, random } = options;
  let waiting = 0;
  let whenIdle: (() => void)[] = [];

  const record = (query: { type: number }, rcode: number, by: string, start: number, arrival: Arrival): void => {
    const { transport, ipv6, metrics } = arrival;
    metrics.record({ type: query.type, transport, ipv6, rcode, by, seconds: (monotonic() - start) / 1000 });
  };

  const finish = (query: Query, answered: Answered, start: number, arrival: Arrival): Buffer => {
    record(query, (answered.packet[3] ?? 0) & 0xf, answered.by, start, arrival);
    return answered.packet;
  };

  /** A bug of ours: the client gets SERVFAIL, the log says what, and the next packet is answered as ever. */
  const failed = (query: Query, error: unknown, start: number, arrival: Arrival): Buffer => {
    options.metrics.panicked();
    options.log.error('a query failed unexpectedly; please report this', {
      name: nameText(query.name),
      type: typeName(query.type),
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    record(query, RCODE.SERVFAIL, '', start, arrival);
    const limit = sizeLimit(query.edns, arrival.transport);
    return encodeReply(query, { kind: 'code', rcode: RCODE.SERVFAIL }, limit, random);
  };

  const later = async (query: Query, answered: Promise<Answered>, start: number, arrival: Arrival): Promise<Buffer> => {
    waiting++;
    try {
      return finish(query, await answered, start, arrival);
    } catch (error) {
      return failed(query, error, start, arrival);
    } finally {
      waiting--;
      if (waiting === 0) {
        for (const resolve of whenIdle) resolve();
        whenIdle = [];
      }
    }
  };

  return {
    receive: (packet, arrival) => {
      const start = monotonic();
      const query = parseQuery(packet);
      if (query.kind !== 'query') {
        if (query.kind === 'refuse') record({ type: query.question?.type ?? 0 }, query.rcode, '', start, arrival);
        return encodeRefusal(query);
      }
      try {
        const answered = answerWith(options.chain, { query, transport: arrival.transport }, random);
        return answered instanceof Promise
          ? later(query, answered, start, arrival)
          : finish(query, answered, start, arrival);
      } catch (error) {
        return failed(query, error, start, arrival);
      }
    },
    idle: () => new Promise((resolve) => (waiting === 0 ? resolve() : void whenIdle.push(resolve))),
  };
}
