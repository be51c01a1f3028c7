// The objects of a kind that are read by name: a watch for each, and one for all of them where there are many.

import type { ObjectKey } from '../../model/records.ts';
import type { RecordOfKind, Store } from '../store.ts';
import type { ReflectorSink } from './reflector.ts';
import type { Scope } from './resource.ts';

/** Kinds that are read by name only: nobody should have to grant a proxy every Secret of a cluster. */
export type NamedKind = 'secrets' | 'configMaps';

/** Watches of single names that may be open at once; beyond it one watch of the whole kind takes their place, where that is allowed. */
const MOST_SINGLE_WATCHES = 32;

/** What a watch of a whole kind leaves out: a Helm release is a Secret of up to a megabyte, and never one that is named. */
const WIDE_SCOPE: { readonly [K in NamedKind]: Scope } = {
  secrets: { fieldSelector: 'type!=helm.sh/release.v1' },
  configMaps: {},
};

/** Starts a reflector; resolves when it has ended. `refused` is called in place of `replace` when the account may not read as much. */
export type StartReflector<K extends NamedKind> = (
  scope: Scope,
  sink: ReflectorSink<K>,
  signal: AbortSignal,
) => Promise<void>;

interface Watch {
  readonly stopping: AbortController;
  /** Settled when its objects have been read once, when it is known that they may not be, or when it was stopped. */
  readonly read: Promise<void>;
}

/** Keeps exactly the wanted objects of one kind in the store. */
export class NamedObjects<K extends NamedKind> {
  readonly #kind: K;
  readonly #store: Store;
  readonly #reflect: StartReflector<K>;
  readonly #stopped: AbortSignal;
  readonly #single = new Map<ObjectKey, Watch>();
  #wide: (Watch & { readonly keys: ReadonlySet<ObjectKey> }) | undefined;
  #wideRefused = false;
  #wanted: ReadonlySet<ObjectKey> = new Set();

  constructor(kind: K, store: Store, reflect: StartReflector<K>, stopped: AbortSignal) {
    this.#kind = kind;
    this.#store = store;
    this.#reflect = reflect;
    this.#stopped = stopped;
  }

  /** Makes these the only ones; those left out leave the store. */
  want(keys: Iterable<ObjectKey>): void {
    const before = this.#wanted;
    this.#wanted = new Set(keys);
    for (const key of before) if (!this.#wanted.has(key)) this.#drop(key);
    const added = [...this.#wanted].filter((key) => !before.has(key));
    if (this.#wanted.size === 0) this.#stopWide();
    if (this.#single.size + added.length > MOST_SINGLE_WATCHES && !this.#wideRefused) this.#watchAll();
    else for (const key of added) this.#single.set(key, this.#watchOne(key));
    void this.read().then(() => this.#store.markSynced(this.#kind));
  }

  /** Resolves when all that are wanted by now have been read once, but for those that the account may not read. */
  async read(): Promise<void> {
    await Promise.all([...this.#single.values(), ...(this.#wide ? [this.#wide] : [])].map(({ read }) => read));
  }

  #drop(key: ObjectKey): void {
    this.#stopSingle(key);
    this.#store.apply(this.#kind, key, undefined);
  }

  #watchOne(key: ObjectKey): Watch {
    const slash = key.indexOf('/');
    const scope = { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
    return this.#start(scope, (signal, resolve) => ({
      replace: (entries) => {
        if (!signal.aborted) this.#store.apply(this.#kind, key, entries.get(key));
        resolve();
      },
      apply: (own, record) => {
        if (!signal.aborted && own === key) this.#store.apply(this.#kind, key, record);
      },
      batch: (change) => this.#store.batch(change),
      // It is asked for again and again, but nobody has to wait for it.
      refused: resolve,
    }));
  }

  /** One watch for all that are wanted now; the single ones end when it has read them. Names that come later get a watch of their own again. */
  #watchAll(): void {
    const keys = this.#wanted;
    const earlier = this.#wide;
    const counts = (key: ObjectKey): boolean => keys.has(key) && this.#wanted.has(key);
    const watch = this.#start(WIDE_SCOPE[this.#kind], (signal, resolve) => ({
      replace: (entries) => {
        if (!signal.aborted) {
          for (const key of keys) if (counts(key)) this.#store.apply(this.#kind, key, entries.get(key));
          earlier?.stopping.abort();
          for (const key of keys) this.#stopSingle(key);
        }
        resolve();
      },
      apply: (key, record: RecordOfKind[K] | undefined) => {
        if (!signal.aborted && counts(key)) this.#store.apply(this.#kind, key, record);
      },
      batch: (change) => this.#store.batch(change),
      refused: () => {
        this.#wideRefused = true;
        for (const key of this.#wanted) if (!this.#single.has(key)) this.#single.set(key, this.#watchOne(key));
        void Promise.all([...this.#single.values()].map(({ read }) => read)).then(() => {
          this.#stopWide();
          resolve();
        });
      },
    }));
    this.#wide = { ...watch, keys };
  }

  #stopSingle(key: ObjectKey): void {
    this.#single.get(key)?.stopping.abort();
    this.#single.delete(key);
  }

  #stopWide(): void {
    this.#wide?.stopping.abort();
    this.#wide = undefined;
  }

  #start(scope: Scope, sinkOf: (signal: AbortSignal, resolve: () => void) => ReflectorSink<K>): Watch {
    const stopping = new AbortController();
    const signal = AbortSignal.any([stopping.signal, this.#stopped]);
    const { promise: read, resolve } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve(), { once: true });
    void this.#reflect(scope, sinkOf(signal, resolve), signal);
    return { stopping, read };
  }
}
