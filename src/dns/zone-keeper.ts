// The compiled zones of a configuration, one for each set of options, kept as new as the Snapshot.

import type { Ip } from '../lib/ip.ts';
import type { KubernetesOptions } from './block.ts';
import { compileZone, emptyZone } from './zone/compile.ts';
import { ImportedServices } from './zone/imports.ts';
import type { DnsSource } from './zone/source.ts';
import type { Zone } from './zone/zone.ts';

export class ZoneKeeper {
  readonly #selfIps: readonly Ip[];
  readonly #seconds: () => number;
  readonly #zones: { readonly options: KubernetesOptions; zone: Zone }[] = [];
  readonly #imported = new ImportedServices();
  readonly #snapshot: DnsSource | undefined;

  /** A configuration that follows another one has the Snapshot from the start. */
  constructor(selfIps: readonly Ip[], seconds: () => number, snapshot: DnsSource | undefined) {
    this.#selfIps = selfIps;
    this.#seconds = seconds;
    this.#snapshot = snapshot;
  }

  get all(): readonly Zone[] {
    return this.#zones.map(({ zone }) => zone);
  }

  zone(options: KubernetesOptions): () => Zone {
    let kept = this.#zones.find((one) => one.options === options);
    if (!kept) {
      const empty = emptyZone({ ...options, selfIps: this.#selfIps }, this.#seconds());
      kept = {
        options,
        zone: this.#snapshot
          ? compileZone(this.#view(this.#snapshot, options), empty.options, this.#seconds(), empty)
          : empty,
      };
      this.#zones.push(kept);
    }
    const found = kept;
    return () => found.zone;
  }

  update(snapshot: DnsSource): void {
    for (const kept of this.#zones)
      kept.zone = compileZone(this.#view(snapshot, kept.options), kept.zone.options, this.#seconds(), kept.zone);
  }

  #view(snapshot: DnsSource, { multicluster }: KubernetesOptions): DnsSource {
    return multicluster ? this.#imported.of(snapshot) : snapshot;
  }
}
