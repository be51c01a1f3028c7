// What carries the requests: listeners, connections, routes in force, certificates. It is given route tables and tells what became of
// each request; it decides nothing about objects.

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { ObjectKey } from '../model/records.ts';
import type { Logger } from '../observe/log.ts';
import type { Clock } from '../system/clock.ts';
import { serveConnection } from './http/client-connection.ts';
import { Deadlines } from './http/deadlines.ts';
import { createEngine, type Engine, type EngineTimes } from './http/engine.ts';
import type { RequestRecord } from './http/forward.ts';
import { serveHttp2 } from './http/http2-connection.ts';
import { openListener, type IngressListener, type ListenAddress } from './listener.ts';
import type { Tell } from './notice.ts';
import { LiveRoutes } from './live-routes.ts';
import type { RouteTable } from './route-table.ts';
import type { CertificatePair } from './self-signed.ts';
import { CertificateTable, tlsOptions, type CertificateState } from './tls.ts';

export interface DataPathOptions {
  readonly log: Logger;
  readonly clock: Clock;
  readonly times: EngineTimes;
  /** How often deadlines are looked at, in milliseconds. */
  readonly tickMs: number;
  /** `--default-ssl-certificate`, `namespace/name`. */
  readonly defaultCertificate: ObjectKey | undefined;
  readonly tell: Tell | undefined;
  readonly onRequest: (record: RequestRecord) => void;
  /** Whether an access log is written. */
  readonly logs: boolean;
}

export interface ConnectionCounts {
  readonly active: number;
  readonly busy: number;
  readonly accepted: number;
}

export class DataPath {
  readonly #clock: Clock;
  readonly #deadlines: Deadlines;
  readonly #engine: Engine;
  readonly #routes: LiveRoutes;
  readonly #certificates: CertificateTable;
  #http: IngressListener | undefined;
  #https: IngressListener | undefined;
  #shown: CertificatePair | undefined;
  #accepted = 0;

  constructor({ log, clock, times, tickMs, defaultCertificate, tell, onRequest, logs }: DataPathOptions) {
    this.#clock = clock;
    this.#deadlines = new Deadlines(clock, tickMs);
    this.#routes = new LiveRoutes({
      deadlines: this.#deadlines,
      times: { idleMs: times.upstreamIdleMs },
      random: Math.random,
      now: () => clock.now(),
    });
    this.#engine = createEngine(
      {
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
    this.#certificates = new CertificateTable(log, clock.now(), defaultCertificate, tell);
  }

  get addresses(): { readonly http: ListenAddress | undefined; readonly https: ListenAddress | undefined } {
    return { http: this.#http?.address, https: this.#https?.address };
  }

  get table(): RouteTable | undefined {
    return this.#routes.table;
  }

  get counts(): ConnectionCounts {
    let busy = 0;
    for (const connection of this.#engine.connections) if (connection.busy) busy++;
    return { active: this.#engine.connections.size, busy, accepted: this.#accepted };
  }

  get upstreamConnections(): number {
    return this.#routes.upstreamConnections;
  }

  get ejectedEndpoints(): number {
    return this.#routes.ejectedEndpoints;
  }

  certificateStates(): readonly CertificateState[] {
    return [...this.#certificates.states()];
  }

  /** Rejects with IngressListenError. */
  async listen(http: ListenAddress | undefined, https: ListenAddress | undefined): Promise<void> {
    if (http) this.#http = await openListener({ listen: http, onConnection: (socket) => this.#accept(socket, false) });
    if (https) {
      const tls = tlsOptions(this.#certificates);
      this.#https = await openListener({ listen: https, tls, onConnection: (socket) => this.#accept(socket, true) });
    }
  }

  /** From the return of this call on requests are routed by `table`. */
  apply(table: RouteTable): void {
    this.#certificates.apply(table);
    const pair = this.#certificates.defaultCertificate;
    if (pair !== (this.#shown ?? this.#certificates.defaultPair)) {
      this.#shown = pair;
      this.#https?.setDefaultCertificate(pair);
    }
    this.#routes.apply(table);
  }

  /** Accepts no more; what is under way may end within `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.#engine.stopping = true;
    const listeners = [this.#http, this.#https].filter((listener) => listener !== undefined);
    const closed = Promise.all(listeners.map((listener) => listener.close()));
    for (const connection of this.#engine.connections) connection.stopIdle();
    const grace = new AbortController();
    const bound = this.#clock.sleep(graceMs, grace.signal);
    await Promise.race([closed, bound]);
    grace.abort();
    for (const connection of this.#engine.connections) connection.destroy();
    for (const listener of listeners) for (const socket of listener.connections) socket.destroy();
    await closed;
    this.#routes.stop();
    this.#deadlines.stop();
  }

  #accept(socket: Socket | TLSSocket, secure: boolean): void {
    this.#accepted++;
    if (this.#engine.stopping) {
      socket.destroy();
      return;
    }
    const info = {
      remoteAddress: socket.remoteAddress ?? '',
      remotePort: socket.remotePort ?? 0,
      localPort: socket.localPort ?? 0,
      secure,
    };
    if ('alpnProtocol' in socket && socket.alpnProtocol === 'h2') {
      serveHttp2(this.#engine, socket, info);
      return;
    }
    serveConnection(this.#engine, socket, info, (bytes) => {
      socket.unshift(bytes);
      serveHttp2(this.#engine, socket, info);
    });
  }
}
