// Questions that are not the cluster's: asked of upstream servers, with what the client gets bounded in time and number.

import type { Logger } from '../observe/log.ts';
import type { Clock } from '../system/clock.ts';
import { sizeLimit } from './encode.ts';
import type { Asked, Handler, Outcome, Transport } from './handler.ts';
import { exchange, upstreamText, type UpstreamServer } from './upstream.ts';
import { parseMessage, type OwnedRecord } from './wire/message.ts';
import { lowerName, type DnsName } from './wire/name.ts';
import { encodeQuery, type Query } from './wire/query.ts';
import { CLASS_IN, FLAG, HEADER_SIZE, RCODE, RR } from './wire/types.ts';

const READ_TIMEOUT_MS = 2000;
const QUERY_TIMEOUT_MS = 5000;
/** Attempts of one query, per upstream: what a lost datagram costs is one of them. */
const ATTEMPTS_PER_UPSTREAM = 2;
/** An upstream that did not answer is asked last for this long. */
const DOUBT_MS = 5000;
/** EDNS size for questions of our own (DNS flag day 2020: what passes unfragmented). */
const OWN_UDP_SIZE = 1232;

export interface ForwarderOptions {
  /** At least one. */
  readonly servers: readonly UpstreamServer[];
  /** Queries that may wait for upstreams at one time; more are refused. */
  readonly maxConcurrent: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** 0 to 1, for the order of upstreams. */
  readonly random: () => number;
  /** 0 to 65535, not to be guessed. */
  readonly randomId: () => number;
  /** Called for each query that is refused because too many wait. */
  readonly onReject: () => void;
}

export interface Forwarder extends Handler {
  /** The records to which a name leads by upstream's account, its aliases first; none on any failure. */
  resolve(name: DnsName, type: number): Promise<readonly OwnedRecord[]>;
  /** Gives up what waits; each of these is answered SERVFAIL. */
  stop(): void;
}

type Asking = Pick<Query, 'name' | 'type' | 'flags'> & { readonly udpSize?: number; readonly dnssecOk?: boolean };
type Told =
  | { readonly kind: 'told'; readonly packet: Buffer }
  | { readonly kind: 'too-many' }
  | { readonly kind: 'silent' };

export function createForwarder(options: ForwarderOptions): Forwarder {
  const { clock } = options;
  const stopped = new AbortController();
  const doubtedUntil = new Map<UpstreamServer, number>();
  let waiting = 0;

  const order = (): UpstreamServer[] => {
    const now = clock.monotonic();
    const keyed = options.servers.map((server) => ({
      server,
      doubted: (doubtedUntil.get(server) ?? -1) > now ? 1 : 0,
      rank: options.random(),
    }));
    return keyed.sort((a, b) => a.doubted - b.doubted || a.rank - b.rank).map(({ server }) => server);
  };

  const attempt = async (asking: Asking, transport: Transport): Promise<Told> => {
    const deadline = clock.monotonic() + QUERY_TIMEOUT_MS;
    const servers = order();
    for (let i = 0; i < servers.length * ATTEMPTS_PER_UPSTREAM; i++) {
      const server = servers[i % servers.length];
      const timeoutMs = Math.min(READ_TIMEOUT_MS, deadline - clock.monotonic());
      if (!server || timeoutMs <= 0 || stopped.signal.aborted) break;
      // The id is new for each attempt: a late reply to an earlier one is nothing to this.
      const packet = encodeQuery({ ...asking, id: options.randomId() });
      const result = await exchange({ server, transport, packet, timeoutMs, clock, signal: stopped.signal });
      if (result.kind === 'reply') {
        doubtedUntil.delete(server);
        return { kind: 'told', packet: result.packet };
      }
      if (result.code === 'ABORTED') break;
      doubtedUntil.set(server, clock.monotonic() + DOUBT_MS);
      options.log.warn('an upstream DNS server does not answer', { upstream: upstreamText(server), code: result.code });
    }
    return { kind: 'silent' };
  };

  const ask = async (asking: Asking, transport: Transport): Promise<Told> => {
    if (waiting >= options.maxConcurrent) {
      options.onReject();
      return { kind: 'too-many' };
    }
    waiting++;
    try {
      return await attempt(asking, transport);
    } finally {
      waiting--;
    }
  };

  const handle = async (asked: Asked): Promise<Outcome> => {
    const { query, transport } = asked;
    // Transfers are not for passing on: over UDP they cannot be whole, and over TCP they are many messages.
    if (query.type === RR.AXFR || query.type === RR.IXFR) return code(RCODE.REFUSED);
    const { edns } = query;
    const told = await ask(
      {
        name: query.name,
        type: query.type,
        flags: query.flags & (FLAG.RD | FLAG.CD | FLAG.AD),
        ...(edns ? { udpSize: sizeLimit(edns, 'udp'), dnssecOk: edns.dnssecOk } : {}),
      },
      transport,
    );
    switch (told.kind) {
      case 'told':
        return forClient(told.packet, asked);
      case 'too-many':
        return code(RCODE.REFUSED);
      case 'silent':
        return code(RCODE.SERVFAIL);
    }
  };

  const resolve = async (name: DnsName, type: number): Promise<readonly OwnedRecord[]> => {
    const asking: Asking = { name, type, flags: FLAG.RD, udpSize: OWN_UDP_SIZE };
    let told = await ask(asking, 'udp');
    if (told.kind === 'told' && told.packet.readUInt16BE(2) & FLAG.TC) told = await ask(asking, 'tcp');
    const message = told.kind === 'told' ? parseMessage(told.packet) : undefined;
    if (message?.rcode !== RCODE.NOERROR) return [];
    return chain(name, message.answer);
  };

  return { name: 'forward', handle, resolve, stop: () => stopped.abort() };
}

function code(rcode: number): Outcome {
  return { kind: 'reply', reply: { kind: 'code', rcode } };
}

/** Upstream's message with the client's id; one that is larger than the client takes is cut to its question, with TC. */
function forClient(reply: Buffer, asked: Asked): Outcome {
  const { query, transport } = asked;
  const flags = reply.readUInt16BE(2);
  // A refusal without its question is passed on as its code.
  if (reply.readUInt16BE(4) === 0) return code(flags & 0xf);
  const fits = reply.length <= sizeLimit(query.edns, transport);
  const packet = Buffer.from(fits ? reply : reply.subarray(0, HEADER_SIZE + query.name.length + 4));
  packet.writeUInt16BE(query.id, 0);
  packet.write(query.name, HEADER_SIZE, 'latin1');
  if (!fits) {
    packet.writeUInt16BE(flags | FLAG.TC, 2);
    packet.fill(0, 6, HEADER_SIZE);
  }
  return { kind: 'packet', packet };
}

/** The records that follow from `name` by the aliases among them, in order; others were not asked for. */
function chain(name: DnsName, records: readonly OwnedRecord[]): readonly OwnedRecord[] {
  const names = new Set<string>([lowerName(name)]);
  return records.filter((record) => {
    if (record.klass !== CLASS_IN || !names.has(lowerName(record.owner))) return false;
    if (record.type === RR.CNAME) names.add(lowerName(record.data as DnsName));
    return true;
  });
}
