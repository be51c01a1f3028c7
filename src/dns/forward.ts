// Questions that are not the cluster's: asked of upstream servers, with what the client gets bounded in time and number.

import type { Logger } from '../observe/log.ts';
import type { Clock } from '../system/clock.ts';
import { coded } from './answers.ts';
import { sizeLimit } from './encode.ts';
import type { Asked, Handle, Handler, Outcome, Transport } from './handler.ts';
import { exchange, upstreamText, type UpstreamServer } from './upstream.ts';
import { originAt, ROOT, type DnsName } from './wire/name.ts';
import { encodeQuery, type Query } from './wire/query.ts';
import { FLAG, RCODE, RR } from './wire/types.ts';

const READ_TIMEOUT_MS = 2000;
const QUERY_TIMEOUT_MS = 5000;
/** Attempts of one query, per upstream: what a lost datagram costs is one of them. */
const ATTEMPTS_PER_UPSTREAM = 2;
const PROBE_TIMEOUT_MS = 1000;

export type ForwardPolicy = 'random' | 'round_robin' | 'sequential';

/** What a forwarder does, as the Corefile says it. */
export interface ForwardRules {
  /** At least one. */
  readonly servers: readonly UpstreamServer[];
  /** Names in this zone, lower case. */
  readonly from: DnsName;
  /** But not names in these. */
  readonly except: readonly DnsName[];
  readonly policy: ForwardPolicy;
  /** Queries that may wait for upstreams at one time; more are refused. */
  readonly maxConcurrent: number;
  /** `client`: as the client asked. `udp` goes on by TCP where the answer is cut. */
  readonly transport: 'client' | 'udp' | 'tcp';
  /** An upstream that failed more often in a row is asked last until a probe is answered; 0 never is. */
  readonly maxFails: number;
  readonly probe: { readonly intervalMs: number; readonly recursion: boolean; readonly name: DnsName };
  /** Codes after which the next upstream is asked. */
  readonly failover: ReadonlySet<number>;
  /** Codes after which the next plugin is asked. */
  readonly next: ReadonlySet<number>;
}

export const DEFAULT_FORWARD: Omit<ForwardRules, 'servers'> = {
  from: ROOT,
  except: [],
  policy: 'random',
  maxConcurrent: Infinity,
  transport: 'client',
  maxFails: 2,
  probe: { intervalMs: 500, recursion: true, name: ROOT },
  failover: new Set(),
  next: new Set(),
};

export interface ForwarderOptions extends ForwardRules {
  readonly clock: Clock;
  readonly log: Logger;
  /** 0 to 1, for the order of upstreams. */
  readonly random: () => number;
  /** 0 to 65535, not to be guessed. */
  readonly randomId: () => number;
  /** Called for each query that is refused because too many wait. */
  readonly onReject: () => void;
  /** Aborted at the end: what waits is given up, each answered SERVFAIL. */
  readonly stopped: AbortSignal;
}

type Asking = Pick<Query, 'name' | 'type' | 'flags' | 'klass'> & {
  readonly udpSize?: number;
  readonly dnssecOk?: boolean;
};
type Told =
  | { readonly kind: 'told'; readonly packet: Buffer }
  | { readonly kind: 'too-many' }
  | { readonly kind: 'silent' };

export function createForwarder(options: ForwarderOptions): Handler {
  const { clock, stopped } = options;
  /** Failures in a row. */
  const fails = new Map<UpstreamServer, number>();
  const probing = new Set<UpstreamServer>();
  let waiting = 0;
  let turn = 0;

  const isDown = (server: UpstreamServer): boolean =>
    options.maxFails > 0 && (fails.get(server) ?? 0) > options.maxFails;

  const order = (): UpstreamServer[] => {
    const shift = options.policy === 'round_robin' ? turn++ % options.servers.length : 0;
    const keyed = options.servers.map((_, i) => {
      const server = options.servers[(i + shift) % options.servers.length];
      return { server, doubt: server ? doubtOf(server) : 2, rank: options.policy === 'random' ? options.random() : i };
    });
    keyed.sort((a, b) => a.doubt - b.doubt || a.rank - b.rank);
    return keyed.map(({ server }) => server).filter((server) => server !== undefined);
  };

  /** All down: they are asked all the same, for the probes may be what fails. */
  const doubtOf = (server: UpstreamServer): number => (isDown(server) ? 2 : (fails.get(server) ?? 0) > 0 ? 1 : 0);

  const failed = (server: UpstreamServer, code: string): void => {
    fails.set(server, (fails.get(server) ?? 0) + 1);
    options.log.warn('an upstream DNS server does not answer', { upstream: upstreamText(server), code });
    if (probing.has(server)) return;
    probing.add(server);
    void probe(server).finally(() => probing.delete(server));
  };

  /** Any answer will do. Never rejects. */
  const probe = async (server: UpstreamServer): Promise<void> => {
    const { name, recursion, intervalMs } = options.probe;
    while (!stopped.aborted && (fails.get(server) ?? 0) > 0) {
      await clock.sleep(intervalMs, stopped);
      const flags = recursion ? FLAG.RD : 0;
      const packet = encodeQuery({ id: options.randomId(), flags, name, type: RR.NS });
      const transport = options.transport === 'tcp' ? 'tcp' : 'udp';
      const result = await exchange({ server, transport, packet, timeoutMs: PROBE_TIMEOUT_MS, clock, signal: stopped });
      if (result.kind === 'reply') fails.delete(server);
    }
  };

  const attempt = async (asking: Asking, transport: Transport): Promise<Told> => {
    const deadline = clock.monotonic() + QUERY_TIMEOUT_MS;
    const servers = order();
    let refused: Told | undefined;
    for (let i = 0; i < servers.length * ATTEMPTS_PER_UPSTREAM; i++) {
      const server = servers[i % servers.length];
      const timeoutMs = Math.min(READ_TIMEOUT_MS, deadline - clock.monotonic());
      if (!server || timeoutMs <= 0 || stopped.aborted) break;
      // The id is new for each attempt: a late reply to an earlier one is nothing to this.
      const packet = encodeQuery({ ...asking, id: options.randomId() });
      const result = await exchange({ server, transport, packet, timeoutMs, clock, signal: stopped });
      if (result.kind === 'reply') {
        fails.delete(server);
        const told: Told = { kind: 'told', packet: result.packet };
        if (!options.failover.has((result.packet[3] ?? 0) & 0xf)) return told;
        refused = told;
        if (i >= servers.length - 1) break;
        continue;
      }
      if (result.code === 'ABORTED') break;
      failed(server, result.code);
    }
    return refused ?? { kind: 'silent' };
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

  const overTransport = async (asking: Asking, client: Transport): Promise<Told> => {
    if (options.transport === 'client') return ask(asking, client);
    const told = await ask(asking, options.transport);
    const cut = told.kind === 'told' && (told.packet.readUInt16BE(2) & FLAG.TC) !== 0;
    return cut && options.transport === 'udp' ? ask(asking, 'tcp') : told;
  };

  const forwarded = async (asked: Asked, next: Handle): Promise<Outcome> => {
    const { query } = asked;
    const { edns } = query;
    const told = await overTransport(
      {
        name: query.name,
        type: query.type,
        klass: query.klass,
        flags: query.flags & (FLAG.RD | FLAG.CD | FLAG.AD),
        ...(edns ? { udpSize: sizeLimit(edns, 'udp'), dnssecOk: edns.dnssecOk } : {}),
      },
      asked.transport,
    );
    switch (told.kind) {
      case 'told': {
        const rcode = (told.packet[3] ?? 0) & 0xf;
        if (options.next.has(rcode)) return next(asked);
        // A refusal without its question is passed on as its code.
        return told.packet.readUInt16BE(4) === 0 ? coded(rcode) : { kind: 'packet', packet: told.packet };
      }
      case 'too-many':
        return coded(RCODE.REFUSED);
      case 'silent':
        return unreachable(options.servers);
    }
  };

  const isOurs = (name: DnsName): boolean =>
    (options.from === ROOT || originAt(name, options.from) >= 0) &&
    !options.except.some((zone) => originAt(name, zone) >= 0);

  return {
    name: 'forward',
    handle: (asked, next) => {
      const { type, key } = asked.query;
      if (!isOurs(key)) return next(asked);
      // Transfers are not for passing on: over UDP they cannot be whole, and over TCP they are many messages.
      return type === RR.AXFR || type === RR.IXFR ? coded(RCODE.REFUSED) : forwarded(asked, next);
    },
  };
}

/** The log of `errors` says why; the client gets SERVFAIL. */
function unreachable(servers: readonly UpstreamServer[]): Outcome {
  return coded(RCODE.SERVFAIL, `no upstream server answers (${servers.map(upstreamText).join(', ')})`);
}
