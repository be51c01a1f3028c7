// Events (events.k8s.io/v1) about what happens on this node: what `kubectl describe` shows. A server that does not take them, or an account
// that may not write them, is no error.

import { messageOf } from '../../lib/message-of.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { ApiConnection } from './connection.ts';

export interface ClusterEvent {
  readonly regarding: {
    readonly kind: 'Node' | 'Service';
    /** Empty for a Node. */
    readonly namespace: string;
    readonly name: string;
  };
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly action: string;
  /** A sentence for people, 1 KB at most. */
  readonly note: string;
}

export interface EventRecorderOptions {
  /** `fairlead-proxy`. */
  readonly controller: string;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Kept until there is a connection; more than this at start is too much to say. */
const KEPT = 32;
const NOTE_LENGTH = 1024;

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  #connection: ApiConnection | undefined;
  #waiting: ClusterEvent[] | undefined = [];
  readonly #sending = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Sends what waits, and all that follows; undefined: there is no API server, and nothing is sent. */
  connect(connection: ApiConnection | undefined): void {
    this.#connection = connection;
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const event of waiting) this.record(event);
  }

  record(event: ClusterEvent): void {
    if (this.#waiting && this.#waiting.length < KEPT) this.#waiting.push(event);
    if (!this.#connection || this.#stopping.signal.aborted) return;
    const sending = this.#send(this.#connection, event).finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#sending);
  }

  async #send(connection: ApiConnection, event: ClusterEvent): Promise<void> {
    const { log } = this.#options;
    const { regarding, reason } = event;
    // What belongs to no namespace is told in `default`, as the API wants it.
    const namespace = regarding.namespace === '' ? 'default' : regarding.namespace;
    try {
      const response = await connection.request({
        method: 'POST',
        path: `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`,
        headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
        body: JSON.stringify(this.#toJson(event, namespace)),
        signal: this.#stopping.signal,
      });
      await response.text();
      if (response.status >= 300) log.debug('event not taken', { reason, status: response.status });
    } catch (error) {
      log.debug('event not sent', { reason, error: messageOf(error) });
    }
  }

  #toJson({ regarding, type, reason, action, note }: ClusterEvent, namespace: string): unknown {
    const { controller, nodeName, clock, random } = this.#options;
    const now = clock.now();
    const { kind, name } = regarding;
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace, name: `${name}.${now.toString(16)}${Math.floor(random() * 2 ** 24).toString(16)}` },
      eventTime: microTime(now),
      reportingController: controller,
      reportingInstance: `${controller}-${nodeName}`.slice(0, 128),
      action,
      reason,
      // kubelets and kube-proxy give a Node's name for its uid; `kubectl describe node` looks for that.
      regarding:
        kind === 'Node'
          ? { apiVersion: 'v1', kind, name, uid: name }
          : { apiVersion: 'v1', kind, namespace: regarding.namespace, name },
      note: note.slice(0, NOTE_LENGTH),
      type,
    };
  }
}

/** MicroTime: exactly six decimals. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
