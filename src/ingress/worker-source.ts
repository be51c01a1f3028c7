// What a worker thread is told of the cluster: the records that routes are made of, and later what differs. Each worker compiles its own
// table from them, with the code that the main thread has: a compiled table holds expressions and functions, which cannot be sent.

import { changesFrom, PersistentMap, type MapChanges } from '../lib/persistent-map.ts';
import type {
  ConfigMapRecord,
  IngressClassRecord,
  IngressRecord,
  NamespaceRecord,
  SecretRecord,
} from '../model/records.ts';
import type { ResolvedService, Snapshot } from '../model/snapshot.ts';
import type { RouteTable } from './route-table.ts';

export interface WorkerSource {
  readonly revision: number;
  readonly ingresses: PersistentMap<IngressRecord>;
  readonly ingressClasses: PersistentMap<IngressClassRecord>;
  /** Those that a backend names, without what routing does not read. */
  readonly services: PersistentMap<ResolvedService>;
  readonly secrets: PersistentMap<SecretRecord>;
  readonly configMaps: PersistentMap<ConfigMapRecord>;
  readonly namespaces: PersistentMap<NamespaceRecord>;
}

/** Plain data: the revision of the source that they lead to, and what differs in each of its maps. */
export type SourceChanges = {
  readonly [K in keyof WorkerSource]: WorkerSource[K] extends PersistentMap<infer V> ? MapChanges<V> : WorkerSource[K];
};

export function emptySource(): WorkerSource {
  return {
    revision: 0,
    ingresses: PersistentMap.empty(),
    ingressClasses: PersistentMap.empty(),
    services: PersistentMap.empty(),
    secrets: PersistentMap.empty(),
    configMaps: PersistentMap.empty(),
    namespaces: PersistentMap.empty(),
  };
}

/** Without what a table does not read, which is not even made then. */
function slim({ key, record, carried, ports }: ResolvedService): ResolvedService {
  return { key, record, carried, ports, slices: [], members: [] };
}

/** The source of a table; `before` is that of the table before it. */
export function sourceOf(table: RouteTable, previous: RouteTable | undefined, before: WorkerSource): WorkerSource {
  const { snapshot } = table;
  const touched = new Set<string>();
  const used = previous ? table.backendsOfService.differences(previous.backendsOfService) : undefined;
  if (used) for (const { key } of used) touched.add(key);
  else for (const key of table.backendsOfService.keys()) touched.add(key);
  if (previous) for (const { key } of snapshot.services.differences(previous.snapshot.services)) touched.add(key);
  const services = [...touched].map((key) => {
    const service = table.backendsOfService.has(key) ? snapshot.services.get(key) : undefined;
    return [key, service && slim(service)] as const;
  });
  return {
    revision: snapshot.revision,
    ingresses: snapshot.ingresses,
    ingressClasses: snapshot.ingressClasses,
    services: before.services.with(services),
    secrets: snapshot.secrets,
    configMaps: snapshot.configMaps,
    namespaces: snapshot.namespaces,
  };
}

export function changesBetween(before: WorkerSource, after: WorkerSource): SourceChanges {
  return {
    revision: after.revision,
    ingresses: changesFrom(before.ingresses, after.ingresses),
    ingressClasses: changesFrom(before.ingressClasses, after.ingressClasses),
    services: changesFrom(before.services, after.services),
    secrets: changesFrom(before.secrets, after.secrets),
    configMaps: changesFrom(before.configMaps, after.configMaps),
    namespaces: changesFrom(before.namespaces, after.namespaces),
  };
}

/** `changesBetween(a, b)` applied to `a` is `b`. */
export function withChanges(source: WorkerSource, changes: SourceChanges): WorkerSource {
  return {
    revision: changes.revision,
    ingresses: source.ingresses.with(changes.ingresses),
    ingressClasses: source.ingressClasses.with(changes.ingressClasses),
    services: source.services.with(changes.services),
    secrets: source.secrets.with(changes.secrets),
    configMaps: source.configMaps.with(changes.configMaps),
    namespaces: source.namespaces.with(changes.namespaces),
  };
}

/** As much of a Snapshot as routes are made of. */
export function snapshotOf(source: WorkerSource): Snapshot {
  return {
    ...source,
    node: { name: '', ips: [], zone: undefined, podCIDRs: [] },
    pods: PersistentMap.empty(),
    serviceCIDRs: [],
  };
}
