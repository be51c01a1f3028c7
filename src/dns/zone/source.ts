// What DNS reads of the cluster: a Snapshot is one, and a worker thread has one that holds nothing else, kept as new by changes.

import { changesFrom, PersistentMap, type MapChanges } from '../../lib/persistent-map.ts';
import type {
  ImportedSliceRecord,
  ServiceImportRecord,
  NamespaceRecord,
  ObjectKey,
  PodRecord,
  ServiceRecord,
  SliceEndpoint,
  SlicePort,
} from '../../model/records.ts';
import { packSlice, PackedEndpoints, type PackedSlice } from './packed-endpoints.ts';

export type DnsServiceRecord = Pick<
  ServiceRecord,
  | 'namespace'
  | 'name'
  | 'type'
  | 'clusterIPs'
  | 'headless'
  | 'externalName'
  | 'externalIPs'
  | 'loadBalancerIPs'
  | 'loadBalancerHostnames'
  | 'ports'
>;

export type DnsEndpoint = Pick<SliceEndpoint, 'ip' | 'ready' | 'hostname' | 'podName' | 'zone'>;

/** An array is one. */
export interface DnsEndpoints extends Iterable<DnsEndpoint> {
  readonly length: number;
}

export interface DnsSlice {
  readonly endpoints: DnsEndpoints;
  readonly ports: readonly SlicePort[];
  /** For endpoints of another cluster: that cluster's id. */
  readonly cluster?: string;
}

export interface DnsService {
  readonly key: ObjectKey;
  readonly record: DnsServiceRecord;
  readonly slices: readonly DnsSlice[];
}

export interface DnsSource {
  readonly revision: number;
  readonly services: PersistentMap<DnsService>;
  readonly namespaces: PersistentMap<NamespaceRecord>;
  readonly pods: PersistentMap<PodRecord>;
  readonly serviceImports?: PersistentMap<ServiceImportRecord>;
  readonly importedSlices?: PersistentMap<ImportedSliceRecord>;
}

/** A Service as plain data, its endpoints in as few pieces as there can be. */
interface PackedService {
  readonly key: ObjectKey;
  readonly record: DnsServiceRecord;
  readonly slices: readonly PackedSlice[];
}

/** From one source to the next, as plain data. */
export interface SourceChanges {
  readonly revision: number;
  readonly services: MapChanges<PackedService>;
  readonly namespaces: MapChanges<NamespaceRecord>;
  readonly pods: MapChanges<PodRecord>;
  readonly serviceImports: MapChanges<ServiceImportRecord>;
  readonly importedSlices: MapChanges<ImportedSliceRecord>;
  /** False where more of the same revision follow. */
  readonly last: boolean;
}

/** Services of one message: what a worker takes in between two packets. */
const SERVICES_AT_ONCE = 100;

/** What makes `after` of `before` (of nothing where that is undefined), in portions; at least one. */
export function* changesBetween(
  before: DnsSource | undefined,
  after: DnsSource,
  pods: boolean,
): Generator<SourceChanges> {
  const { revision } = after;
  const empty = emptySource();
  const old = { ...empty, ...before };
  const now = { ...empty, ...after };
  let services: (readonly [string, PackedService | undefined])[] = [];
  for (const change of now.services.differences(old.services)) {
    if (services.length === SERVICES_AT_ONCE) {
      yield { ...NOTHING, revision, services };
      services = [];
    }
    services.push([change.key, change.after && packed(change.after)]);
  }
  yield {
    revision,
    services,
    namespaces: changesFrom(old.namespaces, now.namespaces),
    pods: pods ? changesFrom(old.pods, now.pods) : [],
    serviceImports: changesFrom(old.serviceImports, now.serviceImports),
    importedSlices: changesFrom(old.importedSlices, now.importedSlices),
    last: true,
  };
}

const NOTHING = { namespaces: [], pods: [], serviceImports: [], importedSlices: [], last: false } as const;

export function emptySource(): Required<DnsSource> {
  const empty = PersistentMap.empty<never>();
  const others = { serviceImports: empty, importedSlices: empty };
  return { revision: 0, services: empty, namespaces: empty, pods: empty, ...others };
}

export function withChanges(source: Required<DnsSource>, changes: SourceChanges): Required<DnsSource> {
  return {
    revision: changes.revision,
    services: source.services.with(changes.services.map(([key, after]) => [key, after && unpacked(after)] as const)),
    namespaces: source.namespaces.with(changes.namespaces),
    pods: source.pods.with(changes.pods),
    serviceImports: source.serviceImports.with(changes.serviceImports),
    importedSlices: source.importedSlices.with(changes.importedSlices),
  };
}

/** Only what is read, and only endpoints that are answered. */
function packed({ key, record, slices }: DnsService): PackedService {
  const { namespace, name, type, clusterIPs, headless, externalName, externalIPs, loadBalancerIPs, ports } = record;
  const { loadBalancerHostnames } = record;
  return {
    key,
    record: {
      namespace,
      name,
      type,
      clusterIPs,
      headless,
      externalName,
      externalIPs,
      loadBalancerIPs,
      ...(loadBalancerHostnames ? { loadBalancerHostnames } : {}),
      ports,
    },
    slices: slices.flatMap((slice) => packSlice(slice) ?? []),
  };
}

function unpacked({ key, record, slices }: PackedService): DnsService {
  return {
    key,
    record,
    slices: slices.map((slice) => ({
      endpoints: new PackedEndpoints(slice),
      ports: slice.ports,
      ...(slice.cluster === undefined ? {} : { cluster: slice.cluster }),
    })),
  };
}
