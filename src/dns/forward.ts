// Questions that are not the cluster's: asked of upstream servers, with what the client gets bounded in time and number.

import type { Logger } from '../observe/log.ts';
import type { Clock } from '../system/clock.ts';
import { coded } from './answers.ts';
import { readOptions, writeOptions } from './edns-option.ts';
import { sizeLimit } from './encode.ts';
import type { Asked, Handle, Handler, Outcome, Transport } from './handler.ts';
import { forwardMetrics } from './forward-metrics.ts';
import type { Meters } from '../observe/metrics.ts';
import { upstreamLink, type LinkOptions, type UpstreamLink } from './upstream-link.ts';
import { upstreamText, type UpstreamServer } from './upstream.ts';
import { originAt, ROOT, type DnsName } from './wire/name.ts';
import { encodeQuery, type Edns, type Query } from './wire/query.ts';
import { FLAG, RCODE, RR } from './wire/types.ts';

const QUERY_TIMEOUT_MS = 5000;
/** Attempts of one query, per upstream: what a lost datagram costs is one of them. */
const ATTEMPTS_PER_UPSTREAM = 2;
const PROBE_TIMEOUT_MS = 1000;
const AGAIN_MS = 50;

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
  /** Codes after which the next forward is asked, where there is one. */
  readonly next: ReadonlySet<number>;
  /** The same after an empty answer. */
  readonly nextOnNodata: boolean;
  /** Nobody is asked while every server is down. */
  readonly failFast: boolean;
  /** Attempts of one query that fail; undefined is two for each server, 0 any number in the time of a query. */
  readonly maxAttempts: number | undefined;
  /** Milliseconds for one answer. */
  readonly readTimeoutMs: number;
  readonly link: Omit<LinkOptions, 'server' | 'clock' | 'stopped' | 'onReuse' | 'randomId'>;
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
  nextOnNodata: false,
  failFast: false,
  maxAttempts: undefined,
  readTimeoutMs: 2000,
  link: { source: undefined, tls: {}, expireMs: 10_000, maxAgeMs: 0, maxIdle: 0, dohMethod: 'POST' },
};

export interface ForwarderOptions extends ForwardRules {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Meters;
  /** Whether another forward stands behind this one in the chain. */
  readonly hasNext: boolean;
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
  readonly options?: string;
  readonly note?: (label: string, value: string) => void;
};
type Told =
  | { readonly kind: 'told'; readonly packet: Buffer }
  /** `code` of the last failure. */
  | { readonly kind: 'silent'; readonly code: string };

export function createForwarder(options: ForwarderOptions): Handler {
  const { clock, stopped, randomId } = options;
  const metrics = forwardMetrics(options.metrics);
  /** Failures in a row. */
  const fails = new Map<UpstreamServer, number>();
  const probing = new Set<UpstreamServer>();
  const links = new Map<UpstreamServer, UpstreamLink>();
  let waiting = 0;
  let turn = 0;

  const linkTo = (server: UpstreamServer): UpstreamLink => {
    const known = links.get(server);
    if (known) return known;
    const onReuse: LinkOptions['onReuse'] = (reused, proto) => metrics.connected(upstreamText(server), proto, reused);
    const link = upstreamLink({ ...options.link, server, clock, stopped, onReuse, randomId });
    links.set(server, link);
    return link;
  };

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
      const result = await linkTo(server).ask(packet, transport, PROBE_TIMEOUT_MS);
      if (result.kind === 'reply') fails.delete(server);
      else if (result.code !== 'ABORTED') metrics.probeFailed(upstreamText(server));
    }
  };

  const attempt = async (asking: Asking, transport: Transport): Promise<Told> => {
    const deadline = clock.monotonic() + QUERY_TIMEOUT_MS;
    const servers = order();
    if (servers.every((server) => isDown(server))) {
      metrics.allDown();
      if (options.failFast) return { kind: 'silent', code: 'DOWN' };
    }
    const most = (options.maxAttempts ?? servers.length * ATTEMPTS_PER_UPSTREAM) || Infinity;
    let refused: Told | undefined;
    let refusals = 0;
    let failures = 0;
    let code = 'TIMEOUT';
    for (let i = 0; failures < most; i++) {
      const server = servers[i % servers.length];
      const timeoutMs = Math.min(options.readTimeoutMs, deadline - clock.monotonic());
      if (!server || timeoutMs <= 0 || stopped.aborted) break;
      // The id is new for each attempt: a late reply to an earlier one is nothing to this.
      const packet = encodeQuery({ ...asking, id: options.randomId() });
      const start = clock.monotonic();
      const result = await linkTo(server).ask(packet, transport, timeoutMs);
      if (result.kind === 'reply') {
        fails.delete(server);
        const rcode = (result.packet[3] ?? 0) & 0xf;
        const seconds = (clock.monotonic() - start) / 1000;
        metrics.answered(upstreamText(server), rcode, seconds);
        options.log.debug('an upstream server has answered', { upstream: upstreamText(server), rcode, seconds });
        asking.note?.('forward/upstream', upstreamText(server));
        const told: Told = { kind: 'told', packet: result.packet };
        if (!options.failover.has(rcode)) return told;
        refused = told;
        if (++refusals >= servers.length) break;
        continue;
      }
      ({ code } = result);
      if (code === 'ABORTED') break;
      failures++;
      failed(server, code);
      // Without a bound on attempts, one that fails at once must not become a circle.
      if (most === Infinity) await clock.sleep(AGAIN_MS, stopped);
    }
    return refused ?? { kind: 'silent', code };
  };

  const ask = async (asking: Asking, transport: Transport): Promise<Told> => {
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
        note: (label, value) => void asked.metadata?.set(label, value),
        ...(edns ? { udpSize: sizeLimit(edns, 'udp'), dnssecOk: edns.dnssecOk, options: passedOn(edns) } : {}),
      },
      asked.transport,
    );
    switch (told.kind) {
      case 'told': {
        const rcode = (told.packet[3] ?? 0) & 0xf;
        if (options.hasNext && goesOn(told.packet, rcode)) return next(asked);
        // A refusal without its question is passed on as its code.
        return told.packet.readUInt16BE(4) === 0 ? coded(rcode) : { kind: 'packet', packet: told.packet };
      }
      case 'silent':
        return unreachable(asked, options.servers, told.code);
    }
  };

  const goesOn = (packet: Buffer, rcode: number): boolean =>
    options.next.has(rcode) || (options.nextOnNodata && rcode === RCODE.NOERROR && packet.readUInt16BE(6) === 0);

  const isOurs = (name: DnsName): boolean =>
    (options.from === ROOT || originAt(name, options.from) >= 0) &&
    !options.except.some((zone) => originAt(name, zone) >= 0);

  return {
    name: 'forward',
    handle: (asked, next) => {
      const { type, key } = asked.query;
      if (!isOurs(key)) return next(asked);
      // Transfers are not for passing on: over UDP they cannot be whole, and over TCP they are many messages.
      if (type === RR.AXFR || type === RR.IXFR) return coded(RCODE.REFUSED);
      if (waiting < options.maxConcurrent) return forwarded(asked, next);
      // At once: a refusal must cost less than an answer.
      options.onReject();
      return coded(RCODE.REFUSED);
    },
  };
}

/** Options that are between two neighbours: cookies (RFC 7873), how long a connection is kept (RFC 7828), padding (RFC 7830). */
const HOP_BY_HOP: ReadonlySet<number> = new Set([10, 11, 12]);

/** What the client says to whoever answers in the end, such as its subnet (RFC 7871). */
function passedOn({ options }: Edns): string {
  if (options === undefined) return '';
  return writeOptions(readOptions(options).filter(({ code }) => !HOP_BY_HOP.has(code)));
}

/** RFC 8914: nobody to ask, or the network between. */
const EDE_NO_REACHABLE_AUTHORITY = 22;
const EDE_NETWORK_ERROR = 23;

/** The log of `errors` says why; the client gets SERVFAIL, and an Extended DNS Error where it has EDNS. */
function unreachable({ query }: Asked, servers: readonly UpstreamServer[], failure: string): Outcome {
  const why = `no upstream server answers (${servers.map(upstreamText).join(', ')}): ${failure}`;
  if (!query.edns) return coded(RCODE.SERVFAIL, why);
  const code = failure === 'TIMEOUT' || failure === 'DOWN' ? EDE_NO_REACHABLE_AUTHORITY : EDE_NETWORK_ERROR;
  const ede = { code, text: 'no upstream server answers' };
  const sections = { answer: [], authority: [], additional: [] };
  return { kind: 'reply', reply: { kind: 'message', rcode: RCODE.SERVFAIL, flags: 0, ...sections, ede }, why };
}
