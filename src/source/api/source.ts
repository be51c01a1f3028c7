// The API server as a source: each kind mirrored into the store.

import type { ObjectKey } from '../../model/records.ts';
import type { Logger } from '../../observe/log.ts';
import type { Metrics } from '../../observe/metrics.ts';
import type { Clock } from '../../system/clock.ts';
import type { Files } from '../../system/files.ts';
import type { Kind, Store } from '../store.ts';
import { openApiConnection, type ApiConnection } from './connection.ts';
import type { ApiTarget, ReadCredentials } from './credentials.ts';
import { NamedObjects, type NamedKind } from './named-objects.ts';
import { reflect, type ReflectorSink } from './reflector.ts';
import { createRequestMetrics, type RequestMetricsOf } from './request-metrics.ts';
import { RESOURCES, type Scope } from './resource.ts';
import { createSourceMetrics, type SourceMetrics } from './source-metrics.ts';

/** A kind that is mirrored whole, or as far as `scope` says. */
export interface WantedKind {
  readonly kind: Exclude<Kind, NamedKind>;
  readonly scope?: Scope;
  /** A server that does not serve it is taken as having none. */
  readonly optional?: boolean;
  /** A server that does not let us read it is taken as having none, too: an older ClusterRole need not be changed for it. */
  readonly dispensable?: boolean;
}

export interface ApiSourceOptions {
  readonly target: ApiTarget;
  readonly kinds: readonly WantedKind[];
  readonly store: Store;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** A number in [0, 1). */
  readonly random: () => number;
  readonly files: Files;
  readonly userAgent?: string;
  /** The longest wait between two attempts to reach a server that is not there; 30 s unless given. */
  readonly mostWaitMs?: number | undefined;
  readonly readCredentials?: ReadCredentials;
  /** What requests are counted as; by default as every client of Kubernetes does. */
  readonly requestMetrics?: RequestMetricsOf;
}

export interface ApiSource {
  /** For requests of our own (status, leases, events), with the same credentials. */
  readonly connection: ApiConnection;
  /** Makes these (`namespace/name`) the only objects of the kind that are read; those left out leave the store. */
  watchNamed(kind: NamedKind, keys: Iterable<ObjectKey>): void;
  /** Resolves when every kind, and every object named so far, has been read once. */
  synced(): Promise<void>;
  /** Ends every watch. Resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

/**
 * Resolves once the credentials are there and the reading has begun; it does not wait for the server, which may not
 * be there yet. Throws a SourceError when there is no server to read from or no usable credentials.
 */
export async function startApiSource(options: ApiSourceOptions): Promise<ApiSource> {
  const { target, clock, log, files, metrics, readCredentials, userAgent, requestMetrics } = options;
  const connection = await openApiConnection({
    target,
    clock,
    log,
    files,
    requests: (requestMetrics ?? createRequestMetrics)(metrics),
    ...(readCredentials ? { readCredentials } : {}),
    ...(userAgent === undefined ? {} : { userAgent }),
  });
  return new Mirror(options, connection);
}

class Mirror implements ApiSource {
  readonly connection: ApiConnection;
  readonly #options: ApiSourceOptions;
  readonly #metrics: SourceMetrics;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #named: { readonly [K in NamedKind]: NamedObjects<K> };

  constructor(options: ApiSourceOptions, connection: ApiConnection) {
    this.#options = options;
    this.connection = connection;
    this.#metrics = createSourceMetrics(options.metrics);
    this.#named = { secrets: this.#namedObjects('secrets'), configMaps: this.#namedObjects('configMaps') };
    for (const wanted of options.kinds) this.#start(wanted);
  }

  watchNamed(kind: NamedKind, keys: Iterable<ObjectKey>): void {
    if (this.#stopping.signal.aborted) return;
    this.#named[kind].want(keys);
  }

  async synced(): Promise<void> {
    const { store, kinds } = this.#options;
    const named = Object.values(this.#named).map((objects) => objects.read());
    await Promise.all([...kinds.map(({ kind }) => store.synced(kind)), ...named]);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#running);
    this.connection.close();
  }

  #start({ kind, scope, optional = false, dispensable = false }: WantedKind): void {
    const { store } = this.#options;
    const sink: ReflectorSink<typeof kind> = {
      replace: (entries) => store.replace(kind, entries),
      apply: (key, record) => store.apply(kind, key, record),
      batch: (change) => store.batch(change),
    };
    void this.#track(
      this.#reflect<typeof kind>(kind, sink, scope ?? {}, { optional, dispensable }, this.#stopping.signal),
    );
  }

  #namedObjects<K extends NamedKind>(kind: K): NamedObjects<K> {
    // A whole kind may well be out of bounds: then each object is read by its name.
    const reflectIn = (scope: Scope, sink: ReflectorSink<K>, signal: AbortSignal): Promise<void> =>
      this.#track(
        this.#reflect<K>(kind, sink, scope, { optional: false, dispensable: scope.name === undefined }, signal),
      );
    return new NamedObjects(kind, this.#options.store, reflectIn, this.#stopping.signal);
  }

  #reflect<K extends Kind>(
    kind: K,
    sink: ReflectorSink<K>,
    scope: Scope,
    absence: { readonly optional: boolean; readonly dispensable: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, random, log, mostWaitMs } = this.#options;
    return reflect<K>({
      ...(mostWaitMs === undefined ? {} : { mostWaitMs }),
      resource: RESOURCES[kind],
      scope,
      sink,
      connection: this.connection,
      ...absence,
      clock,
      random,
      log,
      metrics: this.#metrics,
      signal,
    });
  }

  /** A reflector ends only when it is stopped; what it throws is a bug, and not to be hidden. */
  #track(task: Promise<void>): Promise<void> {
    this.#running.add(task);
    void task.finally(() => this.#running.delete(task));
    return task;
  }
}
