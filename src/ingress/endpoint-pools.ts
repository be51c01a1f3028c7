// The connections to endpoints, by endpoint and by the way it is reached: they outlive one route table.

import { hostPort, parseIp } from '../lib/ip.ts';
import type { SecretRecord } from '../model/records.ts';
import { DEFAULT_BACKEND_TLS, type BackendTlsSettings } from './annotations/proxy-ssl.ts';
import { wayOf, type UpstreamSettings } from './annotations/upstream.ts';
import { BackendTlsContexts, type BackendTls } from './backend-tls.ts';
import type { Dial } from './http/byte-stream.ts';
import type { Deadlines } from './http/deadlines.ts';
import { createTcpDial, createTlsDial } from './http/dial.ts';
import { lookupElsewhere } from './http/name-lookup.ts';
import { createHttp2Dial } from './http/http2-upstream.ts';
import { EndpointPool, type UpstreamTimes } from './http/upstream.ts';
import type { RouteTable } from './route-table.ts';

/** A service that annotations name by a URL: one that decides on access, or that takes copies of requests. */
export interface OuterService {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
}

interface Entry {
  readonly pool: EndpointPool;
  readonly tls: BackendTlsSettings | undefined;
  /** How many backends have the endpoint. */
  uses: number;
}

export class EndpointPools {
  readonly #deadlines: Deadlines;
  readonly #times: UpstreamTimes;
  readonly #entries = new Map<string, Entry>();
  readonly #tcp: Dial;
  readonly #contexts = new BackendTlsContexts();
  #table: RouteTable | undefined;
  /** Connections to services outside the routes, by their origin. */
  readonly #outer = new Map<string, EndpointPool>();

  constructor(deadlines: Deadlines, times: UpstreamTimes) {
    this.#deadlines = deadlines;
    this.#times = times;
    this.#tcp = createTcpDial();
  }

  get ejected(): number {
    let count = 0;
    for (const { pool } of this.#entries.values()) if (pool.ejected) count++;
    return count;
  }

  get connections(): number {
    let count = 0;
    for (const { pool } of this.#entries.values()) count += pool.size;
    return count;
  }

  /** Takes the table for Secrets: what is kept by an older state of one is not used for another request. */
  apply(table: RouteTable): void {
    const before = this.#table;
    this.#table = table;
    if (before && before.snapshot.secrets !== table.snapshot.secrets) {
      for (const { pool, tls } of this.#entries.values()) {
        if (!tls?.secret) continue;
        if (before.snapshot.secrets.get(tls.secret) !== table.snapshot.secrets.get(tls.secret)) pool.dropKept();
      }
    }
    if (this.#outer.size > 0 && table.settings !== before?.settings) this.#dropOuter(table);
  }

  acquire(upstream: UpstreamSettings, ip: string, port: number): EndpointPool {
    const key = poolKey(upstream, ip, port);
    let entry = this.#entries.get(key);
    if (!entry) {
      const pool = new EndpointPool(
        ip,
        port,
        this.#dialFor(upstream, parseIp(ip) === undefined),
        this.#deadlines,
        this.#times,
      );
      entry = { pool, tls: upstream.tls, uses: 0 };
      this.#entries.set(key, entry);
    }
    entry.uses++;
    return entry.pool;
  }

  release(upstream: UpstreamSettings, ip: string, port: number): void {
    const key = poolKey(upstream, ip, port);
    const entry = this.#entries.get(key);
    if (!entry || --entry.uses > 0) return;
    this.#entries.delete(key);
    entry.pool.retire();
  }

  outer(settings: OuterService): EndpointPool {
    const key = outerKey(settings);
    let pool = this.#outer.get(key);
    if (!pool) {
      const { secure, host, port } = settings;
      const dial = secure
        ? createTlsDial(() => this.#tlsOf({ ...DEFAULT_BACKEND_TLS, name: host, sendName: true }))
        : this.#tcp;
      pool = new EndpointPool(host, port, dial, this.#deadlines, this.#times);
      this.#outer.set(key, pool);
    }
    return pool;
  }

  /** Why TLS to a backend cannot be had as its Ingress asks for it. */
  tlsProblem({ tls }: UpstreamSettings): string | undefined {
    const made = tls && this.#tlsOf(tls);
    return made?.kind === 'bad' ? made.reason : undefined;
  }

  stop(): void {
    for (const { pool } of this.#entries.values()) pool.destroy();
    for (const pool of this.#outer.values()) pool.destroy();
    this.#outer.clear();
    this.#entries.clear();
  }

  /** `named`: the endpoint is a name, of an ExternalName Service. */
  #dialFor({ protocol, tls = DEFAULT_BACKEND_TLS }: UpstreamSettings, named: boolean): Dial {
    switch (protocol) {
      case 'http':
        return named ? createTcpDial(lookupElsewhere) : this.#tcp;
      case 'https':
        return createTlsDial(() => this.#tlsOf(tls), named ? lookupElsewhere : undefined);
      case 'grpc':
        return createHttp2Dial(undefined);
      case 'grpcs':
        return createHttp2Dial(() => this.#tlsOf(tls));
    }
  }

  #tlsOf(settings: BackendTlsSettings): BackendTls {
    return this.#contexts.of(settings, this.#secret(settings));
  }

  #secret({ secret }: BackendTlsSettings): SecretRecord | undefined {
    return secret === undefined ? undefined : this.#table?.snapshot.secrets.get(secret);
  }

  #dropOuter(table: RouteTable): void {
    const used = new Set<string>();
    for (const { externalAuth, mirror } of table.settings.values()) {
      if (externalAuth) used.add(outerKey(externalAuth));
      if (mirror) used.add(outerKey(mirror));
    }
    for (const [key, pool] of this.#outer) {
      if (used.has(key)) continue;
      this.#outer.delete(key);
      pool.retire();
    }
  }
}

function poolKey(upstream: UpstreamSettings, ip: string, port: number): string {
  return `${wayOf(upstream)} ${hostPort(ip, port)}`;
}

function outerKey({ secure, host, port }: OuterService): string {
  return `${secure ? 'https' : 'http'} ${hostPort(host, port)}`;
}
