// What the settings of a location make of a request: an answer, or how it goes on. Limits and passwords are looked at here; the
// order is that of nginx' phases.

import { createHash } from 'node:crypto';
import { cidrContains } from '../lib/cidr.ts';
import { parseIp } from '../lib/ip.ts';
import type { SecretRecord } from '../model/records.ts';
import { mayEnter } from './annotations/access.ts';
import { cookieAttributes, cookieValue } from './annotations/affinity.ts';
import type { BasicAuthSettings } from './annotations/basic-auth.ts';
import { goesToCanary } from './annotations/canary.ts';
import { corsFields } from './annotations/cors.ts';
import { headerLines, type HeaderLines } from './annotations/custom-headers.ts';
import type { ExternalAuthSettings } from './annotations/external-auth.ts';
import type { LimitSettings } from './annotations/limits.ts';
import type { IngressSettings } from './annotations/settings.ts';
import type { TemplateRequest } from './annotations/template.ts';
import type { UpstreamSettings } from './annotations/upstream.ts';
import { authQuestion } from './auth-request.ts';
import type { BackendKey } from './backend.ts';
import { Preferring, type RoundRobin, type Targets } from './balance.ts';
import { DEFAULT_GLOBALS, type GlobalSettings } from './global-settings.ts';
import { passwordFits, readPasswords, type Passwords } from './htpasswd.ts';
import type { Answer } from './http/answer.ts';
import type { Edit, Forward } from './http/forward.ts';
import type { EndpointPool } from './http/upstream.ts';
import { LimitState } from './limit-state.ts';
import { redirectOf, rewriteOf } from './match.ts';
import type { HostRoutes, Location } from './host-routes.ts';
import type { RouteTable } from './route-table.ts';
import { balancedTarget, newKey, readCookie, shortHash } from './sticky.ts';

/** Passwords that were right once are remembered by their hash: the check takes a millisecond. */
const MAX_REMEMBERED = 1000;

export interface GuardOptions {
  readonly now: () => number;
  readonly random: () => number;
  readonly turnOf: (key: BackendKey) => RoundRobin<EndpointPool> | undefined;
  /** Why TLS to a backend cannot be had as its Ingress asks for it. */
  readonly tlsProblem: (upstream: UpstreamSettings) => string | undefined;
  readonly authPool: (settings: ExternalAuthSettings) => EndpointPool;
}

interface Visit {
  readonly table: RouteTable;
  readonly globals: GlobalSettings;
  readonly location: Location;
  readonly request: TemplateRequest;
  /** Lines for every answer. */
  readonly fields: string;
  readonly dropped: readonly string[];
}

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
  readonly #limits = new LimitState();
  readonly #remembered = new WeakMap<SecretRecord, Set<string>>();
  readonly #passwords = new WeakMap<SecretRecord, { readonly form: string; readonly passwords: Passwords }>();
  readonly #headerLines = new WeakMap<object, HeaderLines>();

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** For a host whose locations do not take the path: what its oldest Ingress asks for comes before the 404. */
  refuseUnmatched(table: RouteTable, routes: HostRoutes, request: TemplateRequest): Answer | undefined {
    const settings = routes.unmatched;
    if (!settings) return undefined;
    if (settings.denied !== undefined) return deniedAnswer();
    const globals = table.selection.globals ?? DEFAULT_GLOBALS;
    const redirect = redirectOf(settings, routes, globals, request);
    if (redirect) return { ...redirect, reason: 'this host is served elsewhere' };
    return this.#enter(table, settings, request);
  }

  decide(table: RouteTable, routes: HostRoutes, location: Location, request: TemplateRequest): Forward | Answer {
    const { settings } = location;
    if (location.denied !== undefined || this.#isShut(location)) return deniedAnswer();
    const globals = table.selection.globals ?? DEFAULT_GLOBALS;
    const custom =
      settings.customHeaders === undefined ? undefined : this.#customHeaders(table, globals, settings.customHeaders);
    if (custom?.kind === 'bad') return deniedAnswer();
    const preflight = settings.cors !== undefined && request.method === 'OPTIONS';
    const cors = settings.cors ? corsFields(settings.cors, request.header('origin'), preflight) : '';
    const fields = cors + (custom?.lines ?? '');
    const dropped = [...(settings.cors ? CORS_NAMES : []), ...(custom?.names ?? [])];
    if (preflight) return { status: 204, reason: '', fields };
    const redirect = redirectOf(settings, routes, globals, request);
    if (redirect) return { ...redirect, reason: 'this page is elsewhere', fields };
    const refusal = this.#limit(globals, location, request) ?? this.#enter(table, settings, request);
    if (refusal) return { ...refusal, fields: (refusal.fields ?? '') + fields };
    return this.#forward({ table, globals, location, request, fields, dropped });
  }

  /** A backend cannot be met as its annotations ask for. */
  #isShut({ backend, canary }: Location): boolean {
    const refs = canary ? [backend, canary.backend] : [backend];
    return refs.some(({ upstream }) => this.#options.tlsProblem(upstream) !== undefined);
  }

  #forward(visit: Visit): Forward | Answer {
    const { location, request, fields } = visit;
    const { settings } = location;
    const chosen = this.#targets(location, request);
    if (!chosen || chosen.targets.targets.length === 0) return { ...UNAVAILABLE, fields };
    const rewritten = rewriteOf(location, request.path, request.query);
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
      ],
      fields: forwardedPrefix === undefined ? '' : `X-Forwarded-Prefix: ${forwardedPrefix}\r\n`,
      answerDropped: visit.dropped,
      answerFields: fields + chosen.cookie,
      question: auth && authQuestion(auth, request, this.#options.authPool(auth), settings.transfer),
      release: settings.limits && this.#hold(settings.limits, location, request),
    };
    return { location, targets: chosen.targets, transfer: settings.transfer, edit };
  }

  // Limits.

  #limit(globals: GlobalSettings, location: Location, request: TemplateRequest): Answer | undefined {
    const { limits } = location.settings;
    if (!limits || isExempt(limits, request.remoteAddress)) return undefined;
    const key = limitKey(location, request);
    const now = this.#options.now();
    if (limits.connections > 0 && this.#limits.openOf(key) >= limits.connections) {
      return { status: globals.limitConnectionStatus, reason: 'too many requests of this client are under way' };
    }
    const { perSecond, perMinute, burstMultiplier } = limits;
    const fits =
      (perSecond === 0 || this.#limits.take(`s ${key}`, perSecond / 1000, perSecond * burstMultiplier, now)) &&
      (perMinute === 0 || this.#limits.take(`m ${key}`, perMinute / 60_000, perMinute * burstMultiplier, now));
    return fits ? undefined : { status: globals.limitRequestStatus, reason: 'this client sends too many requests' };
  }

  #hold(limits: LimitSettings, location: Location, request: TemplateRequest): (() => void) | undefined {
    if (limits.connections === 0 || isExempt(limits, request.remoteAddress)) return undefined;
    return this.#limits.enter(limitKey(location, request));
  }

  // Who may enter.

  #enter(table: RouteTable, settings: IngressSettings, request: TemplateRequest): Answer | undefined {
    if (!mayEnter(settings.access, request.remoteAddress)) {
      return { status: 403, reason: 'this address may not enter' };
    }
    const { basicAuth } = settings;
    return basicAuth && this.#checkPassword(table.snapshot.secrets.get(basicAuth.secret), basicAuth, request);
  }

  #checkPassword(
    secret: SecretRecord | undefined,
    settings: BasicAuthSettings,
    request: TemplateRequest,
  ): Answer | undefined {
    const passwords = secret && this.#passwordsOf(secret, settings.form);
    if (!passwords || passwords.kind === 'bad') return deniedAnswer();
    const refused: Answer = {
      status: 401,
      reason: 'a user name and a password are needed',
      fields: `WWW-Authenticate: Basic realm="${settings.realm}"\r\n`,
    };
    const match = /^basic +([A-Za-z0-9+/=]+)$/i.exec(request.header('authorization') ?? '');
    const pair = match?.[1] === undefined ? '' : Buffer.from(match[1], 'base64').toString('utf8');
    const colon = pair.indexOf(':');
    if (colon < 0) return refused;
    const hash = passwords.users.get(pair.slice(0, colon));
    if (hash === undefined) return refused;
    let remembered = this.#remembered.get(secret);
    if (!remembered) this.#remembered.set(secret, (remembered = new Set()));
    const digest = createHash('sha256').update(pair).digest('base64');
    if (remembered.has(digest)) return undefined;
    if (!passwordFits(pair.slice(colon + 1), hash)) return refused;
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.add(digest);
    return undefined;
  }

  #passwordsOf(secret: SecretRecord, form: BasicAuthSettings['form']): Passwords {
    const known = this.#passwords.get(secret);
    if (known?.form === form) return known.passwords;
    const passwords = readPasswords(secret, form);
    this.#passwords.set(secret, { form, passwords });
    return passwords;
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

  // Which endpoint.

  #targets(
    location: Location,
    request: TemplateRequest,
  ): { readonly targets: Targets<EndpointPool>; readonly cookie: string } | undefined {
    const { affinity } = location.settings;
    const cookie = affinity && readCookie(cookieValue(request.header('cookie'), affinity.cookie));
    const key = this.#backendOf(location, request, affinity?.canary === 'sticky' ? cookie?.backend : undefined);
    const turn = this.#options.turnOf(key);
    if (!turn) return undefined;
    if (!affinity) return { targets: turn, cookie: '' };
    const backend = shortHash(key);
    const known = cookie?.backend === backend ? cookie.key : undefined;
    const set = (value: string): string => {
      const attributes = cookieAttributes(affinity, location.path, request.secure, this.#options.now());
      return `Set-Cookie: ${affinity.cookie}=${value}|${backend}${attributes}\r\n`;
    };
    if (affinity.mode === 'balanced') {
      const own = known ?? newKey();
      const target = balancedTarget(turn.targets, own);
      return { targets: target ? new Preferring(target, turn) : turn, cookie: known === undefined ? set(own) : '' };
    }
    const held = known === undefined ? undefined : turn.targets.find((target) => targetHash(target) === known);
    const target = held ?? turn.pick();
    if (!target) return { targets: turn, cookie: '' };
    return { targets: new Preferring(target, turn), cookie: held ? '' : set(targetHash(target)) };
  }

  /** The canary's backend or the location's own. `sticky` is the backend of the affinity cookie. */
  #backendOf(location: Location, request: TemplateRequest, sticky: string | undefined): BackendKey {
    const { backend, canary } = location;
    if (!canary) return backend.key;
    const usable = (this.#options.turnOf(canary.backend.key)?.targets.length ?? 0) > 0;
    if (!usable || sticky === shortHash(backend.key)) return backend.key;
    if (sticky === shortHash(canary.backend.key)) return canary.backend.key;
    const goes = goesToCanary(canary.settings, (name) => request.header(name), this.#options.random());
    return goes ? canary.backend.key : backend.key;
  }
}

function targetHash(target: EndpointPool): string {
  return shortHash(`${target.ip} ${target.port}`);
}

function limitKey({ ingress }: Location, request: TemplateRequest): string {
  return `${ingress.namespace}/${ingress.name} ${request.remoteAddress}`;
}

function isExempt(limits: LimitSettings, address: string): boolean {
  const ip = limits.exempt.length > 0 ? parseIp(address) : undefined;
  return ip !== undefined && limits.exempt.some((range) => cidrContains(range, ip));
}

function deniedAnswer(): Answer {
  return { status: 503, reason: 'this path is shut because its configuration cannot be carried out' };
}
