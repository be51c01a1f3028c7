import type { BackendKey, BackendTarget } from './backend.ts';
import { RoundRobin } from './balance.ts';
import type { Answer } from './http/answer.ts';
import type { Deadlines } from './http/deadlines.ts';
import type { ClientCertificateSettings } from './annotations/auth-tls.ts';
import { AuthoritiesMemo, CERTIFICATE_FIELDS, judgeCertificate } from './client-certificate.ts';
import type { ClientFacts, Edit, Forward, Origin } from './http/forward.ts';
import { originOf } from './origin.ts';
import type { RequestHead } from './http/request-head.ts';
import type { EndpointPool, UpstreamTimes } from './http/upstream.ts';
import { EndpointPools } from './endpoint-pools.ts';
import type { TemplateRequest } from './annotations/template.ts';
import { DEFAULT_GLOBALS } from './global-settings.ts';
import { isBlocked } from './block-list.ts';
import { everyAnswer, type EveryAnswer } from './every-answer.ts';
import { Guard } from './guard.ts';
import type { LimitState } from './limit-state.ts';
import { findHost, findLocation, hostName, toHttps, withSlash, wwwTarget } from './match.ts';
import { DEFAULT_BACKEND, type HostRoutes, type Location } from './host-routes.ts';
import type { RouteTable } from './route-table.ts';

const NOT_READY: Answer = { status: 503, reason: 'the proxy has no configuration yet' };
const NO_ROUTE: Answer = { status: 404, reason: 'no Ingress rule matches this host and path' };
const BLOCKED: Answer = { status: 403, reason: 'this client is not served here' };
const UNAVAILABLE: Answer = { status: 503, reason: 'the backend of this path has no endpoint that is ready' };

const SHUT: Answer = { status: 503, reason: 'this path is shut because its configuration cannot be carried out' };
const MISDIRECTED: Answer = { status: 421, reason: 'this connection was opened for another host' };

const PLAIN_EDIT = {
  dropped: [],
  fields: '',
  answerDropped: [],
  answerFields: '',
  mirror: undefined,
  change: undefined,
  statusFields: undefined,
  gate: undefined,
  passed: undefined,
  question: undefined,
  release: undefined,
} as const;

const TOO_LARGE: Answer = { status: 413, reason: 'the request body is larger than this path takes' };

export interface LiveRoutesOptions {
  readonly deadlines: Deadlines;
  readonly times: UpstreamTimes;
  /** In [0, 1): where a round robin starts. */
  readonly random: () => number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly limits: LimitState;
  /** The same in all threads. */
  readonly nonceKey: Buffer;
}

/** The route table in force, with what lives longer than one table: the turn of each backend and its connections. */
export class LiveRoutes {
  readonly #options: LiveRoutesOptions;
  #table: RouteTable | undefined;
  #everyAnswer: EveryAnswer | undefined;
  readonly #turns = new Map<BackendKey, RoundRobin<EndpointPool>>();
  readonly #pools: EndpointPools;
  #forwards = new WeakMap<Location, Forward>();

  readonly #authorities = new AuthoritiesMemo();
  readonly #guard: Guard;

  constructor(options: LiveRoutesOptions) {
    this.#options = options;
    this.#pools = new EndpointPools(options.deadlines, options.times);
    this.#guard = new Guard({
      now: options.now,
      limits: options.limits,
      nonceKey: options.nonceKey,
      random: options.random,
      turnOf: (key) => this.turnOf(key),
      outerPool: (settings) => this.#pools.outer(settings),
      tlsProblem: (upstream) => this.#pools.tlsProblem(upstream),
    });
  }

  get table(): RouteTable | undefined {
    return this.#table;
  }

  get ejectedEndpoints(): number {
    return this.#pools.ejected;
  }

  get upstreamConnections(): number {
    return this.#pools.connections;
  }

  /** From the return of this call on no request goes to an endpoint that the table does not name. */
  apply(table: RouteTable): void {
    const released: (() => void)[] = [];
    const before = this.#table?.backends;
    const changes = before ? table.backends.differences(before) : unchanged(table.backends.entries());
    for (const change of changes) {
      const before = change.before?.ref.upstream;
      const after = change.after?.ref.upstream;
      const pools = after
        ? endpointsOf(change.after?.target).map(({ ip, port }) => this.#pools.acquire(after, ip, port))
        : [];
      for (const { ip, port } of before ? endpointsOf(change.before?.target) : []) {
        if (before) released.push(() => this.#pools.release(before, ip, port));
      }
      const turn = this.#turns.get(change.key);
      if (turn) turn.swap(pools);
      else this.#turns.set(change.key, new RoundRobin(pools, this.#options.random(), (pool) => pool.ejected));
      if (!change.after) this.#turns.delete(change.key);
    }
    this.#table = table;
    this.#everyAnswer = everyAnswer(table);
    this.#pools.apply(table);
    for (const release of released) release();
  }

  /** `head` is read during the call only. */
  decide(client: ClientFacts, head: RequestHead): Forward | Answer {
    const table = this.#table;
    if (!table) return NOT_READY;
    const decision = this.#blocked(table, client, head) ?? this.#decide(table, client, head);
    const lines = client.secure ? this.#everyAnswer?.secure : this.#everyAnswer?.plain;
    if (!lines) return decision;
    if ('status' in decision) return { ...decision, fields: (decision.fields ?? '') + lines.fields };
    return { ...decision, lines };
  }

  #blocked(table: RouteTable, client: ClientFacts, head: RequestHead): Answer | undefined {
    const blocks = table.selection.globals?.blocks;
    return blocks && isBlocked(blocks, client.remoteAddress, (name) => head.header(name)) ? BLOCKED : undefined;
  }

  #decide(table: RouteTable, client: ClientFacts, head: RequestHead): Forward | Answer {
    const host = hostName(head.host);
    const routes = findHost(table, host);
    if (!routes) return this.#noHost(table, host, client, head);
    if (routes.clientCertificate) return this.#withCertificate(table, routes, routes.clientCertificate, client, head);
    return this.#inHost(table, routes, client, head);
  }

  /** Where a peer stands for the client, what it says of it. */
  origin(client: ClientFacts, head: RequestHead): Origin | undefined {
    const trust = this.#table?.selection.globals?.front.trust;
    return trust?.addressField === undefined ? undefined : originOf(trust, client, head);
  }

  /** The endpoints of a backend that the table has. */
  turnOf(key: BackendKey): RoundRobin<EndpointPool> | undefined {
    return this.#turns.get(key);
  }

  /** A host that asks for client certificates: every request of it is judged by that of its connection. */
  #withCertificate(
    table: RouteTable,
    routes: HostRoutes,
    settings: ClientCertificateSettings,
    client: ClientFacts,
    head: RequestHead,
  ): Forward | Answer {
    const secret = table.snapshot.secrets.get(settings.secret);
    if (this.#authorities.of(secret).kind === 'bad') return SHUT;
    // Another name was asked for in the handshake, or the authorities are others by now (RFC 9110 section 15.5.20).
    if (client.peer && client.peer.authorities !== secret) return MISDIRECTED;
    const judged = judgeCertificate(settings, client.peer, requestOf(client, head));
    // Without TLS the request may be sent to HTTPS yet.
    if ('status' in judged && client.peer) return judged;
    const decision = this.#inHost(table, routes, client, head);
    if ('status' in decision) return decision;
    if ('status' in judged) {
      decision.edit?.release?.();
      return judged;
    }
    const { path, query } = head;
    const edit: Edit = decision.edit ?? { ...PLAIN_EDIT, path, query, host: client.host ?? head.host };
    return {
      ...decision,
      edit: { ...edit, dropped: [...edit.dropped, ...CERTIFICATE_FIELDS], fields: edit.fields + judged.fields },
    };
  }

  #inHost(table: RouteTable, routes: HostRoutes, client: ClientFacts, head: RequestHead): Forward | Answer {
    if (routes.slashed.size > 0) {
      const slash = withSlash(routes, requestOf(client, head));
      if (slash !== undefined) return { status: 301, reason: 'the path ends with a slash', location: slash };
    }
    const location = findLocation(routes, head.path);
    if (!location) {
      const refusal = this.#guard.refuseUnmatched(table, routes, requestOf(client, head));
      return refusal ?? this.#defaultBackend(table, client, head);
    }
    return this.#forwardTo(table, routes, location, client, head);
  }

  #forwardTo(
    table: RouteTable,
    routes: HostRoutes,
    location: Location,
    client: ClientFacts,
    head: RequestHead,
  ): Forward | Answer {
    const { maxBody } = location.settings.transfer;
    const tooLarge = maxBody > 0 && head.contentLength > maxBody && location.denied === undefined;
    const plain = location.plain && (client.secure || !toHttps(location.settings.redirect, routes));
    if (plain && !tooLarge) {
      const forward = this.#forwards.get(location) ?? this.#forwardOf(location);
      if (forward && forward.targets.targets.length > 0) return forward;
    }
    const decision = tooLarge
      ? TOO_LARGE
      : plain
        ? UNAVAILABLE
        : this.#guard.decide(table, routes, location, requestOf(client, head));
    return 'status' in decision ? { ...decision, of: location } : decision;
  }

  #defaultBackend(table: RouteTable, client: ClientFacts, head: RequestHead): Forward | Answer {
    const routes = table.hosts.get(DEFAULT_BACKEND);
    return routes?.fallback ? this.#forwardTo(table, routes, routes.fallback, client, head) : NO_ROUTE;
  }

  #noHost(table: RouteTable, host: string, client: ClientFacts, head: RequestHead): Forward | Answer {
    const url = table.otherNames.size > 0 ? wwwTarget(table, host, requestOf(client, head)) : undefined;
    if (url === undefined) return this.#defaultBackend(table, client, head);
    const status = (table.selection.globals ?? DEFAULT_GLOBALS).redirectStatus;
    return { status, reason: 'this host has another name', location: url };
  }

  async stop(): Promise<void> {
    this.#pools.stop();
    await this.#guard.stop();
  }

  #forwardOf(location: Location): Forward | undefined {
    const targets = this.#turns.get(location.backend.key);
    if (!targets) return undefined;
    const forward: Forward = { location, targets, transfer: location.settings.transfer };
    this.#forwards.set(location, forward);
    return forward;
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

/** A copy, but for the header fields: those are read in the head itself, while it is there. */
function requestOf(client: ClientFacts, head: RequestHead): TemplateRequest {
  const { secure, remoteAddress, localPort } = client;
  const { method, path, query } = head;
  const host = client.host ?? head.host;
  return { secure, remoteAddress, localPort, host, method, path, query, header: (name) => head.header(name) };
}
