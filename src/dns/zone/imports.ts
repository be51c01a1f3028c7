// Services of other clusters in the form of Services of this one, so that a zone is compiled from them the same way.

import { deepEqual } from '../../lib/equal.ts';
import { PersistentMap } from '../../lib/persistent-map.ts';
import type { ImportedSliceRecord, ServiceImportRecord } from '../../model/records.ts';
import type { DnsService, DnsSlice, DnsSource } from './source.ts';

/** Keeps the Services that have not changed, so that only those that have are compiled again. */
export class ImportedServices {
  #imports: DnsSource['serviceImports'];
  #slices: DnsSource['importedSlices'];
  #services: PersistentMap<DnsService> = PersistentMap.empty();

  /** The Snapshot with imported Services in place of its own. */
  of(snapshot: DnsSource): DnsSource {
    const { serviceImports, importedSlices } = snapshot;
    if (serviceImports !== this.#imports || importedSlices !== this.#slices) {
      this.#imports = serviceImports;
      this.#slices = importedSlices;
      this.#services = this.#services.with(this.#changes());
    }
    return { ...snapshot, services: this.#services };
  }

  #changes(): readonly (readonly [string, DnsService | undefined])[] {
    const slices = new Map<string, DnsSlice[]>();
    for (const slice of this.#slices?.values() ?? []) {
      const key = `${slice.namespace}/${slice.serviceName}`;
      slices.set(key, [...(slices.get(key) ?? []), importedSlice(slice)]);
    }
    const next = new Map<string, DnsService | undefined>();
    for (const key of this.#services.keys()) next.set(key, undefined);
    for (const [key, record] of this.#imports?.entries() ?? []) {
      const service = resolvedImport(key, record, slices.get(key) ?? []);
      const before = this.#services.get(key);
      next.set(key, deepEqual(before, service) ? before : service);
    }
    return [...next];
  }
}

function importedSlice({ endpoints, ports, cluster }: ImportedSliceRecord): DnsSlice {
  return { endpoints, ports, ...(cluster === '' ? {} : { cluster }) };
}

function resolvedImport(
  key: string,
  { namespace, name, headless, ips, ports }: ServiceImportRecord,
  slices: readonly DnsSlice[],
): DnsService {
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
      ports: ports.map((port) => ({ ...port, nodePort: undefined })),
    },
    slices,
  };
}
