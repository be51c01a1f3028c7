// Services of other clusters in the form of Services of this one, so that a zone is compiled from them the same way.

import { deepEqual } from '../../lib/equal.ts';
import { PersistentMap } from '../../lib/persistent-map.ts';
import type { ImportedSliceRecord, ServiceImportRecord } from '../../model/records.ts';
import type { ResolvedService, SliceMember, Snapshot } from '../../model/snapshot.ts';

/** Keeps the Services that have not changed, so that only those that have are compiled again. */
export class ImportedServices {
  #imports: Snapshot['serviceImports'];
  #slices: Snapshot['importedSlices'];
  #services: PersistentMap<ResolvedService> = PersistentMap.empty();

  /** The Snapshot with imported Services in place of its own. */
  of(snapshot: Snapshot): Snapshot {
    const { serviceImports, importedSlices } = snapshot;
    if (serviceImports !== this.#imports || importedSlices !== this.#slices) {
      this.#imports = serviceImports;
      this.#slices = importedSlices;
      this.#services = this.#services.with(this.#changes());
    }
    return { ...snapshot, services: this.#services };
  }

  #changes(): readonly (readonly [string, ResolvedService | undefined])[] {
    const members = new Map<string, SliceMember[]>();
    for (const slice of this.#slices?.values() ?? []) {
      const key = `${slice.namespace}/${slice.serviceName}`;
      members.set(key, [...(members.get(key) ?? []), ...membersOf(slice)]);
    }
    const next = new Map<string, ResolvedService | undefined>();
    for (const key of this.#services.keys()) next.set(key, undefined);
    for (const [key, record] of this.#imports?.entries() ?? []) {
      const service = resolvedImport(key, record, members.get(key) ?? []);
      const before = this.#services.get(key);
      next.set(key, deepEqual(before, service) ? before : service);
    }
    return [...next];
  }
}

function membersOf({ endpoints, family, ports, cluster }: ImportedSliceRecord): readonly SliceMember[] {
  return endpoints.map((endpoint) => ({ endpoint, family, ports, ...(cluster === '' ? {} : { cluster }) }));
}

function resolvedImport(
  key: string,
  { namespace, name, headless, ips, ports }: ServiceImportRecord,
  members: readonly SliceMember[],
): ResolvedService {
  return {
    key,
    record: {
      namespace,
      name,
      type: 'ClusterIP',
      clusterIPs: headless ? [] : ips,
      headless,
      externalName: undefined,
      externalIPs: [],
      loadBalancerIPs: [],
      sourceRanges: [],
      ports: ports.map((port) => ({ ...port, nodePort: undefined })),
      affinityTimeoutSeconds: undefined,
      internalTrafficPolicy: 'Cluster',
      externalTrafficPolicy: 'Cluster',
      healthCheckNodePort: undefined,
      proxyName: undefined,
    },
    carried: { kind: 'ignored', reason: 'no-cluster-ip' },
    ports: [],
    slices: [],
    members,
  };
}
