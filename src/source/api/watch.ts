// One watch, from its request to its end.

import type { ObjectKey } from '../../model/records.ts';
import type { Clock } from '../../system/clock.ts';
import { objectKey } from '../parse/metadata.ts';
import type { Kind, RecordOfKind } from '../store.ts';
import type { ApiConnection } from './connection.ts';
import { withDeadline } from './deadline.ts';
import { failureOf, statusFailure, thrownFailure, type ApiFailure } from './failure.ts';
import { JsonLines } from './json-lines.ts';
import { fieldOf, parseJson, readRawObject, textOf } from './raw.ts';
import { collectionPath, type Resource, type Scope } from './resource.ts';

/** The server ends a watch by its time; one that goes on for longer than this has lost its server. */
const GRACE_MS = 15_000;

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';

export interface WatchSink<K extends Kind> {
  /** Runs the changes of one chunk together. */
  batch(change: () => void): void;
  apply(type: WatchEventType, key: ObjectKey, record: RecordOfKind[K] | undefined, notices: readonly string[]): void;
  /** A bookmark. */
  mark(): void;
}

export interface Watched {
  /** Where the next watch goes on. */
  readonly resourceVersion: string;
  /** Events and bookmarks together. */
  readonly events: number;
  readonly end: { readonly kind: 'ended' } | ApiFailure;
}

export interface WatchOptions {
  readonly connection: ApiConnection;
  readonly scope: Scope;
  readonly resourceVersion: string;
  readonly timeoutSeconds: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Resolves when the watch has ended, however it did. */
export async function watchCollection<K extends Kind>(
  resource: Resource<K>,
  sink: WatchSink<K>,
  options: WatchOptions,
): Promise<Watched> {
  const session = new WatchSession(resource, sink, options.resourceVersion);
  const limit = options.timeoutSeconds * 1000 + GRACE_MS;
  const { value: end, late } = await withDeadline(options.clock, limit, options.signal, (signal) =>
    run(session, resource, options, signal),
  );
  return session.result(end.kind === 'aborted' && late ? { kind: 'ended' } : end);
}

async function run<K extends Kind>(
  session: WatchSession<K>,
  resource: Resource<K>,
  options: WatchOptions,
  signal: AbortSignal,
): Promise<Watched['end']> {
  const path = collectionPath(resource, options.scope, {
    watch: '1',
    allowWatchBookmarks: 'true',
    timeoutSeconds: String(options.timeoutSeconds),
    resourceVersion: options.resourceVersion,
  });
  try {
    const response = await options.connection.request({ path, headers: { Accept: 'application/json' }, signal });
    if (response.status !== 200) return failureOf(response, await response.text());
    for await (const chunk of response.body) {
      const failure = session.take(chunk);
      if (failure) return failure;
    }
    return { kind: 'ended' };
  } catch (error) {
    return error instanceof RangeError ? { kind: 'unreachable', message: error.message } : thrownFailure(error);
  }
}

class WatchSession<K extends Kind> {
  readonly #resource: Resource<K>;
  readonly #sink: WatchSink<K>;
  readonly #lines = new JsonLines();
  #resourceVersion: string;
  #events = 0;

  constructor(resource: Resource<K>, sink: WatchSink<K>, resourceVersion: string) {
    this.#resource = resource;
    this.#sink = sink;
    this.#resourceVersion = resourceVersion;
  }

  result(end: Watched['end']): Watched {
    return { resourceVersion: this.#resourceVersion, events: this.#events, end };
  }

  /** Applies the events that a chunk completes; a failure ends the watch. */
  take(chunk: Uint8Array): ApiFailure | undefined {
    const lines = this.#lines.push(chunk);
    let failure: ApiFailure | undefined;
    if (lines.length === 0) return undefined;
    this.#sink.batch(() => {
      for (const line of lines) {
        failure = this.#event(line);
        if (failure) return;
      }
    });
    return failure;
  }

  #event(line: string): ApiFailure | undefined {
    const event = parseJson(line);
    const type = textOf(event, 'type');
    const object = fieldOf(event, 'object');
    switch (type) {
      case 'ADDED':
      case 'MODIFIED':
      case 'DELETED':
        return this.#change(type, object);
      case 'BOOKMARK': {
        this.#advance(textOf(fieldOf(object, 'metadata'), 'resourceVersion'));
        this.#sink.mark();
        return undefined;
      }
      case 'ERROR':
        return statusFailure(object, undefined);
      default:
        return { kind: 'unreachable', message: `not an event of a watch: ${line.slice(0, 100)}` };
    }
  }

  #change(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: unknown): ApiFailure | undefined {
    const raw = readRawObject(object);
    if (!raw) return { kind: 'unreachable', message: `an event of a watch whose object has no name` };
    const key = objectKey(raw.namespace, raw.name);
    const parsed = type === 'DELETED' ? undefined : this.#resource.parse(object);
    if (!parsed) this.#sink.apply(type, key, undefined, []);
    else if (parsed.ok) this.#sink.apply(type, key, parsed.record, parsed.notices);
    this.#advance(raw.resourceVersion);
    return undefined;
  }

  #advance(resourceVersion: string | undefined): void {
    this.#events++;
    if (resourceVersion) this.#resourceVersion = resourceVersion;
  }
}
