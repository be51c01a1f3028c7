import { hostPort } from '../lib/ip.ts';
import type { BackendKey, BackendTarget } from './backend.ts';
import { RoundRobin } from './balance.ts';
import type { Answer } from './http/answer.ts';
import type { Dial } from './http/byte-stream.ts';
import type { Deadlines } from './http/deadlines.ts';
import type { Forward } from './http/engine.ts';
import { EndpointPool, type UpstreamTimes } from './http/upstream.ts';
import { findHost, findLocation, hostName, httpsUrl, redirects, type RouteOptions } from './match.ts';
import type { Location, RouteTable } from './route-table.ts';

const NOT_READY: Answer = { status: 503, reason: 'the proxy has no configuration yet' };
const NO_ROUTE: Answer = { status: 404, reason: 'no Ingress rule matches this host and path' };
const UNAVAILABLE: Answer = { status: 503, reason: 'the backend of this path has no endpoint that is ready' };

export interface LiveRoutesOptions extends RouteOptions {
  readonly dial: Dial;
  readonly deadlines: Deadlines;
  readonly times: UpstreamTimes;
  /** In [0, 1): where a round robin starts. */
  readonly random: () => number;
}

/** The route table in force, with what lives longer than one table: the turn of each backend and its connections. */
export class LiveRoutes {
  readonly #options: LiveRoutesOptions;
  #table: RouteTable | undefined;
  readonly #turns = new Map<BackendKey, RoundRobin<EndpointPool>>();
  readonly #pools = new Map<string, { pool: EndpointPool; uses: number }>();
  #forwards = new WeakMap<Location, Forward>();

  constructor(options: LiveRoutesOptions) {
    this.#options = options;
  }

  get table(): RouteTable | undefined {
    return this.#table;
  }

  get upstreamConnections(): number {
    let count = 0;
    for (const { pool } of this.#pools.values()) count += pool.size;
    return count;
  }

  /** From the return of this call on no request goes to an endpoint that the table does not name. */
  apply(table: RouteTable): void {
    const released: string[] = [];
    const before = this.#table?.backends;
    const changes = before ? table.backends.differences(before) : unchanged(table.backends.entries());
    for (const change of changes) {
      const pools = endpointsOf(change.after?.target).map(({ ip, port }) => this.#acquire(ip, port));
      for (const { ip, port } of endpointsOf(change.before?.target)) released.push(hostPort(ip, port));
      const turn = this.#turns.get(change.key);
      if (turn) turn.swap(pools);
      else this.#turns.set(change.key, new RoundRobin(pools, this.#options.random()));
      if (!change.after) this.#turns.delete(change.key);
    }
    this.#table = table;
    for (const key of released) this.#release(key);
  }

  decide(secure: boolean, hostHeader: string, path: string, query: string): Forward | Answer {
    const table = this.#table;
    if (!table) return NOT_READY;
    const host = hostName(hostHeader);
    const routes = findHost(table, host);
    if (!routes) return NO_ROUTE;
    if (redirects(routes, secure, this.#options.sslRedirect)) {
      return { status: 308, reason: 'this host is served by HTTPS', location: httpsUrl(host, path + query) };
    }
    const location = findLocation(routes, path);
    if (!location) return NO_ROUTE;
    const forward = this.#forwards.get(location) ?? this.#forwardOf(location);
    return forward && forward.targets.targets.length > 0 ? forward : UNAVAILABLE;
  }

  stop(): void {
    for (const { pool } of this.#pools.values()) pool.destroy();
    this.#pools.clear();
  }

  #forwardOf(location: Location): Forward | undefined {
    const targets = this.#turns.get(location.backend.key);
    if (!targets) return undefined;
    const forward = { location, targets };
    this.#forwards.set(location, forward);
    return forward;
  }

  #acquire(ip: string, port: number): EndpointPool {
    const key = hostPort(ip, port);
    let entry = this.#pools.get(key);
    if (!entry) {
      const { dial, deadlines, times } = this.#options;
      entry = { pool: new EndpointPool(ip, port, dial, deadlines, times), uses: 0 };
      this.#pools.set(key, entry);
    }
    entry.uses++;
    return entry.pool;
  }

  #release(key: string): void {
    const entry = this.#pools.get(key);
    if (!entry || --entry.uses > 0) return;
    this.#pools.delete(key);
    entry.pool.retire();
  }
}

function endpointsOf(target: BackendTarget | undefined): readonly { readonly ip: string; readonly port: number }[] {
  return target?.kind === 'endpoints' ? target.endpoints : [];
}

function* unchanged<V>(
  entries: Iterable<readonly [string, V]>,
): Generator<{ key: string; before: V | undefined; after: V | undefined }> {
  for (const [key, after] of entries) yield { key, before: undefined, after };
}
