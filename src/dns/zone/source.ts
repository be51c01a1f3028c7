// What DNS reads of the cluster: a Snapshot is one, and a worker thread has one that holds nothing else, kept as new by changes.

import { PersistentMap, type Difference } from '../../lib/persistent-map.ts';
import type {
  NamespaceRecord,
  ObjectKey,
  PodRecord,
  ServiceRecord,
  SliceEndpoint,
  SlicePort,
} from '../../model/records.ts';

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

export type DnsEndpoint = Pick<SliceEndpoint, 'ip' | 'ready' | 'hostname' | 'podName'>;

interface DnsMember {
  readonly endpoint: DnsEndpoint;
  readonly ports: readonly SlicePort[];
}

export interface DnsService {
  readonly key: ObjectKey;
  readonly record: DnsServiceRecord;
  readonly members: readonly DnsMember[];
}

export interface DnsSource {
  readonly revision: number;
  readonly services: PersistentMap<DnsService>;
  readonly namespaces: PersistentMap<NamespaceRecord>;
  readonly pods: PersistentMap<PodRecord>;
}

type Changes<V> = readonly (readonly [key: string, after: V | undefined])[];

/** From one source to the next, as plain data. */
export interface SourceChanges {
  readonly revision: number;
  readonly services: Changes<DnsService>;
  readonly namespaces: Changes<NamespaceRecord>;
  readonly pods: Changes<PodRecord>;
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
  let services: (readonly [string, DnsService | undefined])[] = [];
  for (const change of after.services.differences(before?.services ?? PersistentMap.empty())) {
    if (services.length === SERVICES_AT_ONCE) {
      yield { revision, services, namespaces: [], pods: [], last: false };
      services = [];
    }
    services.push([change.key, change.after && slim(change.after)]);
  }
  const namespaces = changesOf(after.namespaces.differences(before?.namespaces ?? PersistentMap.empty()));
  const podChanges = pods ? changesOf(after.pods.differences(before?.pods ?? PersistentMap.empty())) : [];
  yield { revision, services, namespaces, pods: podChanges, last: true };
}

function changesOf<V>(differences: Iterable<Difference<V>>): Changes<V> {
  return [...differences].map(({ key, after }) => [key, after] as const);
}

export function emptySource(): DnsSource {
  const empty = PersistentMap.empty<never>();
  return { revision: 0, services: empty, namespaces: empty, pods: empty };
}

export function withChanges(source: DnsSource, changes: SourceChanges): DnsSource {
  return {
    revision: changes.revision,
    services: source.services.with(changes.services),
    namespaces: source.namespaces.with(changes.namespaces),
    pods: source.pods.with(changes.pods),
  };
}

/** Only what is read, and only endpoints that are answered. */
function slim({ key, record, members }: DnsService): DnsService {
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
    members: members.flatMap((member) => {
      const { ip, ready, hostname, podName } = member.endpoint;
      return ready ? [{ endpoint: { ip, ready, hostname, podName }, ports: member.ports }] : [];
    }),
  };
}
