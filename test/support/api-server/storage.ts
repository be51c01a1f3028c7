// Objects with their history, as etcd and the watch cache keep them: one revision for everything.

import { PersistentMap } from '../../../src/lib/persistent-map.ts';
import { copy, ensure, type Json } from './json.ts';
import type { ServedResource } from './resource-table.ts';

export interface Change {
  readonly revision: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** As it is after the change; after a deletion as it was last, with the revision of the deletion. */
  readonly object: Json;
  readonly previous: Json | undefined;
}

interface Collection {
  current: PersistentMap<Json>;
  /** The collection after each change since the last compaction, and at it. */
  versions: { readonly revision: number; readonly objects: PersistentMap<Json> }[];
  changes: Change[];
}

export class Storage {
  /** Some of what a young cluster has used up. */
  revision = 200;
  /** History up to here is gone. */
  compacted = 0;
  readonly #collections = new Map<ServedResource, Collection>();
  readonly #listeners = new Set<(resource: ServedResource, change: Change) => void>();

  /** Objects by `namespace/name` (or name). */
  current(resource: ServedResource): PersistentMap<Json> {
    return this.#collection(resource).current;
  }

  /** The collection as it was; undefined when that version is compacted. */
  at(resource: ServedResource, revision: number): PersistentMap<Json> | undefined {
    if (revision < this.compacted) return undefined;
    return (
      this.#collection(resource).versions.findLast((version) => version.revision <= revision)?.objects ??
      PersistentMap.empty()
    );
  }

  /** What changed after a revision, in order; undefined when part of it is compacted. */
  changesAfter(resource: ServedResource, revision: number): readonly Change[] | undefined {
    if (revision < this.compacted) return undefined;
    return this.#collection(resource).changes.filter((change) => change.revision > revision);
  }

  /** Creates or replaces; the object gets the new resourceVersion. */
  put(resource: ServedResource, key: string, object: Json): Json {
    const previous = this.current(resource).get(key);
    const stored = this.#stamp(object);
    this.#record(resource, key, stored, { type: previous ? 'MODIFIED' : 'ADDED', object: stored, previous });
    return stored;
  }

  delete(resource: ServedResource, key: string): Json | undefined {
    const previous = this.current(resource).get(key);
    if (!previous) return undefined;
    const object = this.#stamp(previous);
    this.#record(resource, key, undefined, { type: 'DELETED', object, previous });
    return object;
  }

  /** Forgets the history, as etcd does every few minutes. */
  compact(): void {
    this.compacted = this.revision;
    for (const collection of this.#collections.values()) {
      collection.versions = [{ revision: this.revision, objects: collection.current }];
      collection.changes = [];
    }
  }

  onChange(listener: (resource: ServedResource, change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #stamp(object: Json): Json {
    const stored = copy(object);
    this.revision++;
    ensure(stored, 'metadata')['resourceVersion'] = String(this.revision);
    return stored;
  }

  #record(resource: ServedResource, key: string, stored: Json | undefined, change: Omit<Change, 'revision'>): void {
    const collection = this.#collection(resource);
    collection.current = collection.current.with([[key, stored]]);
    collection.versions.push({ revision: this.revision, objects: collection.current });
    const whole = { ...change, revision: this.revision };
    collection.changes.push(whole);
    for (const listener of this.#listeners) listener(resource, whole);
  }

  #collection(resource: ServedResource): Collection {
    let collection = this.#collections.get(resource);
    if (!collection) {
      collection = { current: PersistentMap.empty(), versions: [], changes: [] };
      this.#collections.set(resource, collection);
    }
    return collection;
  }
}
