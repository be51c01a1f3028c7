// Which Secrets and ConfigMaps the Ingresses of a Snapshot name: the source reads only those.

import { PersistentMap } from '../lib/persistent-map.ts';
import type { ConfigMapRecord, IngressRecord, ObjectKey } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { objectRef } from './annotations/reader.ts';

export interface NamedObjects {
  readonly secrets: ReadonlySet<ObjectKey>;
  readonly configMaps: ReadonlySet<ObjectKey>;
}

export interface ReferenceOptions {
  readonly annotationsPrefix: string;
  /** The controller's own, `namespace/name`. */
  readonly configMap: ObjectKey | undefined;
  readonly defaultCertificate: ObjectKey | undefined;
  /** Those of ports that are passed on as they are. */
  readonly streams?: readonly (ObjectKey | undefined)[];
}

const SECRET_ANNOTATIONS = ['auth-secret', 'auth-tls-secret', 'proxy-ssl-secret'];
const CONFIG_MAP_ANNOTATIONS = ['custom-headers', 'auth-proxy-set-headers'];
/** Keys of the controller's ConfigMap. */
const HEADER_KEYS = ['add-headers', 'proxy-set-headers'];

/** What the Snapshots that it is asked of name, one after the other: a change costs as much as the Ingresses that changed. */
export class References {
  readonly #options: ReferenceOptions;
  readonly #secretNames: readonly string[];
  readonly #configMapNames: readonly string[];
  /** How many Ingresses name each. */
  readonly #secrets = new Uses();
  readonly #configMaps = new Uses();
  #ingresses = PersistentMap.empty<IngressRecord>();
  #own: ConfigMapRecord | undefined;
  #named: NamedObjects | undefined;

  constructor(options: ReferenceOptions) {
    this.#options = options;
    const full = (name: string): string => `${options.annotationsPrefix}/${name}`;
    this.#secretNames = SECRET_ANNOTATIONS.map(full);
    this.#configMapNames = CONFIG_MAP_ANNOTATIONS.map(full);
  }

  /** The same object as before where the same is named. Whether an object of another namespace may be used is decided where it is used. */
  of(snapshot: Snapshot): NamedObjects {
    const { configMap } = this.#options;
    const own = configMap === undefined ? undefined : snapshot.configMaps.get(configMap);
    let changed = own !== this.#own;
    this.#own = own;
    for (const { before, after } of snapshot.ingresses.differences(this.#ingresses)) {
      // What is named still is named throughout: the new before the old.
      if (after) changed = this.#count(after, 1) || changed;
      if (before) changed = this.#count(before, -1) || changed;
    }
    this.#ingresses = snapshot.ingresses;
    if (changed || !this.#named) this.#named = this.#all();
    return this.#named;
  }

  #all(): NamedObjects {
    const { configMap, defaultCertificate, streams = [] } = this.#options;
    const headers = HEADER_KEYS.map((name) => objectRef(this.#own?.data.get(name)?.trim() ?? '', '')?.key);
    const own = headers.filter((key) => key?.startsWith('/') === false);
    return {
      secrets: new Set([...given([defaultCertificate]), ...this.#secrets.keys()]),
      configMaps: new Set([...given([configMap, ...streams, ...own]), ...this.#configMaps.keys()]),
    };
  }

  /** True when something is named that was not, or is not any more. */
  #count({ namespace, tls, annotations }: IngressRecord, by: 1 | -1): boolean {
    let changed = false;
    for (const { secretName: name } of tls)
      if (name !== undefined) changed = this.#secrets.count(`${namespace}/${name}`, by) || changed;
    if (annotations.size === 0) return changed;
    for (const [names, uses] of [
      [this.#secretNames, this.#secrets],
      [this.#configMapNames, this.#configMaps],
    ] as const) {
      for (const name of names) {
        const value = annotations.get(name);
        const ref = value === undefined ? undefined : objectRef(value.trim(), namespace);
        if (ref) changed = uses.count(ref.key, by) || changed;
      }
    }
    return changed;
  }
}

/** How often each key is used. */
class Uses {
  readonly #counts = new Map<ObjectKey, number>();

  keys(): Iterable<ObjectKey> {
    return this.#counts.keys();
  }

  /** True for the first use of a key, and for the end of its last. */
  count(key: ObjectKey, by: 1 | -1): boolean {
    const count = (this.#counts.get(key) ?? 0) + by;
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
    return count === 0 || (by === 1 && count === 1);
  }
}

function given(keys: readonly (ObjectKey | undefined)[]): readonly ObjectKey[] {
  return keys.filter((key) => key !== undefined);
}
