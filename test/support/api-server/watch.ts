// Watches: events from a version on, bookmarks, and the ways in which one ends.

import type { ServerResponse } from 'node:http';
import { child, copy, text, type Json } from './json.ts';
import { inNamespace } from './list.ts';
import { apiVersionOf, type ServedResource, type Target } from './resource-table.ts';
import { parseSelectors, type Selects } from './selector.ts';
import { badRequest, badVersion, expiredWatch, initialEventsNeedMatch, type Refusal } from './status.ts';
import type { Change, Storage } from './storage.ts';

export type WatchEnd = 'end' | 'reset' | 'cut-line' | 'expire';

const DEFAULT_TIMEOUT_SECONDS = 1800;

interface WatchRequest {
  readonly target: Target;
  readonly selects: Selects;
  /** Undefined for the state as it is, told as ADDED events. */
  readonly from: number | undefined;
  readonly bookmarks: boolean;
  readonly sendInitialEvents: boolean;
  readonly timeoutMs: number;
}

export function parseWatch(target: Target, query: URLSearchParams): WatchRequest | Refusal {
  const selector = parseSelectors(target.resource, query);
  if (selector.kind === 'unsupported') return badRequest(selector.message);
  const version = query.get('resourceVersion') ?? '';
  if (!/^[0-9]*$/.test(version)) return badVersion(version);
  const sendInitialEvents = query.get('sendInitialEvents') === 'true';
  const bookmarks = query.get('allowWatchBookmarks') === 'true' || query.get('allowWatchBookmarks') === '1';
  if (sendInitialEvents && (query.get('resourceVersionMatch') !== 'NotOlderThan' || !bookmarks))
    return initialEventsNeedMatch();
  const seconds = Number(query.get('timeoutSeconds') ?? DEFAULT_TIMEOUT_SECONDS);
  return {
    target,
    selects: selector.selects,
    from: version === '' || version === '0' || sendInitialEvents ? undefined : Number(version),
    bookmarks,
    sendInitialEvents,
    timeoutMs: (Number.isFinite(seconds) && seconds > 0 ? seconds : DEFAULT_TIMEOUT_SECONDS) * 1000,
  };
}

/** A watch under way, over one response. */
export class OpenWatch {
  readonly target: Target;
  readonly #request: WatchRequest;
  readonly #response: ServerResponse;
  readonly #storage: Storage;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #forget: () => void;
  #over = false;

  constructor(request: WatchRequest, response: ServerResponse, storage: Storage, onEnd: () => void) {
    this.target = request.target;
    this.#request = request;
    this.#response = response;
    this.#storage = storage;
    const stopListening = storage.onChange((resource, change) => {
      if (resource === this.target.resource) this.#change(change);
    });
    this.#forget = () => {
      if (this.#over) return;
      this.#over = true;
      stopListening();
      for (const timer of this.#timers) clearTimeout(timer);
      onEnd();
    };
    response.on('close', this.#forget);
  }

  /** Ends it as one of the things that happen to watches. */
  end(how: WatchEnd): void {
    switch (how) {
      case 'end':
        this.#response.end();
        break;
      case 'reset':
        this.#response.socket?.destroy();
        break;
      case 'cut-line':
        this.#response.write('{"type":"MODIFIED","object":{"kind":"Service","metadata":{"name":"cut', () =>
          this.#response.socket?.destroy(),
        );
        break;
      case 'expire':
        this.#send('ERROR', expiredWatch(this.#request.from ?? 0, this.#storage.revision));
        this.#response.end();
        break;
    }
    this.#forget();
  }

  /** Sends what is there to be sent; changes from now on follow by themselves. */
  begin(bookmarkMs: number): void {
    const { from, target } = this.#request;
    if (from === undefined) {
      const objects = [...this.#storage.current(target.resource).entries()].sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [key, object] of objects) if (this.#concerns(`/${key}`, object)) this.#send('ADDED', object);
      if (this.#request.sendInitialEvents) this.#bookmark({ annotations: { 'k8s.io/initial-events-end': 'true' } });
    } else {
      const changes = this.#storage.changesAfter(target.resource, from);
      if (!changes) {
        this.#send('ERROR', expiredWatch(from, this.#storage.compacted));
        this.#response.end();
        this.#forget();
        return;
      }
      for (const change of changes) this.#change(change);
    }
    if (this.#request.bookmarks) {
      this.#timers.push(setInterval(() => this.#bookmark(), bookmarkMs));
      this.#timers.push(setTimeout(() => this.#bookmark(), this.#request.timeoutMs * 0.9));
    }
    this.#timers.push(setTimeout(() => this.end('end'), this.#request.timeoutMs));
  }

  /** An object that comes to match, or no longer does, is told as added or deleted. */
  #change(change: Change): void {
    if (this.#over || change.revision <= (this.#request.from ?? 0)) return;
    const metadata = child(change.object, 'metadata');
    const key = this.target.resource.namespaced
      ? `/${text(metadata, 'namespace') ?? ''}/${text(metadata, 'name') ?? ''}`
      : `/${text(metadata, 'name') ?? ''}`;
    const was = change.previous !== undefined && this.#concerns(key, change.previous);
    const is = change.type !== 'DELETED' && this.#concerns(key, change.object);
    if (was || is) this.#send(is ? (was ? 'MODIFIED' : 'ADDED') : 'DELETED', change.object);
  }

  #concerns(key: string, object: Json): boolean {
    return inNamespace(key, this.target) && this.#request.selects(object);
  }

  #bookmark(metadata: Json = {}): void {
    if (this.#over) return;
    const object = emptyObject(this.target.resource);
    object['metadata'] = { resourceVersion: String(this.#storage.revision), ...metadata };
    this.#send('BOOKMARK', object);
  }

  #send(type: string, object: Json): void {
    this.#response.write(`${JSON.stringify({ type, object: copy(object) })}\n`);
  }
}

function emptyObject(resource: ServedResource): Json {
  return { kind: resource.kind, apiVersion: apiVersionOf(resource), metadata: {} };
}
