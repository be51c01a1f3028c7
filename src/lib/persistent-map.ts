// An immutable map from strings with structural sharing: a change copies one small bucket, and the difference
// between two versions is found by comparing buckets by reference. It makes a Snapshot of 100,000 Services a
// value whose next version costs microseconds, and lets every consumer diff against what it last applied.

import { fnv1a32 } from './hash.ts';

const BUCKETS = 4096;

type Bucket<V> = ReadonlyMap<string, V>;

/** Shared by every empty map: none of them ever writes to it. */
const NO_BUCKETS: readonly undefined[] = Array.from({ length: BUCKETS }, () => undefined);

export interface Difference<V> {
  readonly key: string;
  readonly before: V | undefined;
  readonly after: V | undefined;
}

export class PersistentMap<V> {
  readonly size: number;
  readonly #buckets: readonly (Bucket<V> | undefined)[];

  private constructor(buckets: readonly (Bucket<V> | undefined)[], size: number) {
    this.#buckets = buckets;
    this.size = size;
  }

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>(NO_BUCKETS, 0);
  }

  static from<V>(entries: Iterable<readonly [string, V]>): PersistentMap<V> {
    return PersistentMap.empty<V>().with(entries);
  }

  get(key: string): V | undefined {
    return this.#buckets[bucketOf(key)]?.get(key);
  }

  has(key: string): boolean {
    return this.#buckets[bucketOf(key)]?.has(key) ?? false;
  }

  *entries(): Generator<readonly [string, V]> {
    for (const bucket of this.#buckets) if (bucket) yield* bucket;
  }

  *keys(): Generator<string> {
    for (const bucket of this.#buckets) if (bucket) yield* bucket.keys();
  }

  *values(): Generator<V> {
    for (const bucket of this.#buckets) if (bucket) yield* bucket.values();
  }

  /** The map with these entries set; an entry whose value is undefined is removed. Equal values (===) change nothing. */
  with(entries: Iterable<readonly [string, V | undefined]>): PersistentMap<V> {
    let buckets: (Bucket<V> | undefined)[] | undefined;
    const copied = new Map<number, Map<string, V>>();
    let size = this.size;
    for (const [key, value] of entries) {
      const index = bucketOf(key);
      const current = copied.get(index) ?? this.#buckets[index];
      const old = current?.get(key);
      if (old === value) continue;
      let bucket = copied.get(index);
      if (!bucket) {
        bucket = new Map(current);
        copied.set(index, bucket);
        buckets ??= [...this.#buckets];
        buckets[index] = bucket;
      }
      if (value === undefined) {
        bucket.delete(key);
        size--;
      } else {
        bucket.set(key, value);
        if (old === undefined) size++;
      }
    }
    return buckets ? new PersistentMap(buckets, size) : this;
  }

  /** What differs from `before` to this map: every key whose value is not the same object or primitive. */
  *differences(before: PersistentMap<V>): Generator<Difference<V>> {
    if (before === this) return;
    for (let i = 0; i < BUCKETS; i++) {
      const old = before.#buckets[i];
      const now = this.#buckets[i];
      if (old === now) continue;
      if (old) {
        for (const [key, value] of old) {
          const after = now?.get(key);
          if (after !== value) yield { key, before: value, after };
        }
      }
      if (now) {
        for (const [key, value] of now) if (!old?.has(key)) yield { key, before: undefined, after: value };
      }
    }
  }
}

function bucketOf(key: string): number {
  return fnv1a32(key) & (BUCKETS - 1);
}
