// An immutable map from strings with structural sharing: a change copies one small bucket and the two short lists that lead to it, and the
// difference between two versions is found by comparing these by reference. It makes a Snapshot of 100,000 Services a
// value whose next version costs microseconds, and lets every consumer diff against what it last applied.

import { fnv1a32 } from './hash.ts';

/** 64 pages of 64 buckets: a change copies 128 references, where one list of 4,096 took 32 KB of garbage. */
const WIDTH = 64;

type Bucket<V> = ReadonlyMap<string, V>;
type Page<V> = readonly (Bucket<V> | undefined)[];
type Pages<V> = readonly (Page<V> | undefined)[];

/** Shared by every empty map and page: nothing ever writes to it. */
const NOTHING: readonly undefined[] = Array.from({ length: WIDTH }, () => undefined);

export interface Difference<V> {
  readonly key: string;
  readonly before: V | undefined;
  readonly after: V | undefined;
}

/** What makes one map of another, as plain data; what is gone is undefined. */
export type MapChanges<V> = readonly (readonly [key: string, after: V | undefined])[];

/** `before.with(changesFrom(before, after))` is `after`. */
export function changesFrom<V>(before: PersistentMap<V>, after: PersistentMap<V>): MapChanges<V> {
  return Array.from(after.differences(before), (change) => [change.key, change.after] as const);
}

export class PersistentMap<V> {
  readonly size: number;
  readonly #pages: Pages<V>;

  private constructor(pages: Pages<V>, size: number) {
    this.#pages = pages;
    this.size = size;
  }

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>(NOTHING, 0);
  }

  static from<V>(entries: Iterable<readonly [string, V]>): PersistentMap<V> {
    return PersistentMap.empty<V>().with(entries);
  }

  get(key: string): V | undefined {
    return this.#bucket(placeOf(key))?.get(key);
  }

  has(key: string): boolean {
    return this.#bucket(placeOf(key))?.has(key) ?? false;
  }

  *entries(): Generator<readonly [string, V]> {
    for (const bucket of this.#buckets()) yield* bucket;
  }

  *keys(): Generator<string> {
    for (const bucket of this.#buckets()) yield* bucket.keys();
  }

  *values(): Generator<V> {
    for (const bucket of this.#buckets()) yield* bucket.values();
  }

  /** The map with these entries set; an entry whose value is undefined is removed. Equal values (===) change nothing. */
  with(entries: Iterable<MapChanges<V>[number]>): PersistentMap<V> {
    const copied = new Map<number, Map<string, V>>();
    let size = this.size;
    for (const [key, value] of entries) {
      const place = placeOf(key);
      const known = copied.get(place);
      const current = known ?? this.#bucket(place);
      const old = current?.get(key);
      if (old === value) continue;
      const bucket = known ?? new Map(current);
      copied.set(place, bucket);
      if (value === undefined) {
        bucket.delete(key);
        size--;
      } else {
        bucket.set(key, value);
        if (old === undefined) size++;
      }
    }
    return copied.size === 0 ? this : new PersistentMap(this.#replaced(copied), size);
  }

  /** What differs from `before` to this map: every key whose value is not the same object or primitive. */
  *differences(before: PersistentMap<V>): Generator<Difference<V>> {
    if (before === this) return;
    for (let page = 0; page < WIDTH; page++) {
      const [oldPage, newPage] = [before.#pages[page] ?? NOTHING, this.#pages[page] ?? NOTHING];
      if (oldPage === newPage) continue;
      for (let i = 0; i < WIDTH; i++) {
        if (oldPage[i] !== newPage[i]) yield* bucketDifferences(oldPage[i], newPage[i]);
      }
    }
  }

  #bucket(place: number): Bucket<V> | undefined {
    return this.#pages[pageOf(place)]?.[place % WIDTH];
  }

  *#buckets(): Generator<Bucket<V>> {
    for (const page of this.#pages) {
      if (!page) continue;
      for (const bucket of page) if (bucket) yield bucket;
    }
  }

  #replaced(buckets: ReadonlyMap<number, Bucket<V>>): Pages<V> {
    const pages = [...this.#pages];
    const fresh = new Map<number, (Bucket<V> | undefined)[]>();
    for (const [place, bucket] of buckets) {
      const at = pageOf(place);
      const page = fresh.get(at) ?? [...(pages[at] ?? NOTHING)];
      page[place % WIDTH] = bucket;
      fresh.set(at, page);
      pages[at] = page;
    }
    return pages;
  }
}

function* bucketDifferences<V>(old: Bucket<V> | undefined, now: Bucket<V> | undefined): Generator<Difference<V>> {
  for (const [key, value] of old ?? []) {
    const after = now?.get(key);
    if (after !== value) yield { key, before: value, after };
  }
  for (const [key, value] of now ?? []) if (!old?.has(key)) yield { key, before: undefined, after: value };
}

function placeOf(key: string): number {
  return fnv1a32(key) % (WIDTH * WIDTH);
}

function pageOf(place: number): number {
  return Math.floor(place / WIDTH);
}
