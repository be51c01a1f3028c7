import { PersistentMap } from '../lib/persistent-map.ts';
import type { IngressBackend, IngressRecord, ObjectKey, PathType } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { backendRef, resolveBackend, serviceKeyOf, type Backend, type BackendKey, type BackendRef } from './backend.ts';
import { isOurs, type ClassSelection } from './class-selection.ts';
import { normaliseRulePath } from './path.ts';

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
}

/** Which Secret holds the certificate of a host, and the Ingress that says so. */
export interface CertificateRef {
  readonly secret: ObjectKey;
  readonly ingress: ObjectKey;
}

/** All routes of one Snapshot: a value. The next one shares what did not change. */
export interface RouteTable {
  readonly snapshot: Snapshot;
  readonly selection: ClassSelection;
  /** By host, `*.domain`, or empty. */
  readonly hosts: PersistentMap<HostRoutes>;
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
export function compileRoutes(snapshot: Snapshot, selection: ClassSelection, previous?: RouteTable): RouteTable {
  const sameClasses = previous?.snapshot.ingressClasses === snapshot.ingressClasses && previous.selection === selection;
  const base = previous && sameClasses ? previous : emptyTable(snapshot, selection);
  const contributors = changedContributors(base, snapshot);
  const hosts = new Map<string, HostRoutes | undefined>();
  const certificates = new Map<string, CertificateRef | undefined>();
  for (const [host, ingresses] of contributors) {
    hosts.set(host, ingresses.length > 0 ? compileHost(host, ingresses) : undefined);
    certificates.set(host, certificateOf(host, ingresses));
  }
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
    certificates: base.certificates.with(certificates),
    backends: base.backends.with(backends),
    contributors: base.contributors.with(emptyAsUndefined(contributors)),
    uses: base.uses.with([...touched].map(([key, { count }]) => [key, count > 0 ? count : undefined] as const)),
    backendsOfService: base.backendsOfService.with(emptyAsUndefined(ofService)),
  };
}

function emptyTable(snapshot: Snapshot, selection: ClassSelection): RouteTable {
  return {
    snapshot: { ...snapshot, ingresses: PersistentMap.empty(), services: PersistentMap.empty() },
    selection,
    hosts: PersistentMap.empty(),
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
function compileHost(host: string, ingresses: readonly IngressRecord[]): HostRoutes | undefined {
  const exact = new Map<string, Location>();
  const prefix = new Map<string, Location>();
  const literal = new Map<string, Location>();
  let fallback: Location | undefined;
  let routed = false;
  let tls = false;
  for (const ingress of ingresses) {
    const rules = ingress.rules.filter((rule) => (rule.host ?? '') === host);
    const takesAll = host === '' && ingress.rules.length === 0;
    if (rules.length === 0 && !takesAll) continue;
    routed = true;
    tls ||= host !== '' && ingress.tls.some((entry) => covers(entry.hosts, host));
    for (const path of rules.flatMap((rule) => rule.paths)) {
      const location = locationOf(host, ingress, path.path, path.pathType, path.backend);
      if (!location) continue;
      const kind = path.pathType === 'Exact' ? exact : path.pathType === 'Prefix' ? prefix : literal;
      if (!kind.has(location.matchPath)) kind.set(location.matchPath, location);
    }
    if (ingress.defaultBackend) fallback ??= locationOf(host, ingress, '/', 'Prefix', ingress.defaultBackend);
  }
  if (!routed) return undefined;
  return {
    host,
    exact,
    prefix,
    longestPrefix: Math.max(0, ...[...prefix.keys()].map((path) => path.length)),
    literal: [...literal.values()].sort((a, b) => b.matchPath.length - a.matchPath.length),
    fallback,
    tls,
  };
}

function locationOf(
  host: string,
  ingress: IngressRecord,
  path: string,
  pathType: PathType,
  backend: IngressBackend,
): Location | undefined {
  const normal = normaliseRulePath(path);
  if (normal === undefined) return undefined;
  return {
    path,
    pathType,
    matchPath: pathType === 'Prefix' && normal.endsWith('/') ? normal.slice(0, -1) : normal,
    host,
    ingress: { namespace: ingress.namespace, name: ingress.name },
    backend: backendRef(ingress.namespace, backend),
  };
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
  return new Map(locationsOf(routes).map((location) => [location.backend.key, location.backend]));
}

export function locationsOf(routes: HostRoutes | undefined): readonly Location[] {
  if (!routes) return [];
  const fallback = routes.fallback ? [routes.fallback] : [];
  return [...routes.exact.values(), ...routes.prefix.values(), ...routes.literal, ...fallback];
}
