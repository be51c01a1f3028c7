import { PersistentMap } from '../lib/persistent-map.ts';
import type { IngressPath, IngressRecord, ObjectKey, PathType } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { backendRef, resolveBackend, serviceKeyOf, type Backend, type BackendKey, type BackendRef } from './backend.ts';
import { isOurs, type ClassSelection } from './class-selection.ts';
import { DEFAULT_PREFIX, readSettings, type IngressSettings } from './annotations/settings.ts';
import type { CanarySettings } from './annotations/canary.ts';
import { DEFAULT_GLOBALS, type GlobalSettings } from './global-settings.ts';
import { compileRegex, type LinearRegex } from '../lib/linear-regex.ts';
import { normaliseRulePath } from './path.ts';

/** What a table is compiled by. A new object means that all is compiled again. */
export interface RoutingOptions extends ClassSelection {
  readonly globals?: GlobalSettings;
  /** `--annotations-prefix`. */
  readonly annotationsPrefix?: string;
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
  readonly canary: Canary | undefined;
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
  /** Further names, of server-alias and from-to-www-redirect. */
  readonly otherNames: ReadonlyMap<string, OtherName>;
}

/** Which Secret holds the certificate of a host, and the Ingress that says so. */
export interface CertificateRef {
  readonly secret: ObjectKey;
  readonly ingress: ObjectKey;
}

/** All routes of one Snapshot: a value. The next one shares what did not change. */
export interface RouteTable {
  readonly snapshot: Snapshot;
  readonly selection: RoutingOptions;
  /** By host, `*.domain`, or empty. */
  readonly hosts: PersistentMap<HostRoutes>;
  /** By name: what hosts claim it, in order of the host. A name that is a host of its own is never looked up here. */
  readonly otherNames: PersistentMap<readonly OtherName[]>;
  /** What the annotations of our Ingresses say, by the Ingress. */
  readonly settings: PersistentMap<IngressSettings>;
  /** By host or `*.domain`. */
  readonly certificates: PersistentMap<CertificateRef>;
  readonly backends: PersistentMap<Backend>;
  /** Our Ingresses that name a host, oldest first. */
  readonly contributors: PersistentMap<readonly IngressRecord[]>;
  /** How many hosts use a backend, and the backends of a Service: what makes the next table cheap. */
  readonly uses: PersistentMap<number>;
  readonly backendsOfService: PersistentMap<readonly BackendRef[]>;
}

/**
 * The table of a Snapshot. With the previous table only the hosts and backends are compiled again whose Ingress or
 * Service is another object; the result equals that of a full compilation.
 */
export function compileRoutes(snapshot: Snapshot, selection: RoutingOptions, previous?: RouteTable): RouteTable {
  const sameClasses = previous?.snapshot.ingressClasses === snapshot.ingressClasses && previous.selection === selection;
  const base = previous && sameClasses ? previous : emptyTable(snapshot, selection);
  const settings = changedSettings(base, snapshot);
  const contributors = changedContributors(base, snapshot);
  const hosts = new Map<string, HostRoutes | undefined>();
  const certificates = new Map<string, CertificateRef | undefined>();
  for (const [host, ingresses] of contributors) {
    hosts.set(host, ingresses.length > 0 ? compileHost(host, ingresses, settings) : undefined);
    certificates.set(host, certificateOf(host, ingresses));
  }
  if (base !== previous && selection.defaultBackend) hosts.set(DEFAULT_BACKEND, defaultRoutes(selection));
  const touched = backendUses(base, hosts);
  const backends = new Map<BackendKey, Backend | undefined>();
  const ofService = new Map<ObjectKey, readonly BackendRef[]>();
  for (const [key, { ref, count }] of touched) {
    const before = base.uses.get(key) ?? 0;
    if (before > 0 === count > 0) continue;
    backends.set(key, count > 0 ? resolveBackend(ref, snapshot.services) : undefined);
    const service = serviceKeyOf(ref);
    if (service === undefined) continue;
    const others = (ofService.get(service) ?? base.backendsOfService.get(service) ?? []).filter((x) => x.key !== key);
    ofService.set(service, count > 0 ? [...others, ref] : others);
  }
  for (const { key } of snapshot.services.differences(base.snapshot.services)) {
    for (const ref of ofService.get(key) ?? base.backendsOfService.get(key) ?? []) {
      backends.set(ref.key, resolveBackend(ref, snapshot.services));
    }
  }
  return {
    snapshot,
    selection,
    hosts: base.hosts.with(hosts),
    otherNames: base.otherNames.with(otherNamesOf(base, hosts)),
    settings,
    certificates: base.certificates.with(certificates),
    backends: base.backends.with(backends),
    contributors: base.contributors.with(emptyAsUndefined(contributors)),
    uses: base.uses.with([...touched].map(([key, { count }]) => [key, count > 0 ? count : undefined] as const)),
    backendsOfService: base.backendsOfService.with(emptyAsUndefined(ofService)),
  };
}

function emptyTable(snapshot: Snapshot, selection: RoutingOptions): RouteTable {
  return {
    snapshot: { ...snapshot, ingresses: PersistentMap.empty(), services: PersistentMap.empty() },
    selection,
    hosts: PersistentMap.empty(),
    otherNames: PersistentMap.empty(),
    settings: PersistentMap.empty(),
    certificates: PersistentMap.empty(),
    backends: PersistentMap.empty(),
    contributors: PersistentMap.empty(),
    uses: PersistentMap.empty(),
    backendsOfService: PersistentMap.empty(),
  };
}

function* emptyAsUndefined<V>(
  map: ReadonlyMap<string, readonly V[]>,
): Generator<readonly [string, readonly V[] | undefined]> {
  for (const [key, list] of map) yield [key, list.length > 0 ? list : undefined];
}

function changedSettings(base: RouteTable, snapshot: Snapshot): PersistentMap<IngressSettings> {
  const { globals = DEFAULT_GLOBALS, annotationsPrefix = DEFAULT_PREFIX } = base.selection;
  const changes = new Map<ObjectKey, IngressSettings | undefined>();
  for (const { key, after } of snapshot.ingresses.differences(base.snapshot.ingresses)) {
    const ours = after !== undefined && isOurs(after, snapshot.ingressClasses, base.selection);
    if (ours || base.settings.has(key)) {
      changes.set(key, ours ? readSettings(after, globals, annotationsPrefix) : undefined);
    }
  }
  return base.settings.with(changes);
}

function defaultRoutes({ defaultBackend, globals = DEFAULT_GLOBALS }: RoutingOptions): HostRoutes | undefined {
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
    canary: undefined,
    denied: settings.denied,
    plain: isPlain(settings),
  };
  return {
    host: DEFAULT_BACKEND,
    exact: new Map(),
    prefix: new Map(),
    longestPrefix: 0,
    literal: [],
    fallback,
    tls: false,
    regex: undefined,
    unmatched: undefined,
    otherNames: new Map(),
  };
}

/** For each name that a compiled host claims or claimed: who claims it now. */
function otherNamesOf(
  base: RouteTable,
  hosts: ReadonlyMap<string, HostRoutes | undefined>,
): Map<string, readonly OtherName[] | undefined> {
  const names = new Map<string, readonly OtherName[] | undefined>();
  for (const [host, routes] of hosts) {
    const before = base.hosts.get(host)?.otherNames ?? new Map<string, OtherName>();
    const now = routes?.otherNames ?? new Map<string, OtherName>();
    for (const name of new Set([...before.keys(), ...now.keys()])) {
      const claim = now.get(name);
      const others = (names.has(name) ? names.get(name) : base.otherNames.get(name))?.filter((x) => x.host !== host);
      const all = [...(others ?? []), ...(claim ? [claim] : [])].sort((a, b) => compareText(a.host, b.host));
      names.set(name, all.length > 0 ? all : undefined);
    }
  }
  return names;
}

/** For every host that an added, changed or removed Ingress names: the Ingresses that name it now, oldest first. */
function changedContributors(base: RouteTable, snapshot: Snapshot): Map<string, readonly IngressRecord[]> {
  const lists = new Map<string, IngressRecord[]>();
  const listOf = (host: string): IngressRecord[] => {
    let list = lists.get(host);
    if (!list) lists.set(host, (list = [...(base.contributors.get(host) ?? [])]));
    return list;
  };
  for (const { before, after } of snapshot.ingresses.differences(base.snapshot.ingresses)) {
    if (before && isOurs(before, base.snapshot.ingressClasses, base.selection)) {
      for (const host of hostsOf(before)) {
        const list = listOf(host);
        const at = list.indexOf(before);
        if (at >= 0) list.splice(at, 1);
      }
    }
    if (after && isOurs(after, snapshot.ingressClasses, base.selection)) {
      for (const host of hostsOf(after)) listOf(host).push(after);
    }
  }
  for (const list of lists.values()) list.sort(byAge);
  return lists;
}

/** The oldest Ingress wins a conflict; among equals the order of the names decides, so that it is always the same. */
function byAge(a: IngressRecord, b: IngressRecord): number {
  return a.createdAt - b.createdAt || compareText(keyOf(a), keyOf(b));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function keyOf(ingress: IngressRecord): ObjectKey {
  return `${ingress.namespace}/${ingress.name}`;
}

function hostsOf(ingress: IngressRecord): ReadonlySet<string> {
  const hosts = new Set<string>();
  for (const rule of ingress.rules) hosts.add(rule.host ?? '');
  for (const entry of ingress.tls) for (const host of entry.hosts) hosts.add(host.toLowerCase());
  if (ingress.rules.length === 0 && ingress.defaultBackend) hosts.add('');
  return hosts;
}

/** Undefined when no Ingress routes the host: it is only named in a `tls` entry. */
function compileHost(
  host: string,
  ingresses: readonly IngressRecord[],
  settingsByIngress: PersistentMap<IngressSettings>,
): HostRoutes | undefined {
  const routing = ingresses.flatMap((ingress) => {
    const settings = settingsByIngress.get(keyOf(ingress));
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
    literal: [...literal.values()].sort((a, b) => b.matchPath.length - a.matchPath.length),
    fallback,
    tls,
    regex: regexMode
      ? [...regex.values()].sort((a, b) => b.path.length - a.path.length || compareText(b.path, a.path))
      : undefined,
    unmatched: primary[0]?.settings,
    otherNames,
  };
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
    canary,
    denied: settings.denied ?? (refused === undefined ? undefined : `path ${path}: ${refused}`),
    plain: refused === undefined && !canary && isPlain(settings),
  };
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
    settings.basicAuth === undefined &&
    settings.externalAuth === undefined &&
    settings.affinity === undefined &&
    settings.customHeaders === undefined
  );
}

/** A `tls` entry without hosts stands for every host of its Ingress. */
function covers(hosts: readonly string[], host: string): boolean {
  if (hosts.length === 0) return true;
  const wildcard = `*${host.slice(host.indexOf('.'))}`;
  return hosts.some((text) => text.toLowerCase() === host || text.toLowerCase() === wildcard);
}

function certificateOf(host: string, ingresses: readonly IngressRecord[]): CertificateRef | undefined {
  if (host === '') return undefined;
  for (const ingress of ingresses) {
    const named =
      ingress.tls.find((entry) => entry.secretName && entry.hosts.some((text) => text.toLowerCase() === host)) ??
      ingress.tls.find((entry) => entry.secretName && entry.hosts.length === 0);
    if (named) return { secret: `${ingress.namespace}/${named.secretName}`, ingress: keyOf(ingress) };
  }
  return undefined;
}

/** New use counts of every backend that a compiled host uses or used. */
function backendUses(
  base: RouteTable,
  hosts: ReadonlyMap<string, HostRoutes | undefined>,
): Map<BackendKey, { ref: BackendRef; count: number }> {
  const touched = new Map<BackendKey, { ref: BackendRef; count: number }>();
  const count = (routes: HostRoutes | undefined, by: number): void => {
    for (const ref of backendsOf(routes).values()) {
      let use = touched.get(ref.key);
      if (!use) touched.set(ref.key, (use = { ref, count: base.uses.get(ref.key) ?? 0 }));
      use.count += by;
    }
  };
  for (const [host, routes] of hosts) {
    count(base.hosts.get(host), -1);
    count(routes, 1);
  }
  return touched;
}

function backendsOf(routes: HostRoutes | undefined): ReadonlyMap<BackendKey, BackendRef> {
  const refs = locationsOf(routes).flatMap(({ backend, canary }) => (canary ? [backend, canary.backend] : [backend]));
  return new Map(refs.map((ref) => [ref.key, ref]));
}

export function locationsOf(routes: HostRoutes | undefined): readonly Location[] {
  if (!routes) return [];
  const fallback = routes.fallback ? [routes.fallback] : [];
  return [...routes.exact.values(), ...routes.prefix.values(), ...routes.literal, ...(routes.regex ?? []), ...fallback];
}
