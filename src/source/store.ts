// What the cluster holds, as one immutable value that is replaced by the next. Sources write here, and never hear of
// those who read.

import { deepEqual } from '../lib/equal.ts';
import { PersistentMap } from '../lib/persistent-map.ts';
import type {
  ConfigMapRecord,
  EndpointSliceRecord,
  ImportedSliceRecord,
  IngressClassRecord,
  IngressRecord,
  NamespaceRecord,
  NodeRecord,
  ObjectKey,
  PodRecord,
  Records,
  SecretRecord,
  ServiceCidrRecord,
  ServiceImportRecord,
  ServiceRecord,
} from '../model/records.ts';

/** The record of each kind. EndpointSlices are written one by one here; the store groups them by Service. */
export interface RecordOfKind {
  readonly services: ServiceRecord;
  readonly endpointSlices: EndpointSliceRecord;
  readonly nodes: NodeRecord;
  readonly namespaces: NamespaceRecord;
  readonly pods: PodRecord;
  readonly ingresses: IngressRecord;
  readonly ingressClasses: IngressClassRecord;
  readonly secrets: SecretRecord;
  readonly configMaps: ConfigMapRecord;
  readonly serviceCIDRs: ServiceCidrRecord;
  readonly serviceImports: ServiceImportRecord;
  readonly importedSlices: ImportedSliceRecord;
}

export type Kind = keyof RecordOfKind;

export const KINDS: readonly Kind[] = [
  'services',
  'endpointSlices',
  'nodes',
  'namespaces',
  'pods',
  'ingresses',
  'ingressClasses',
  'secrets',
  'configMaps',
  'serviceCIDRs',
  'serviceImports',
  'importedSlices',
];

/** Records of each kind by the object's own key. */
export type RecordEntries = { readonly [K in Kind]: ReadonlyMap<ObjectKey, RecordOfKind[K]> };

/** Records of each kind by the object's own key, as they were written. */
type HeldRecords = { readonly [K in Kind]: PersistentMap<RecordOfKind[K]> };

const NOTHING_HELD: HeldRecords = {
  services: PersistentMap.empty(),
  endpointSlices: PersistentMap.empty(),
  nodes: PersistentMap.empty(),
  namespaces: PersistentMap.empty(),
  pods: PersistentMap.empty(),
  ingresses: PersistentMap.empty(),
  ingressClasses: PersistentMap.empty(),
  secrets: PersistentMap.empty(),
  configMaps: PersistentMap.empty(),
  serviceCIDRs: PersistentMap.empty(),
  serviceImports: PersistentMap.empty(),
  importedSlices: PersistentMap.empty(),
};

export const EMPTY_RECORDS: Records = { ...NOTHING_HELD, endpointSlices: PersistentMap.empty() };

export class Store {
  #records: Records = EMPTY_RECORDS;
  /** Slices by their own key among them: it tells which Service a slice belonged to when it moves or is deleted. */
  #held: HeldRecords = NOTHING_HELD;
  readonly #listeners = new Set<() => void>();
  readonly #replaceListeners = new Set<(records: number) => void>();
  readonly #synced = new Set<Kind>();
  readonly #waiting = new Map<Kind, (() => void)[]>();
  #depth = 0;
  #changed = false;

  /** Everything known at this moment. A value: it stays as it is when the store goes on. */
  get records(): Records {
    return this.#records;
  }

  /**
   * Makes these the only records of the kind, and the kind synced. A record that equals the one held keeps its
   * identity, so that nothing is seen as changed that is not.
   */
  replace<K extends Kind>(kind: K, entries: Iterable<readonly [ObjectKey, RecordOfKind[K]]>): void {
    this.batch(() => {
      const next = new Map<ObjectKey, RecordOfKind[K] | undefined>(entries);
      for (const key of this.#held[kind].keys()) if (!next.has(key)) next.set(key, undefined);
      this.#write(kind, next);
      this.markSynced(kind);
      for (const listener of this.#replaceListeners) listener(next.size);
    });
  }

  /** Sets one record, or removes it when undefined. */
  apply<K extends Kind>(kind: K, key: ObjectKey, record: RecordOfKind[K] | undefined): void {
    this.batch(() => this.#write(kind, [[key, record]]));
  }

  /** Replaces every kind at once, with one call of the listeners. */
  replaceAll(entries: RecordEntries): void {
    this.batch(() => {
      const replaceOne = <K extends Kind>(kind: K, records: RecordEntries[K]): void => this.replace(kind, records);
      for (const kind of KINDS) replaceOne(kind, entries[kind]);
    });
  }

  /** Listeners are called once after `change`, and only if it changed anything. */
  batch(change: () => void): void {
    this.#depth++;
    try {
      change();
    } finally {
      this.#depth--;
      if (this.#depth === 0 && this.#changed) {
        this.#changed = false;
        for (const listener of this.#listeners) listener();
      }
    }
  }

  /** Calls after each change; returns what ends that. Changes of one tick are the listener's to gather. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Calls with the number of records each time that a kind is read whole, changed or not; returns what ends that. */
  onReplace(listener: (records: number) => void): () => void {
    this.#replaceListeners.add(listener);
    return () => void this.#replaceListeners.delete(listener);
  }

  /** Resolves once the kind has been read whole for the first time. */
  synced(kind: Kind): Promise<void> {
    if (this.#synced.has(kind)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.set(kind, [...(this.#waiting.get(kind) ?? []), resolve]);
    });
  }

  isSynced(kind: Kind): boolean {
    return this.#synced.has(kind);
  }

  /** For a kind that is never replaced whole: read by name, not served, or not asked for. */
  markSynced(kind: Kind): void {
    if (this.#synced.has(kind)) return;
    this.#synced.add(kind);
    for (const resolve of this.#waiting.get(kind) ?? []) resolve();
    this.#waiting.delete(kind);
  }

  #write<K extends Kind>(kind: K, entries: Iterable<readonly [ObjectKey, RecordOfKind[K] | undefined]>): void {
    const before = this.#held;
    const held: PersistentMap<RecordOfKind[K]> = before[kind];
    const next = held.with(keepEqual(held, entries));
    if (next === held) return;
    this.#held = { ...before, [kind]: next };
    const grouped = regroup(this.#records.endpointSlices, this.#held.endpointSlices, before.endpointSlices);
    this.#records = { ...this.#held, endpointSlices: grouped };
    this.#changed = true;
  }
}

/** The slices by Service, brought from what was held `before` to what is held now. */
function regroup(
  grouped: Records['endpointSlices'],
  held: PersistentMap<EndpointSliceRecord>,
  before: PersistentMap<EndpointSliceRecord>,
): Records['endpointSlices'] {
  if (held === before) return grouped;
  const touched = new Map<ObjectKey, Map<string, EndpointSliceRecord>>();
  const group = (slice: EndpointSliceRecord): Map<string, EndpointSliceRecord> => {
    const key = `${slice.namespace}/${slice.serviceName}`;
    const slices = touched.get(key) ?? new Map((grouped.get(key) ?? []).map((other) => [other.name, other]));
    touched.set(key, slices);
    return slices;
  };
  for (const { before: old, after } of held.differences(before)) {
    if (old) group(old).delete(old.name);
    if (after) group(after).set(after.name, after);
  }
  return grouped.with([...touched].map(([key, slices]) => [key, sortedSlices(slices)]));
}

/** The entries, with the record that is held wherever it equals the new one. */
function* keepEqual<T>(
  held: PersistentMap<T>,
  entries: Iterable<readonly [ObjectKey, T | undefined]>,
): Generator<readonly [ObjectKey, T | undefined]> {
  for (const [key, record] of entries) {
    const old = held.get(key);
    yield [key, deepEqual(old, record) ? old : record];
  }
}

/** In order of slice name; undefined (no entry) when the last is gone. */
function sortedSlices(slices: ReadonlyMap<string, EndpointSliceRecord>): readonly EndpointSliceRecord[] | undefined {
  if (slices.size === 0) return undefined;
  return [...slices.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
