// Keeps one collection of the API server mirrored: list, then watch from there, for ever.

import { backoffDelay, type BackoffOptions } from '../../lib/backoff.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { Kind, RecordOfKind } from '../store.ts';
import type { ApiConnection } from './connection.ts';
import { describeFailure, type ApiFailure } from './failure.ts';
import { listCollection } from './list.ts';
import { accessRule, type Resource, type Scope } from './resource.ts';
import type { SourceMetrics } from './source-metrics.ts';
import { watchCollection } from './watch.ts';

/** Where the records go. */
export interface ReflectorSink<K extends Kind> {
  /** Everything there is; called after each list. */
  replace(entries: ReadonlyMap<ObjectKey, RecordOfKind[K]>): void;
  apply(key: ObjectKey, record: RecordOfKind[K] | undefined): void;
  batch(change: () => void): void;
  /** We may not read it, as of now: in place of an empty `replace` where the collection is `dispensable`; of others it is asked for again. */
  refused?(): void;
}

export interface ReflectorOptions<K extends Kind> {
  readonly resource: Resource<K>;
  readonly scope: Scope;
  readonly sink: ReflectorSink<K>;
  readonly connection: ApiConnection;
  /** A server that does not have the resource is taken as having none of it, and asked again now and then. */
  readonly optional: boolean;
  /** The same when we may not read it. */
  readonly dispensable: boolean;
  readonly clock: Clock;
  /** A number in [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: SourceMetrics;
  /** The longest wait between two attempts to reach a server that is not there; 30 s unless given. */
  readonly mostWaitMs?: number;
  readonly signal: AbortSignal;
}

/** As client-go's reflector. */
const BACKOFF: BackoffOptions = { initial: 800, max: 30_000 };
/** As client-go: between five and ten minutes, so that watches do not all end together. */
const WATCH_SECONDS = 300;
/** How long a resource that is not served is left alone. */
const NOT_SERVED_MS = 300_000;
/** A watch that ends sooner and brings nothing counts as failed, or it would be asked for in a circle. */
const SHORTEST_WATCH_MS = 1000;
/** After so many refusals of a watch in a row its version may be the reason: list again. */
const REFUSALS_BEFORE_LIST = 3;

/** Runs until the signal; never rejects but for a bug. */
export async function reflect<K extends Kind>(options: ReflectorOptions<K>): Promise<void> {
  await new Reflector(options).run();
}

class Reflector<K extends Kind> {
  readonly #options: ReflectorOptions<K>;
  /** In a row, for the backoff. */
  #failures = 0;
  #refusals = 0;
  #told: string | undefined;
  /** What was told of objects as they are now: an object whose status changes every minute is not told of every minute. */
  readonly #noticed = new Map<ObjectKey, readonly string[]>();

  constructor(options: ReflectorOptions<K>) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { signal } = this.#options;
    let resourceVersion: string | undefined;
    while (!signal.aborted) {
      resourceVersion = resourceVersion === undefined ? await this.#list() : await this.#watch(resourceVersion);
    }
  }

  /** The version to watch from, or undefined to list again. */
  async #list(): Promise<string | undefined> {
    const { connection, resource, scope, signal, sink, log, metrics, clock } = this.#options;
    const started = clock.monotonic();
    const listed = await listCollection(resource, { connection, scope, clock, signal });
    if (signal.aborted) return undefined;
    metrics.lists.add(1, { kind: resource.kind, result: listed.kind });
    if (listed.kind === 'listed') {
      this.#recovered();
      this.#tellListed(listed.notices);
      sink.batch(() => sink.replace(listed.entries));
      log.debug('listed', {
        kind: resource.kind,
        name: scope.name,
        objects: listed.entries.size,
        ms: Math.round(clock.monotonic() - started),
      });
      return listed.resourceVersion;
    }
    if (listed.kind === 'not-served' && this.#options.optional) {
      this.#tell(`${resource.plural} are not served by this API server; going on without`, 'info');
      sink.replace(new Map());
      await clock.sleep(NOT_SERVED_MS, signal);
      return undefined;
    }
    if (listed.kind === 'forbidden' && this.#options.dispensable) {
      this.#tell(
        `${resource.plural} may not be read; going on without. To have them, add ${accessRule(resource)}`,
        'info',
      );
      if (sink.refused) sink.refused();
      else sink.replace(new Map());
      await clock.sleep(NOT_SERVED_MS, signal);
      return undefined;
    }
    if (listed.kind === 'forbidden') sink.refused?.();
    await this.#backOff(listed, 'list');
    return undefined;
  }

  /** As the log names it. */
  get #subject(): string {
    const { resource, scope } = this.#options;
    return scope.name === undefined ? resource.plural : `${resource.plural} ${scope.namespace}/${scope.name}`;
  }

  /** The version to go on from, or undefined to list again. */
  async #watch(from: string): Promise<string | undefined> {
    const { connection, resource, scope, signal, clock, random, metrics, log, sink } = this.#options;
    const timeoutSeconds = Math.round(WATCH_SECONDS * (1 + random()));
    const started = clock.monotonic();
    const { resourceVersion, events, end } = await watchCollection(
      resource,
      {
        batch: (change) => sink.batch(change),
        apply: (type, key, record, notices) => {
          metrics.events.add(1, { kind: resource.kind, type });
          this.#tellNotices(key, notices);
          sink.apply(key, record);
        },
        mark: () => metrics.events.add(1, { kind: resource.kind, type: 'BOOKMARK' }),
      },
      { connection, scope, resourceVersion: from, timeoutSeconds, clock, signal },
    );
    if (signal.aborted) return undefined;
    metrics.watches.add(1, { kind: resource.kind, result: end.kind });
    if (events > 0) this.#recovered();
    switch (end.kind) {
      case 'ended': {
        const elapsed = clock.monotonic() - started;
        if (events === 0 && elapsed < SHORTEST_WATCH_MS) {
          await this.#backOff({ kind: 'unreachable', message: 'the watch ended at once' }, 'watch');
          return resourceVersion;
        }
        // Bookmarks come about once a minute and before the end. A watch that was silent for all its time may be one
        // from a version that this server has not reached (restored from a backup): only a list can tell.
        return events === 0 && elapsed >= timeoutSeconds * 900 ? undefined : resourceVersion;
      }
      case 'expired':
        log.info('the watch fell behind; listing again', { kind: resource.kind });
        return undefined;
      case 'refused':
        this.#refusals++;
        break;
      case 'aborted':
      case 'forbidden':
      case 'unauthorized':
      case 'not-served':
      case 'unreachable':
        break;
    }
    await this.#backOff(end, 'watch');
    // What is gone is found out by listing; so is a version that a watch is refused for.
    const again = end.kind === 'not-served' || this.#refusals >= REFUSALS_BEFORE_LIST;
    if (again) this.#refusals = 0;
    return again ? undefined : resourceVersion;
  }

  async #backOff(failure: ApiFailure, verb: 'list' | 'watch'): Promise<void> {
    const { clock, random, signal, mostWaitMs = BACKOFF.max } = this.#options;
    if (failure.kind === 'aborted') return;
    this.#failures++;
    // A watch that breaks off once is everyday life: a server that restarts, a connection that was idle.
    if (verb === 'list' || this.#failures > 1 || failure.kind !== 'unreachable') this.#complain(failure, verb);
    // A server that answers, be it with a refusal, may have too much to do; one that cannot be reached is spared nothing.
    const max = failure.kind === 'unreachable' ? mostWaitMs : BACKOFF.max;
    const wait = backoffDelay({ ...BACKOFF, max }, this.#failures, random());
    const asked = failure.kind === 'refused' ? (failure.retryAfterMs ?? 0) : 0;
    await clock.sleep(Math.max(wait, asked), signal);
  }

  #complain(failure: ApiFailure, verb: 'list' | 'watch'): void {
    const { resource, scope, connection, log } = this.#options;
    const what = `cannot ${verb} ${this.#subject} at ${connection.server}`;
    const reason = describeFailure(failure);
    switch (failure.kind) {
      case 'forbidden':
        this.#tell(
          `${what}: ${reason}: grant this account a rule ${accessRule(resource)}` +
            (scope.name === undefined ? '' : '; until then it counts as not there, or as it was read last'),
          'error',
        );
        return;
      case 'unauthorized':
        this.#tell(
          `${what}: the credentials are refused (${reason}): check the kubeconfig or the service account`,
          'error',
        );
        return;
      case 'unreachable':
        this.#tell(`${what}: ${reason}: is the API server running, and is its address right? Trying again`, 'warn');
        return;
      case 'not-served':
      case 'refused':
      case 'expired':
      case 'aborted':
        log.warn(`${what}: ${reason}; trying again`);
    }
  }

  /** Once, until it works again or fails for another reason. */
  #tell(message: string, level: 'info' | 'warn' | 'error'): void {
    if (this.#told === message) return;
    this.#told = message;
    this.#options.log[level](message);
  }

  /** Of a list, each as `key: notice`. */
  #tellListed(lines: readonly string[]): void {
    const byKey = new Map<ObjectKey, string[]>();
    for (const line of lines) {
      const end = line.indexOf(': ');
      const key = line.slice(0, end);
      byKey.set(key, [...(byKey.get(key) ?? []), line.slice(end + 2)]);
    }
    for (const key of this.#noticed.keys()) if (!byKey.has(key)) this.#noticed.delete(key);
    for (const [key, notices] of byKey) this.#tellNotices(key, notices);
  }

  #tellNotices(key: ObjectKey, notices: readonly string[]): void {
    const { resource, log, metrics } = this.#options;
    const before = this.#noticed.get(key) ?? [];
    for (const notice of notices) {
      if (before.includes(notice)) continue;
      log.warn(`${resource.kind} ${key}: ${notice}`);
      metrics.leftOut.add(1, { kind: resource.kind });
    }
    if (notices.length > 0) this.#noticed.set(key, notices);
    else this.#noticed.delete(key);
  }

  #recovered(): void {
    const { log, connection } = this.#options;
    if (this.#told !== undefined) log.info(`reading ${this.#subject} from ${connection.server} works again`);
    this.#told = undefined;
    this.#failures = 0;
    this.#refusals = 0;
  }
}
