// The locations of one host: its rules and default backends compiled from the Ingresses that name it.

import { compileRegex, type LinearRegex } from '../lib/linear-regex.ts';
import type { PersistentMap } from '../lib/persistent-map.ts';
import type { IngressPath, IngressRecord, PathType } from '../model/records.ts';
import type { ClientCertificateSettings } from './annotations/auth-tls.ts';
import type { CanarySettings } from './annotations/canary.ts';
import { DEFAULT_PREFIX, readSettings, type IngressSettings } from './annotations/settings.ts';
import { backendRef, type BackendRef } from './backend.ts';
import type { ClassSelection } from './class-selection.ts';
import { DEFAULT_GLOBALS, type GlobalSettings } from './global-settings.ts';
import { normaliseRulePath } from './path.ts';

/** What a table is compiled by. A new object means that all is compiled again. */
export interface RoutingOptions extends ClassSelection {
  readonly globals?: GlobalSettings;
  /** `--annotations-prefix`. */
  readonly annotationsPrefix?: string;
  /** `--disable-svc-external-name`. */
  readonly disableExternalNames?: boolean;
  /** `--conformance`: a Prefix path with a slash at its end takes the path without it, as the API has it; ingress-nginx redirects. */
  readonly conformance?: boolean;
  /** `--default-backend-service`: takes what no rule and no default backend of an Ingress takes. */
  readonly defaultBackend?: { readonly namespace: string; readonly service: string } | undefined;
}

/** Under which the default backend stands among the hosts; no host can have this name. */
export const DEFAULT_BACKEND = 'default backend';

/** A part of a location's requests goes elsewhere. */
export interface Canary {
  readonly settings: CanarySettings;
  readonly backend: BackendRef;
}

/** One path of one rule, or a default backend. */
export interface Location {
  /** As the rule writes it; the `path` label of the metrics. */
  readonly path: string;
  readonly pathType: PathType;
  /** Normal form; for Prefix without the slash at the end, so that `/` is the empty text. */
  readonly matchPath: string;
  /** The rule's host, or empty. */
  readonly host: string;
  readonly ingress: { readonly namespace: string; readonly name: string };
  readonly backend: BackendRef;
  readonly settings: IngressSettings;
  /** In regex mode: the path as an expression for the start of a request path. */
  readonly regex: LinearRegex | undefined;
  /** AUTO_HTTP: the same backend over TLS, for those who come over TLS. */
  readonly secureBackend: BackendRef | undefined;
  readonly canary: Canary | undefined;
  /** `default-backend`: the Service that answers in the place of this one. */
  readonly errorBackend: BackendRef | undefined;
  /** Why this location answers 503 whatever its backend is. */
  readonly denied: string | undefined;
  /** Nothing but limits and time-outs applies: the request goes on as it is. */
  readonly plain: boolean;
}

/** What another name of a host leads to. */
export interface OtherName {
  readonly host: string;
  readonly kind: 'alias' | 'redirect';
}

/** The locations of one host. An Exact match beats all others; then the longest path wins, Prefix before literal. */
export interface HostRoutes {
  /** A host, `*.domain`, or empty for requests that no other host takes. */
  readonly host: string;
  readonly exact: ReadonlyMap<string, Location>;
  readonly prefix: ReadonlyMap<string, Location>;
  /** Length of the longest key in `prefix`: no longer part of a request path is looked up. */
  readonly longestPrefix: number;
  /** ImplementationSpecific: literal prefixes, longest first. */
  readonly literal: readonly Location[];
  /** Paths for which there is a rule with a slash at the end and none without: nginx answers 301 to the one with the slash. */
  readonly slashed: ReadonlySet<string>;
  /** A default backend, for what nothing else takes. */
  readonly fallback: Location | undefined;
  /** An Ingress of this host has a `tls` entry that covers it, so plain HTTP may be sent on to HTTPS. */
  readonly tls: boolean;
  /**
   * Regex mode: an Ingress of the host has use-regex or rewrite-target, so every path of the host is an expression; the
   * longest text first, the first that matches wins. The other maps are empty then.
   */
  readonly regex: readonly Location[] | undefined;
  /** What holds where no location matches: ingress-nginx gives each host a `/` with the settings of its oldest Ingress. */
  readonly unmatched: IngressSettings | undefined;
  /** Which client certificates the host asks for. */
  readonly clientCertificate: ClientCertificateSettings | undefined;
  /** Where TLS connections go as they are. */
  readonly passthrough: BackendRef | undefined;
  /** Further names, of server-alias and from-to-www-redirect. */
  readonly otherNames: ReadonlyMap<string, OtherName>;
}

/** Undefined when no Ingress routes the host: it is only named in a `tls` entry. */
export function compileHost(
  host: string,
  ingresses: readonly IngressRecord[],
  settingsByIngress: PersistentMap<IngressSettings>,
  conformance = true,
): HostRoutes | undefined {
  const routing = ingresses.flatMap((ingress) => {
    const settings = settingsByIngress.get(`${ingress.namespace}/${ingress.name}`);
    const rules = ingress.rules.filter((rule) => (rule.host ?? '') === host);
    const takesAll = host === '' && ingress.rules.length === 0;
    return settings && (rules.length > 0 || takesAll)
      ? [{ ingress, settings, paths: rules.flatMap(({ paths }) => paths) }]
      : [];
  });
  const primary = routing.filter(({ settings }) => !settings.canary);
  if (primary.length === 0) return undefined;
  const regexMode = primary.some(({ settings: { rewrite } }) => rewrite.useRegex || rewrite.target !== undefined);
  const canaries = canariesOf(routing);
  const exact = new Map<string, Location>();
  const prefix = new Map<string, Location>();
  const literal = new Map<string, Location>();
  const regex = new Map<string, Location>();
  const otherNames = new Map<string, OtherName>();
  let fallback: Location | undefined;
  let tls = false;
  for (const { ingress, settings, paths } of primary) {
    tls ||= host !== '' && ingress.tls.some((entry) => covers(entry.hosts, host));
    for (const path of paths) {
      const location = locationOf({ host, ingress, settings, regexMode, canaries, ...path });
      if (!location) continue;
      const kind = path.pathType === 'Exact' ? exact : path.pathType === 'Prefix' ? prefix : literal;
      const map = regexMode ? regex : kind;
      const key = regexMode ? location.path : location.matchPath;
      if (!map.has(key)) map.set(key, location);
    }
    if (ingress.defaultBackend) {
      const backend = ingress.defaultBackend;
      const rest = { host, ingress, regexMode: false, canaries, path: '/', pathType: 'Prefix' as const, backend };
      // As ingress-nginx: redirects and rewrites of an Ingress without rules do not hold for what it catches.
      fallback ??= locationOf({
        ...rest,
        settings: ingress.rules.length === 0 ? withoutRedirects(settings) : settings,
      });
    }
    for (const [name, other] of otherNamesFor(host, settings)) if (!otherNames.has(name)) otherNames.set(name, other);
  }
  return {
    host,
    exact,
    prefix,
    longestPrefix: Math.max(0, ...[...prefix.keys()].map((path) => path.length)),
    slashed:
      conformance || regexMode ? NONE : slashedPaths([...exact.values(), ...prefix.values(), ...literal.values()]),
    literal: [...literal.values()].sort((a, b) => b.matchPath.length - a.matchPath.length),
    fallback,
    tls,
    regex: regexMode
      ? [...regex.values()].sort((a, b) => b.path.length - a.path.length || compareText(b.path, a.path))
      : undefined,
    unmatched: primary[0]?.settings,
    clientCertificate: primary.find(({ settings }) => settings.clientCertificate)?.settings.clientCertificate,
    passthrough: host === '' ? undefined : passthroughOf(primary),
    otherNames,
  };
}

const NONE: ReadonlySet<string> = new Set();

function slashedPaths(locations: readonly Location[]): ReadonlySet<string> {
  const paths = locations.map(({ path }) => normaliseRulePath(path) ?? '');
  const bare = new Set(paths.filter((path) => !path.endsWith('/')));
  return new Set(
    paths
      .filter((path) => path.length > 1 && path.endsWith('/') && !bare.has(path.slice(0, -1)))
      .map((path) => path.slice(0, -1)),
  );
}

function passthroughOf(primary: readonly RoutingIngress[]): BackendRef | undefined {
  const first = primary.find(({ settings, paths }) => settings.passthrough && paths.length > 0);
  const backend = first?.paths[0]?.backend;
  return first && backend && backendRef(first.ingress.namespace, backend, first.settings.upstream);
}

function withoutRedirects(settings: IngressSettings): IngressSettings {
  const redirect = { ...settings.redirect, appRoot: undefined, to: undefined };
  return { ...settings, redirect, rewrite: { ...settings.rewrite, target: undefined, forwardedPrefix: undefined } };
}

function otherNamesFor(host: string, settings: IngressSettings): readonly (readonly [string, OtherName])[] {
  if (host === '') return [];
  const aliases = settings.aliases.map((name) => [name, { host, kind: 'alias' as const }] as const);
  if (!settings.redirect.wwwRedirect || host.startsWith('*')) return aliases;
  const name = host.startsWith('www.') ? host.slice(4) : `www.${host}`;
  return [...aliases, [name, { host, kind: 'redirect' as const }]];
}

interface RoutingIngress {
  readonly ingress: IngressRecord;
  readonly settings: IngressSettings;
  readonly paths: readonly IngressPath[];
}

/** By path type and path: the oldest canary for it. */
function canariesOf(routing: readonly RoutingIngress[]): ReadonlyMap<string, Canary> {
  const canaries = new Map<string, Canary>();
  for (const { ingress, settings, paths } of routing) {
    if (!settings.canary) continue;
    for (const { path, pathType, backend } of paths) {
      const key = `${pathType} ${path}`;
      if (canaries.has(key)) continue;
      canaries.set(key, {
        settings: settings.canary,
        backend: backendRef(ingress.namespace, backend, settings.upstream),
      });
    }
  }
  return canaries;
}

interface LocationSpec extends IngressPath {
  readonly host: string;
  readonly ingress: IngressRecord;
  readonly settings: IngressSettings;
  readonly regexMode: boolean;
  readonly canaries: ReadonlyMap<string, Canary>;
}

function locationOf(spec: LocationSpec): Location | undefined {
  const { host, ingress, settings, regexMode, path, pathType } = spec;
  const normal = regexMode ? path : normaliseRulePath(path);
  if (normal === undefined) return undefined;
  const compiled = regexMode ? compileRegex(path, { ignoreCase: true, anchored: true }) : undefined;
  const refused = compiled?.kind === 'refused' ? compiled.reason : undefined;
  const canary = spec.canaries.get(`${pathType} ${path}`);
  return {
    path,
    pathType,
    matchPath: pathType === 'Prefix' && normal.endsWith('/') ? normal.slice(0, -1) : normal,
    host,
    ingress: { namespace: ingress.namespace, name: ingress.name },
    backend: backendRef(ingress.namespace, spec.backend, settings.upstream),
    settings,
    regex: compiled && (compiled.kind === 'regex' ? compiled.regex : coarseRegex(path)),
    secureBackend: settings.upstream.byClient
      ? backendRef(ingress.namespace, spec.backend, { ...settings.upstream, protocol: 'https' })
      : undefined,
    canary,
    errorBackend: errorBackend(ingress.namespace, settings.errors?.service),
    denied: settings.denied ?? (refused === undefined ? undefined : `path ${path}: ${refused}`),
    plain: refused === undefined && !canary && isPlain(settings),
  };
}

function errorBackend(namespace: string, service: string | undefined): BackendRef | undefined {
  if (service === undefined) return undefined;
  const port = { kind: 'name' as const, name: 'first port' };
  return { ...backendRef(namespace, { kind: 'service', service, port }), firstPort: true };
}

/** For an expression that cannot be run: what it begins with, so that its requests do not fall to a location less guarded. */
function coarseRegex(path: string): LinearRegex | undefined {
  const literal = path.includes('|') ? '' : (/^[A-Za-z0-9/_~%-]*/.exec(path)?.[0] ?? '');
  const compiled = compileRegex(literal.slice(0, Math.max(0, literal.length - 1)), {
    ignoreCase: true,
    anchored: true,
  });
  return compiled.kind === 'regex' ? compiled.regex : undefined;
}

function isPlain(settings: IngressSettings): boolean {
  const { redirect, rewrite, access } = settings;
  return (
    settings.denied === undefined &&
    redirect.appRoot === undefined &&
    redirect.to === undefined &&
    rewrite.target === undefined &&
    rewrite.vhost === undefined &&
    access.allow === undefined &&
    access.deny === undefined &&
    settings.limits === undefined &&
    settings.cors === undefined &&
    settings.snippet === undefined &&
    settings.errors === undefined &&
    settings.hashBy === undefined &&
    settings.balance === 'round_robin' &&
    settings.answerRewrite === undefined &&
    settings.mirror === undefined &&
    !settings.upstream.byClient &&
    settings.requestHeaders === undefined &&
    settings.basicAuth === undefined &&
    settings.externalAuth === undefined &&
    settings.affinity === undefined &&
    settings.customHeaders === undefined &&
    settings.upstream.tls === undefined
  );
}

/** A `tls` entry without hosts stands for every host of its Ingress. */
function covers(hosts: readonly string[], host: string): boolean {
  if (hosts.length === 0) return true;
  const wildcard = `*${host.slice(host.indexOf('.'))}`;
  return hosts.some((text) => text.toLowerCase() === host || text.toLowerCase() === wildcard);
}

/** The default backend of `--default-backend-service`, as the routes of a host of its own. */
export function defaultRoutes({ defaultBackend, globals = DEFAULT_GLOBALS }: RoutingOptions): HostRoutes | undefined {
  if (!defaultBackend) return undefined;
  const { namespace, service } = defaultBackend;
  const settings = readSettings({ namespace, annotations: new Map() }, globals, DEFAULT_PREFIX);
  const port = { kind: 'name' as const, name: 'first port' };
  const fallback: Location = {
    path: '/',
    pathType: 'Prefix',
    matchPath: '',
    host: '',
    ingress: { namespace: '', name: '' },
    backend: { ...backendRef(namespace, { kind: 'service', service, port }), firstPort: true },
    settings,
    regex: undefined,
    secureBackend: undefined,
    canary: undefined,
    errorBackend: undefined,
    denied: settings.denied,
    plain: isPlain(settings),
  };
  return {
    host: DEFAULT_BACKEND,
    exact: new Map(),
    prefix: new Map(),
    longestPrefix: 0,
    literal: [],
    slashed: NONE,
    fallback,
    tls: false,
    regex: undefined,
    unmatched: undefined,
    clientCertificate: undefined,
    passthrough: undefined,
    otherNames: new Map(),
  };
}

export function locationsOf(routes: HostRoutes | undefined): readonly Location[] {
  if (!routes) return [];
  const fallback = routes.fallback ? [routes.fallback] : [];
  return [...routes.exact.values(), ...routes.prefix.values(), ...routes.literal, ...(routes.regex ?? []), ...fallback];
}

/** Order of code units, for `sort`. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
