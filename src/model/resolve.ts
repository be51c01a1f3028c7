// The centre: records and a node in, a Snapshot out. Pure.

import type { EndpointSliceRecord, ObjectKey, Records, ServiceRecord } from './records.ts';
import { carriedBy, resolvePorts } from './service-port.ts';
import type { NodeIdentity, ResolvedService, SliceMember, Snapshot } from './snapshot.ts';
import type { Cidr } from '../lib/cidr.ts';
import { PersistentMap } from '../lib/persistent-map.ts';

/** A Snapshot with the records that it was made from, so that the next one costs what changed. */
export interface Resolution {
  readonly records: Records;
  readonly snapshot: Snapshot;
}

/**
 * Resolves every Service for the node. With `previous`, only Services whose record or slices differ are resolved again; the
 * result equals a full resolution, and is `previous` itself when nothing that a plane reads has changed.
 */
export function resolve(records: Records, node: NodeIdentity, previous?: Resolution): Resolution {
  const before = previous?.snapshot;
  const services =
    previous && sameView(previous.snapshot.node, node)
      ? previous.snapshot.services.with(changedServices(records, previous.records, node))
      : PersistentMap.from(allServices(records, node));
  const rest = {
    services,
    namespaces: records.namespaces,
    pods: records.pods,
    ingresses: records.ingresses,
    ingressClasses: records.ingressClasses,
    secrets: records.secrets,
    configMaps: records.configMaps,
    serviceCIDRs: serviceCIDRs(records, previous),
    serviceImports: records.serviceImports,
    importedSlices: records.importedSlices,
  };
  if (previous && before && sameNode(before.node, node) && holdsAll(before, rest)) {
    return { records, snapshot: before };
  }
  return { records, snapshot: { revision: (before?.revision ?? 0) + 1, node, ...rest } };
}

/**
 * Resolves one Service, alone. Its ports and members are made when they are first read: DNS reads no ports, rules no members, and those of a large
 * cluster are most of what a Snapshot holds.
 */
export function resolveService(
  key: ObjectKey,
  record: ServiceRecord,
  slices: readonly EndpointSliceRecord[],
  node: NodeIdentity,
): ResolvedService {
  return new LazyService(key, record, slices, node);
}

class LazyService implements ResolvedService {
  readonly key: ObjectKey;
  readonly record: ServiceRecord;
  readonly carried: ResolvedService['carried'];
  readonly slices: readonly EndpointSliceRecord[];
  readonly #node: NodeIdentity;
  #ports: ResolvedService['ports'] | undefined;
  #members: ResolvedService['members'] | undefined;

  constructor(key: ObjectKey, record: ServiceRecord, slices: readonly EndpointSliceRecord[], node: NodeIdentity) {
    this.key = key;
    this.record = record;
    this.carried = carriedBy(record);
    this.slices = slices;
    this.#node = node;
  }

  get ports(): ResolvedService['ports'] {
    return (this.#ports ??= resolvePorts(this.record, this.slices, this.#node));
  }

  get members(): ResolvedService['members'] {
    return (this.#members ??= membersOf(this.slices));
  }
}

function membersOf(slices: readonly EndpointSliceRecord[]): readonly SliceMember[] {
  return slices.flatMap((slice) =>
    slice.endpoints.map((endpoint) => ({ endpoint, family: slice.family, ports: slice.ports })),
  );
}

/** The array of before when it holds the same, so that a Snapshot differs only in what does. */
function serviceCIDRs(records: Records, previous: Resolution | undefined): readonly Cidr[] {
  const before = previous?.snapshot.serviceCIDRs;
  if (before && previous.records.serviceCIDRs === records.serviceCIDRs) return before;
  const found = [...new Set([...records.serviceCIDRs.values()].flatMap(({ cidrs }) => cidrs))].sort();
  return before && before.join() === found.join() ? before : found;
}

const NO_SLICES: readonly EndpointSliceRecord[] = [];

function* allServices(records: Records, node: NodeIdentity): Generator<readonly [string, ResolvedService]> {
  for (const [key, record] of records.services.entries()) {
    yield [key, resolveService(key, record, records.endpointSlices.get(key) ?? NO_SLICES, node)];
  }
}

function* changedServices(
  records: Records,
  before: Records,
  node: NodeIdentity,
): Generator<readonly [string, ResolvedService | undefined]> {
  const keys = new Set<string>();
  for (const { key } of records.services.differences(before.services)) keys.add(key);
  for (const { key } of records.endpointSlices.differences(before.endpointSlices)) keys.add(key);
  for (const key of keys) {
    const record = records.services.get(key);
    const slices = records.endpointSlices.get(key) ?? NO_SLICES;
    yield [key, record && resolveService(key, record, slices, node)];
  }
}

/** Whether endpoints are seen the same from both: locality and topology read the node's name and zone only. */
function sameView(a: NodeIdentity, b: NodeIdentity): boolean {
  return a.name === b.name && a.zone === b.zone;
}

function sameNode(a: NodeIdentity, b: NodeIdentity): boolean {
  return sameView(a, b) && a.ips.join() === b.ips.join() && a.podCIDRs.join() === b.podCIDRs.join();
}

function holdsAll(snapshot: Snapshot, rest: Partial<Snapshot>): boolean {
  const values: Partial<Record<string, unknown>> = { ...snapshot };
  return Object.entries(rest).every(([key, value]) => values[key] === value);
}
