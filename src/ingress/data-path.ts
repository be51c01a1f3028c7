// What carries the requests: listeners, connections, routes in force, certificates. It is given route tables and tells what became of
// each request; it decides nothing about objects.

import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../system/clock.ts';
import { serveConnection } from './http/client-connection.ts';
import type { ConnectionSettings } from './connection-settings.ts';
import { Deadlines } from './http/deadlines.ts';
import { createEngine, setRules, type Engine, type EngineTimes } from './http/engine.ts';
import type { RequestRecord } from './http/forward.ts';
import type { UpstreamTimes } from './http/upstream.ts';
import { serveHttp2 } from './http/http2-connection.ts';
import { DEFAULT_FRONT, type FrontSettings } from './front-settings.ts';
import type { ListenAddress } from './listen-error.ts';
import { openListener, type IngressListener, type Opening, type TlsPlace } from './listener.ts';
import { findHost, hostName } from './match.ts';
import { passThrough } from './tls-passthrough.ts';
import { peerFacts } from './tls-peer.ts';
import type { LimitState } from './limit-state.ts';
import { DEFAULT_MESSAGES } from './message-settings.ts';
import { LiveRoutes } from './live-routes.ts';
import type { RouteTable } from './route-table.ts';
import type { CertificatePair } from './self-signed.ts';
import { tlsFront, type CertificateTable, type CertificateState } from './tls.ts';

export interface DataPathOptions {
  readonly clock: Clock;
  readonly times: EngineTimes;
  /** How often deadlines are looked at, in milliseconds. */
  readonly tickMs: number;
  readonly certificates: CertificateTable;
  /** Others listen on the same ports. */
  readonly reusePort: boolean;
  readonly ticketKeys: Buffer | undefined;
  readonly onRequest: (record: RequestRecord) => void;
  /** Whether an access log is written. */
  readonly logs: boolean;
  readonly limits: LimitState;
  /** What backends are told of the port of HTTPS, where it is not the one that is listened on. */
  readonly httpsPort: number | undefined;
}

/** What serves by route tables: here, or in worker threads. */
export interface Serving {
  readonly addresses: { readonly http: ListenAddress | undefined; readonly https: ListenAddress | undefined };
  /** The newest table; undefined before the first. */
  readonly table: RouteTable | undefined;
  /** The first table is in force everywhere. */
  readonly ready: boolean;
  readonly counts: DataPathCounts;
  certificateStates(): readonly CertificateState[];
  /** Rejects with IngressListenError. */
  listen(http: ListenAddress | undefined, https: ListenAddress | undefined): Promise<void>;
  apply(table: RouteTable): void;
  /** Accepts no more; what is under way may end within `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

export interface DataPathCounts extends ConnectionCounts {
  /** Connections to backends, and endpoints that are passed over. */
  readonly upstream: number;
  readonly ejected: number;
}

export interface ConnectionCounts {
  readonly active: number;
  readonly busy: number;
  readonly accepted: number;
}

export class DataPath implements Serving {
  readonly #clock: Clock;
  readonly #deadlines: Deadlines;
  readonly #engine: Engine;
  readonly #routes: LiveRoutes;
  readonly #certificates: CertificateTable;
  readonly #sharing: Pick<DataPathOptions, 'reusePort' | 'ticketKeys'>;
  #http: IngressListener | undefined;
  #https: IngressListener | undefined;
  #shown: CertificatePair | undefined;
  #front: FrontSettings = DEFAULT_FRONT;
  /** As the process was started; the ConfigMap's go before. */
  readonly #times: EngineTimes;
  readonly #httpsPort: number | undefined;
  readonly #upstreamTimes: { -readonly [K in keyof UpstreamTimes]: UpstreamTimes[K] };
  #connections: ConnectionSettings | undefined;
  #accepted = 0;

  constructor({
    clock,
    times,
    tickMs,
    certificates,
    reusePort,
    ticketKeys,
    onRequest,
    logs,
    limits,
    httpsPort,
  }: DataPathOptions) {
    this.#sharing = { reusePort, ticketKeys };
    this.#certificates = certificates;
    this.#httpsPort = httpsPort;
    this.#clock = clock;
    this.#times = times;
    this.#upstreamTimes = upstreamTimes(times);
    this.#deadlines = new Deadlines(clock, tickMs);
    this.#routes = new LiveRoutes({
      deadlines: this.#deadlines,
      times: this.#upstreamTimes,
      random: Math.random,
      now: () => clock.now(),
      limits,
      nonceKey: createHash('sha256')
        .update('nonces of digest authentication')
        .update(ticketKeys ?? randomBytes(32))
        .digest(),
    });
    this.#engine = createEngine(
      {
        origin: (client, head) => this.#routes.origin(client, head),
        decide: (client, head) => this.#routes.decide(client, head),
        record: onRequest,
        ...(logs
          ? { capture: (client, head) => this.table?.selection.globals?.log.format?.capture(client, head) }
          : {}),
      },
      times,
      this.#deadlines,
      () => clock.monotonic(),
    );
  }

  get addresses(): { readonly http: ListenAddress | undefined; readonly https: ListenAddress | undefined } {
    return { http: this.#http?.address, https: this.#https?.address };
  }

  get table(): RouteTable | undefined {
    return this.#routes.table;
  }

  get ready(): boolean {
    return this.table !== undefined;
  }

  get counts(): DataPathCounts {
    let busy = 0;
    for (const connection of this.#engine.connections) if (connection.busy) busy++;
    const { upstreamConnections: upstream, ejectedEndpoints: ejected } = this.#routes;
    return { active: this.#engine.connections.size, busy, accepted: this.#accepted, upstream, ejected };
  }

  certificateStates(): readonly CertificateState[] {
    return [...this.#certificates.states()];
  }

  /** Rejects with IngressListenError. */
  async listen(http: ListenAddress | undefined, https: ListenAddress | undefined): Promise<void> {
    const common = {
      ...this.#sharing,
      front: () => this.#front,
      onConnection: (socket: Socket | TLSSocket, opening: Opening) => this.#accept(socket, opening),
    };
    if (http) this.#http = await openListener({ ...common, listen: http });
    if (!https) return;
    const tls = tlsFront(
      this.#certificates,
      common.front,
      (name) => this.#passthrough(name),
      () => (this.table?.hostsByName ?? 0) > 0 || this.#front.rejectUnknown,
      (name) => this.#isServed(name),
    );
    this.#https = await openListener({ ...common, listen: https, tls });
  }

  /** From the return of this call on requests are routed by `table`. */
  apply(table: RouteTable): void {
    this.#setTimes(table.selection.globals?.connections);
    this.#certificates.apply(table);
    const messages = table.selection.globals?.messages ?? DEFAULT_MESSAGES;
    if (messages !== this.#engine.rules) setRules(this.#engine, messages);
    const front = table.selection.globals?.front ?? DEFAULT_FRONT;
    const pair = this.#certificates.defaultCertificate;
    if (front !== this.#front || pair !== (this.#shown ?? this.#certificates.defaultPair)) {
      this.#front = front;
      this.#shown = pair;
      this.#engine.maxStreams = front.maxStreams;
      this.#https?.setTls(pair, { ...front, ...this.#certificates.usable });
    }
    this.#routes.apply(table);
  }

  #setTimes(settings: ConnectionSettings | undefined): void {
    if (settings === this.#connections) return;
    this.#connections = settings;
    const times = { ...this.#times, ...settings };
    this.#engine.times = times;
    Object.assign(this.#upstreamTimes, upstreamTimes(times));
  }

  /** Accepts no more; what is under way may end within `graceMs`. A connection without a request yet has `firstRequestMs` to bring one. */
  async stop(graceMs: number): Promise<void> {
    this.#engine.stopping = true;
    const listeners = [this.#http, this.#https].filter((listener) => listener !== undefined);
    const closed = Promise.all(listeners.map((listener) => listener.close()));
    for (const connection of this.#engine.connections) connection.stopIdle();
    const grace = new AbortController();
    const bound = this.#clock.sleep(graceMs, grace.signal);
    void this.#clock.sleep(this.#engine.times.firstRequestMs, grace.signal).then(() => {
      for (const listener of listeners) listener.endUnopened();
    });
    await Promise.race([closed, bound]);
    grace.abort();
    for (const connection of this.#engine.connections) connection.destroy();
    for (const listener of listeners) for (const socket of listener.connections) socket.destroy();
    await closed;
    await this.#routes.stop();
    this.#deadlines.stop();
  }

  /** An Ingress names it, or has a wildcard or an alias for it. */
  #isServed(name: string): boolean {
    const host = this.table && findHost(this.table, hostName(name));
    return name !== '' && host !== undefined && host.host !== '';
  }

  /** Where TLS of a name goes as it is. */
  #passthrough(name: string): TlsPlace | undefined {
    const ref = this.table && findHost(this.table, hostName(name))?.passthrough;
    if (!ref) return undefined;
    return {
      kind: 'passthrough',
      take: (socket, bytes) => void passThrough(socket, bytes, this.#routes.turnOf(ref.key), this.#clock),
    };
  }

  #accept(socket: Socket | TLSSocket, { proxied, authorities }: Opening): void {
    this.#accepted++;
    const tls = 'alpnProtocol' in socket ? socket : undefined;
    const info = {
      remoteAddress: proxied?.remoteAddress ?? socket.remoteAddress ?? '',
      remotePort: proxied?.remotePort ?? socket.remotePort ?? 0,
      localPort: proxied?.localPort ?? (tls ? this.#httpsPort : undefined) ?? socket.localPort ?? 0,
      // As ingress-nginx: whoever was spoken to on 443 was spoken to by HTTPS, which ended in front.
      secure: tls !== undefined || proxied?.localPort === 443,
      ...(tls ? { peer: peerFacts(tls, authorities) } : {}),
    };
    if (tls?.alpnProtocol === 'h2') {
      serveHttp2(this.#engine, socket, info);
      return;
    }
    const onPreface = (bytes: Buffer): void => {
      socket.unshift(bytes);
      serveHttp2(this.#engine, socket, info);
    };
    serveConnection(this.#engine, socket, info, this.#front.http2 ? onPreface : undefined);
  }
}

function upstreamTimes({ upstreamIdleMs, maxIdle, upstreamAgeMs, upstreamRequests }: EngineTimes): UpstreamTimes {
  return { idleMs: upstreamIdleMs, maxIdle, maxAgeMs: upstreamAgeMs, maxRequests: upstreamRequests };
}
