import { PersistentMap } from '../lib/persistent-map.ts';
import type { IngressRecord, ObjectKey } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { resolveBackend, serviceKeyOf, type Backend, type BackendKey, type BackendRef } from './backend.ts';
import { isOurs } from './class-selection.ts';
import { DEFAULT_PREFIX, readSettings, type IngressSettings } from './annotations/settings.ts';
import { DEFAULT_GLOBALS } from './global-settings.ts';
import {
  DEFAULT_BACKEND,
  compareText,
  compileHost,
  defaultRoutes,
  locationsOf,
  type HostRoutes,
  type OtherName,
  type RoutingOptions,
} from './host-routes.ts';
import { sameRouting } from './same-routing.ts';

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
  /** How many hosts have TLS connections of their own kind: to be asked for a certificate, or passed through. */
  readonly hostsByName: number;
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
    hosts.set(
      host,
      ingresses.length > 0 ? compileHost(host, ingresses, settings, selection.conformance ?? true) : undefined,
    );
    certificates.set(host, certificateOf(host, ingresses));
  }
  if (base !== previous && selection.defaultBackend) hosts.set(DEFAULT_BACKEND, defaultRoutes(selection));
  const touched = backendUses(base, hosts);
  const backends = new Map<BackendKey, Backend | undefined>();
  const ofService = new Map<ObjectKey, readonly BackendRef[]>();
  for (const [key, { ref, count }] of touched) {
    const before = base.uses.get(key) ?? 0;
    if (before > 0 === count > 0) continue;
    backends.set(
      key,
      count > 0 ? resolveBackend(ref, snapshot.services, selection.disableExternalNames !== true) : undefined,
    );
    const service = serviceKeyOf(ref);
    if (service === undefined) continue;
    const others = (ofService.get(service) ?? base.backendsOfService.get(service) ?? []).filter((x) => x.key !== key);
    ofService.set(service, count > 0 ? [...others, ref] : others);
  }
  for (const { key } of snapshot.services.differences(base.snapshot.services)) {
    for (const ref of ofService.get(key) ?? base.backendsOfService.get(key) ?? []) {
      backends.set(ref.key, resolveBackend(ref, snapshot.services, selection.disableExternalNames !== true));
    }
  }
  return {
    snapshot,
    selection,
    hosts: base.hosts.with(hosts),
    otherNames: base.otherNames.with(otherNamesOf(base, hosts)),
    settings,
    certificates: base.certificates.with(certificates),
    hostsByName: base.hostsByName + byNameChange(base, hosts),
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
    hostsByName: 0,
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
  for (const { key, before, after } of snapshot.ingresses.differences(base.snapshot.ingresses)) {
    // A status, which is ours to write, changes nothing.
    if (before && after && sameRouting(before, after)) continue;
    const ours = after !== undefined && isOurs(after, snapshot.ingressClasses, base.selection);
    if (ours || base.settings.has(key)) {
      changes.set(key, ours ? readSettings(after, globals, annotationsPrefix) : undefined);
    }
  }
  return base.settings.with(changes);
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
  for (const { key, before, after } of snapshot.ingresses.differences(base.snapshot.ingresses)) {
    if (before && after && sameRouting(before, after)) continue;
    if (before && isOurs(before, base.snapshot.ingressClasses, base.selection)) {
      for (const host of hostsOf(before)) {
        const list = listOf(host);
        const at = list.findIndex((each) => keyOf(each) === key);
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

function byNameChange(base: RouteTable, hosts: ReadonlyMap<string, HostRoutes | undefined>): number {
  const count = (routes: HostRoutes | undefined): number => (routes?.clientCertificate || routes?.passthrough ? 1 : 0);
  let change = 0;
  for (const [host, routes] of hosts) change += count(routes) - count(base.hosts.get(host));
  return change;
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
  const refs = locationsOf(routes).flatMap(({ backend, secureBackend, canary, errorBackend }) => [
    backend,
    ...(secureBackend ? [secureBackend] : []),
    ...(canary ? [canary.backend] : []),
    ...(errorBackend ? [errorBackend] : []),
  ]);
  if (routes?.passthrough) refs.push(routes.passthrough);
  return new Map(refs.map((ref) => [ref.key, ref]));
}
