// What the settings of a location make of a request: an answer, or how it goes on. Limits and passwords are looked at here; the
// order is that of nginx' phases.

import { cidrContains } from '../lib/cidr.ts';
import { parseIp } from '../lib/ip.ts';
import { answerChange } from './annotations/answer-rewrite.ts';
import { cookieAttributes } from './annotations/affinity.ts';
import { goesToCanary } from './annotations/canary.ts';
import { corsFields } from './annotations/cors.ts';
import { headerLines, type HeaderLines } from './annotations/custom-headers.ts';
import type { MirrorSettings } from './annotations/mirror.ts';
import type { TransferSettings } from './annotations/transfer.ts';
import type { LimitSettings } from './annotations/limits.ts';
import { headerTemplates, renderHeaders, type HeaderTemplates } from './annotations/header-templates.ts';
import { cookieValue, type TemplateRequest } from './annotations/template.ts';
import type { UpstreamSettings } from './annotations/upstream.ts';
import type { BackendKey } from './backend.ts';
import { Preferring, type RoundRobin, type Targets } from './balance.ts';
import { Fastest } from './fastest.ts';
import { DEFAULT_GLOBALS, type GlobalSettings } from './global-settings.ts';
import { Doors, SHUT, type Entry } from './doors.ts';
import { snippetEffect, type SnippetEffect } from './snippet-effect.ts';
import type { Answer } from './http/answer.ts';
import { errorFields, errorRequest } from './error-page.ts';
import type { Edit, ErrorPages, Forward } from './http/forward.ts';
import type { Mirror } from './http/mirror.ts';
import type { EndpointPool } from './http/upstream.ts';
import type { OuterService } from './endpoint-pools.ts';
import type { LimitState } from './limit-state.ts';
import { redirectOf, rewriteOf } from './match.ts';
import { DEFAULT_BACKEND, type HostRoutes, type Location } from './host-routes.ts';
import type { RouteTable } from './route-table.ts';
import { balancedTarget, keyFor, newKey, rankedTargets, readCookie, shortHash } from './sticky.ts';

export interface GuardOptions {
  readonly now: () => number;
  readonly random: () => number;
  readonly turnOf: (key: BackendKey) => RoundRobin<EndpointPool> | undefined;
  /** Why TLS to a backend cannot be had as its Ingress asks for it. */
  readonly tlsProblem: (upstream: UpstreamSettings) => string | undefined;
  /** Connections to a service outside the routes: one that decides on access, or takes copies. */
  readonly outerPool: (settings: OuterService) => EndpointPool;
  readonly limits: LimitState;
  readonly nonceKey: Buffer;
}

interface Visit {
  readonly table: RouteTable;
  readonly globals: GlobalSettings;
  readonly location: Location;
  readonly request: TemplateRequest;
  /** Lines for every answer. */
  readonly fields: string;
  readonly dropped: readonly string[];
  readonly effect: SnippetEffect | undefined;
  readonly entry: Extract<Entry, { readonly kind: 'open' }>;
  readonly headers: Extract<HeaderTemplates, { readonly kind: 'headers' }> | undefined;
  /** Ends what limit-connections counts. */
  readonly release: (() => void) | undefined;
}

/** What a request goes on with, once it is known that it may be answered by a backend. */
type Admitted = Omit<Visit, 'entry' | 'headers' | 'release'>;

type Limited =
  | { readonly kind: 'refused'; readonly answer: Answer }
  | { readonly kind: 'taken'; readonly release?: () => void };

const UNAVAILABLE: Answer = { status: 503, reason: 'the backend of this path has no endpoint that is ready' };
const CORS_NAMES = [
  'access-control-allow-origin',
  'access-control-allow-credentials',
  'access-control-allow-methods',
  'access-control-allow-headers',
  'access-control-expose-headers',
  'access-control-max-age',
];

export class Guard {
  readonly #options: GuardOptions;
  readonly #doors: Doors;
  readonly #templates = new WeakMap<object, HeaderTemplates>();
  readonly #headerLines = new WeakMap<object, HeaderLines>();

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#doors = new Doors(options);
  }

  stop(): Promise<void> {
    return this.#doors.stop();
  }

  /** For a host whose locations do not take the path: what its oldest Ingress asks for comes before the 404. */
  refuseUnmatched(table: RouteTable, routes: HostRoutes, request: TemplateRequest): Answer | undefined {
    const settings = routes.unmatched;
    if (!settings) return undefined;
    if (settings.denied !== undefined) return SHUT;
    const globals = table.selection.globals ?? DEFAULT_GLOBALS;
    const redirect = redirectOf(settings, routes, globals, request);
    if (redirect) return { ...redirect, reason: 'this host is served elsewhere' };
    const entry = this.#doors.enter(table, settings, undefined, request);
    // A check that takes time is not made for a path that leads nowhere.
    return entry.kind === 'refused' ? entry.answer : undefined;
  }

  decide(table: RouteTable, routes: HostRoutes, location: Location, request: TemplateRequest): Forward | Answer {
    const { settings } = location;
    if (location.denied !== undefined || this.#isShut(location)) return SHUT;
    const globals = table.selection.globals ?? DEFAULT_GLOBALS;
    const custom =
      settings.customHeaders === undefined ? undefined : this.#customHeaders(table, globals, settings.customHeaders);
    if (custom?.kind === 'bad') return SHUT;
    const preflight = settings.cors !== undefined && request.method === 'OPTIONS';
    const cors = settings.cors ? corsFields(settings.cors, request.header('origin'), preflight) : '';
    const fields = cors + (custom?.lines ?? '');
    const dropped = [...(settings.cors ? CORS_NAMES : []), ...(custom?.names ?? [])];
    if (preflight) return { status: 204, reason: '', fields };
    const redirect = redirectOf(settings, routes, globals, request);
    if (redirect) return { ...redirect, reason: 'this page is elsewhere', fields };
    const effect = settings.snippet && snippetEffect(settings.snippet, request, this.#options.now());
    const allFields = fields + (effect?.always ?? '');
    if (effect?.answer) return { ...effect.answer, fields: allFields };
    const limited = this.#limit(globals, location, request);
    if (limited.kind === 'refused') return { ...limited.answer, fields: allFields };
    const decision = this.#enter({ table, globals, location, request, fields: allFields, dropped, effect }, limited);
    if ('status' in decision) limited.release?.();
    return decision;
  }

  #enter(admitted: Admitted, { release }: Extract<Limited, { readonly kind: 'taken' }>): Forward | Answer {
    const { table, location, request, fields } = admitted;
    const { settings } = location;
    const entry = this.#doors.enter(table, settings, location, request);
    if (entry.kind === 'refused') return { ...entry.answer, fields: (entry.answer.fields ?? '') + fields };
    const headers =
      settings.requestHeaders === undefined ? undefined : this.#requestHeaders(table, settings.requestHeaders);
    return this.#forward({ ...admitted, entry, headers, release });
  }

  /** A backend cannot be met as its annotations ask for. */
  #isShut({ backend, secureBackend, canary }: Location): boolean {
    const refs = [backend, ...(secureBackend ? [secureBackend] : []), ...(canary ? [canary.backend] : [])];
    return refs.some(({ upstream }) => this.#options.tlsProblem(upstream) !== undefined);
  }

  #forward(visit: Visit): Forward | Answer {
    const { location, request, fields } = visit;
    const { settings } = location;
    const errorTurn = this.#errorTurn(visit);
    const own = this.#targets(location, request);
    const there = own !== undefined && own.targets.targets.length > 0;
    // default-backend takes what there is no endpoint for.
    const standIn = !there && location.errorBackend && errorTurn?.targets.length ? errorTurn : undefined;
    const chosen = there
      ? own
      : standIn && { targets: standIn, cookie: '', canary: undefined, endpointField: undefined };
    if (!chosen) return this.#unavailable(visit, errorTurn);
    const { effect, entry, headers } = visit;
    const rewritten = rewriteOf(location, effect?.path ?? request.path, effect?.query ?? request.query);
    if (rewritten.kind === 'redirect') {
      return { status: 302, reason: 'this page is elsewhere', location: rewritten.url, fields };
    }
    if (rewritten.kind === 'bad') return { status: 400, reason: 'the path is malformed', fields };
    const { forwardedPrefix, vhost } = settings.rewrite;
    const auth = settings.externalAuth;
    const edit: Edit = {
      path: rewritten.path,
      query: rewritten.query,
      host: vhost?.render(request).replace(/[^A-Za-z0-9.:\-_[\]]/g, '') ?? request.host,
      dropped: [
        ...(settings.basicAuth ? ['authorization'] : []),
        ...(auth?.responseHeaders.map((name) => name.toLowerCase()) ?? []),
        ...(headers?.names ?? []),
        ...(effect?.dropped ?? []),
      ],
      fields:
        (forwardedPrefix === undefined ? '' : `X-Forwarded-Prefix: ${forwardedPrefix}\r\n`) +
        (headers ? renderHeaders(headers, request) : '') +
        (standIn ? errorFields(503, location, request) : '') +
        (effect?.fields ?? ''),
      answerDropped: effect ? [...visit.dropped, ...effect.answerDropped] : visit.dropped,
      answerFields: fields + chosen.cookie,
      endpointField: chosen.endpointField,
      mirror: settings.mirror && this.#mirrorOf(settings.mirror, settings.transfer, request),
      change: settings.answerRewrite && answerChange(settings.answerRewrite, request),
      statusFields: effect?.onStatus,
      gate: entry.gate,
      question: entry.question,
      passed: entry.passed,
      release: visit.release,
    };
    const errors = standIn ? undefined : this.#errorPages(visit, errorTurn);
    return {
      location,
      targets: chosen.targets,
      transfer: settings.transfer,
      edit,
      ...(errors ? { errors } : {}),
      ...(chosen.canary === undefined ? {} : { canary: chosen.canary }),
    };
  }

  #mirrorOf(settings: MirrorSettings, { connectMs, readMs }: TransferSettings, request: TemplateRequest): Mirror {
    const { path, query } = request;
    const rendered = settings.target
      ?.render(request)
      .replace(/[^\u0021-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed()));
    const target =
      rendered === undefined
        ? { path, query }
        : { path: rendered.startsWith('/') ? rendered : `/${rendered}`, query: '' };
    const pool = this.#options.outerPool(settings);
    return { pool, ...target, host: settings.hostField, body: settings.body, connectMs, readMs };
  }

  /** The Service of `default-backend`, or the controller's default backend. */
  #errorTurn({ table, location }: Visit): RoundRobin<EndpointPool> | undefined {
    if (!location.settings.errors) return undefined;
    const backend = location.errorBackend ?? table.hosts.get(DEFAULT_BACKEND)?.fallback?.backend;
    return backend && this.#options.turnOf(backend.key);
  }

  #errorPages({ location, request }: Visit, turn: RoundRobin<EndpointPool> | undefined): ErrorPages | undefined {
    const codes = location.settings.errors?.codes;
    if (!turn || !codes || codes.size === 0) return undefined;
    // The head is read now: it is gone when the error comes.
    const accept = request.header('accept');
    const kept = { ...request, header: (name: string) => (name === 'accept' ? accept : undefined) };
    return {
      codes,
      targets: turn,
      text: (status, requestId) => errorRequest(errorFields(status, location, kept), kept, requestId),
    };
  }

  /** 503, or its page where another Service gives it. */
  #unavailable(visit: Visit, turn: RoundRobin<EndpointPool> | undefined): Forward | Answer {
    const { location, request, fields } = visit;
    const errors = this.#errorPages(visit, turn);
    if (!turn || !errors?.codes.has(503) || turn.targets.length === 0) return { ...UNAVAILABLE, fields };
    const edit: Edit = {
      path: '/',
      query: '',
      host: request.host,
      dropped: ['authorization', 'cookie'],
      fields: errorFields(503, location, request),
      answerDropped: visit.dropped,
      answerFields: fields,
      mirror: undefined,
      change: undefined,
      statusFields: undefined,
      gate: visit.entry.gate,
      question: visit.entry.question,
      passed: visit.entry.passed,
      release: visit.release,
    };
    return { location, targets: turn, transfer: location.settings.transfer, edit };
  }

  // Limits.

  #limit(globals: GlobalSettings, location: Location, request: TemplateRequest): Limited {
    const { limits } = location.settings;
    if (!limits || isExempt(limits, request.remoteAddress)) return { kind: 'taken' };
    const key = limitKey(globals, location, request);
    const now = this.#options.now();
    const { connections, perSecond, perMinute, burstMultiplier } = limits;
    const state = this.#options.limits;
    const release = connections > 0 ? state.enter(`c ${key}`, connections) : undefined;
    if (connections > 0 && !release) {
      const reason = 'too many requests of this client are under way';
      return { kind: 'refused', answer: { status: globals.limitConnectionStatus, reason } };
    }
    const fits =
      (perSecond === 0 || state.take(`s ${key}`, perSecond / 1000, perSecond * burstMultiplier, now)) &&
      (perMinute === 0 || state.take(`m ${key}`, perMinute / 60_000, perMinute * burstMultiplier, now));
    if (fits) return { kind: 'taken', ...(release ? { release } : {}) };
    release?.();
    const reason = 'this client sends too many requests';
    return { kind: 'refused', answer: { status: globals.limitRequestStatus, reason } };
  }

  #customHeaders(table: RouteTable, globals: GlobalSettings, key: string): HeaderLines {
    const map = table.snapshot.configMaps.get(key);
    if (!map) return { kind: 'bad', reason: 'the ConfigMap does not exist' };
    const known = this.#headerLines.get(map);
    if (known) return known;
    const lines = headerLines(map, globals.allowedResponseHeaders);
    this.#headerLines.set(map, lines);
    return lines;
  }

  /** Undefined when the ConfigMap is not there or cannot be used, which the log says: its headers guard nothing. */
  #requestHeaders(table: RouteTable, key: string): Extract<HeaderTemplates, { readonly kind: 'headers' }> | undefined {
    const map = table.snapshot.configMaps.get(key);
    if (!map) return undefined;
    let templates = this.#templates.get(map);
    if (!templates) this.#templates.set(map, (templates = headerTemplates(map)));
    return templates.kind === 'headers' ? templates : undefined;
  }

  // Which endpoint.

  #targets(
    location: Location,
    request: TemplateRequest,
  ):
    | {
        readonly targets: Targets<EndpointPool>;
        readonly cookie: string;
        readonly canary?: string;
        readonly endpointField?: (endpoint: EndpointPool) => string;
      }
    | undefined {
    const { affinity } = location.settings;
    const cookie = affinity && readCookie(cookieValue(request.header('cookie'), affinity.cookie));
    const legacy = affinity?.canary === 'legacy' || location.canary?.settings.legacyAffinity === true;
    const key = this.#backendOf(location, request, legacy ? undefined : cookie?.backend);
    const turn = this.#options.turnOf(key);
    if (!turn) return undefined;
    const canary = key === location.canary?.backend.key ? { canary: key } : {};
    const free = !affinity || (legacy && key === location.canary?.backend.key);
    if (free) return { targets: this.#balanced(location, request, turn), cookie: '', ...canary };
    const backend = shortHash(key);
    const known = cookie?.backend === backend ? cookie.key : undefined;
    const set = (value: string): string => {
      const attributes = cookieAttributes(affinity, location.path, request.secure, this.#options.now());
      return `Set-Cookie: ${affinity.cookie}=${value}|${backend}${attributes}\r\n`;
    };
    if (affinity.mode === 'balanced') {
      const own = known ?? newKey();
      const target = balancedTarget(turn.targets, own);
      const cookieText = known === undefined ? set(own) : '';
      if (!target) return { targets: turn, cookie: cookieText, ...canary };
      const moved = (endpoint: EndpointPool): string => set(keyFor(turn.targets, endpoint));
      return {
        ...stuck(affinity.changeOnFailure, target, cookieText, moved),
        targets: new Preferring(target, turn),
        ...canary,
      };
    }
    const held = known === undefined ? undefined : turn.targets.find((target) => targetHash(target) === known);
    const target = held ?? turn.pick();
    if (!target) return { targets: turn, cookie: '', ...canary };
    const moved = (endpoint: EndpointPool): string => set(targetHash(endpoint));
    const cookieText = held ? '' : moved(target);
    return {
      ...stuck(affinity.changeOnFailure, target, cookieText, moved),
      targets: new Preferring(target, turn),
      ...canary,
    };
  }

  /** upstream-hash-by: the same endpoint for the same text, while it is there; else as `load-balance` says. */
  #balanced({ settings }: Location, request: TemplateRequest, turn: RoundRobin<EndpointPool>): Targets<EndpointPool> {
    const { hashBy, balance } = settings;
    if (!hashBy) return balance === 'ewma' ? new Fastest(turn, this.#options.random, this.#options.now) : turn;
    const best = rankedTargets(turn.targets, hashBy.key.render(request), hashBy.subset);
    const target = best[Math.floor(this.#options.random() * best.length)];
    return target ? new Preferring(target, turn) : turn;
  }

  /** The canary's backend or the location's own. `sticky` is the backend of the affinity cookie. */
  #backendOf(location: Location, request: TemplateRequest, sticky: string | undefined): BackendKey {
    const { canary } = location;
    const backend = (request.secure && location.secureBackend) || location.backend;
    if (!canary) return backend.key;
    const usable = (this.#options.turnOf(canary.backend.key)?.targets.length ?? 0) > 0;
    if (!usable || sticky === shortHash(backend.key)) return backend.key;
    if (sticky === shortHash(canary.backend.key)) return canary.backend.key;
    const goes = goesToCanary(canary.settings, (name) => request.header(name), this.#options.random());
    return goes ? canary.backend.key : backend.key;
  }
}

/** The cookie, as one line for every answer; or, where a failure moves the client, as the line of the endpoint that answers. */
function stuck(
  changes: boolean,
  target: EndpointPool,
  cookie: string,
  moved: (endpoint: EndpointPool) => string,
): { readonly cookie: string; readonly endpointField?: (endpoint: EndpointPool) => string } {
  if (!changes) return { cookie };
  return { cookie: '', endpointField: (endpoint) => (endpoint === target ? cookie : moved(endpoint)) };
}

function targetHash(target: EndpointPool): string {
  return shortHash(`${target.ip} ${target.port}`);
}

function limitKey({ limitKey: key }: GlobalSettings, { ingress }: Location, request: TemplateRequest): string {
  return `${ingress.namespace}/${ingress.name} ${key ? key.render(request) : request.remoteAddress}`;
}

function isExempt(limits: LimitSettings, address: string): boolean {
  const ip = limits.exempt.length > 0 ? parseIp(address) : undefined;
  return ip !== undefined && limits.exempt.some((range) => cidrContains(range, ip));
}
