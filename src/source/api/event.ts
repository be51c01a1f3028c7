// Events (events.k8s.io/v1) about what happens: what `kubectl describe` shows. A server that does not take them, or an account
// that may not write them, is no error. Where only the core group's Events may be written (ingress-nginx' role), those are.

import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { ApiConnection } from './connection.ts';
import { EventBudget } from './event-budget.ts';
import { microTime } from './micro-time.ts';
import { answerText, sendObject, type ObjectAnswer } from './object.ts';

export interface ClusterEvent {
  readonly regarding: {
    readonly kind: 'Node' | 'Service' | 'Ingress' | 'ConfigMap' | 'Pod';
    /** Empty for a Node. */
    readonly namespace: string;
    readonly name: string;
    /** `kubectl describe` looks for Events by it. */
    readonly uid?: string;
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
  /** Told of each Event that was sent or that could not be. */
  readonly onSent?: (taken: boolean) => void;
}

/** Kept until there is a connection, or until those before them are sent; more than this is too much to say. */
const KEPT = 1024;
const AT_ONCE = 4;
/** Between two Events, once the first hundred are out: as client-go, which would slow down every other request too. */
const PAUSE_MS = 50;
const UNPACED = 100;
const NOTE_LENGTH = 1024;

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #budget = new EventBudget();
  #connection: ApiConnection | undefined;
  /** Undefined: there is no API server, and nothing is sent. */
  #waiting: ClusterEvent[] | undefined = [];
  readonly #sending = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #sent = 0;
  #dropped = 0;
  #core = false;
  #told: string | undefined;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Sends what waits, and all that follows; undefined: there is no API server, and nothing is sent. */
  connect(connection: ApiConnection | undefined): void {
    this.#connection = connection;
    if (!connection) this.#waiting = undefined;
    this.#sendNext();
  }

  record(event: ClusterEvent): void {
    if (!this.#waiting || this.#stopping.signal.aborted) return;
    const { kind, namespace, name } = event.regarding;
    const text = `${event.type} ${event.reason} ${event.note}`;
    if (!this.#budget.take(`${kind} ${namespace}/${name}`, text, this.#options.clock.now())) return;
    if (this.#waiting.length >= KEPT) {
      if (this.#dropped++ === 0) this.#options.log.warn('too many Events at once; some are left out');
      return;
    }
    this.#waiting.push(event);
    this.#sendNext();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#sending);
  }

  #sendNext(): void {
    const connection = this.#connection;
    if (!connection) return;
    while (this.#sending.size < AT_ONCE && !this.#stopping.signal.aborted) {
      const event = this.#waiting?.shift();
      if (!event) return;
      const sending = this.#send(connection, event).finally(() => {
        this.#sending.delete(sending);
        this.#sendNext();
      });
      this.#sending.add(sending);
    }
  }

  async #send(connection: ApiConnection, event: ClusterEvent): Promise<void> {
    const { log, clock, onSent } = this.#options;
    const { signal } = this.#stopping;
    const answer = await this.#post(connection, event);
    if (signal.aborted) return;
    onSent?.(answer.kind === 'object');
    const reason = answer.kind === 'object' ? undefined : answerText(answer);
    if (reason !== undefined && reason !== this.#told) {
      log.warn('Events cannot be written; the log has what they would say', { event: event.reason, reason });
    }
    this.#told = reason;
    if (++this.#sent > UNPACED) await clock.sleep(PAUSE_MS * AT_ONCE, signal);
  }

  async #post(connection: ApiConnection, event: ClusterEvent): Promise<ObjectAnswer> {
    const { signal } = this.#stopping;
    // What belongs to no namespace is told in `default`, as the API wants it.
    const namespace = event.regarding.namespace === '' ? 'default' : event.regarding.namespace;
    const at = (root: string): string => `${root}/namespaces/${encodeURIComponent(namespace)}/events`;
    const newer = this.#toJson(event, namespace);
    if (!this.#core) {
      const answer = await sendObject(connection, {
        method: 'POST',
        path: at('/apis/events.k8s.io/v1'),
        object: newer,
        signal,
      });
      const elsewhere = answer.kind === 'missing' || (answer.kind === 'refused' && answer.status === 403);
      if (!elsewhere) return answer;
    }
    const older = await sendObject(connection, {
      method: 'POST',
      path: at('/api/v1'),
      object: this.#toCoreJson(event, namespace),
      signal,
    });
    this.#core ||= older.kind === 'object';
    return older;
  }

  #toCoreJson(event: ClusterEvent, namespace: string): unknown {
    const { controller, nodeName, clock } = this.#options;
    const time = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { namespace, name: this.#name(event) },
      involvedObject: regardingJson(event),
      reason: event.reason,
      message: event.note.slice(0, NOTE_LENGTH),
      type: event.type,
      source: { component: controller, host: nodeName },
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
  }

  #name({ regarding }: ClusterEvent): string {
    const { clock, random } = this.#options;
    return `${regarding.name}.${clock.now().toString(16)}${Math.floor(random() * 2 ** 24).toString(16)}`;
  }

  #toJson(event: ClusterEvent, namespace: string): unknown {
    const { controller, nodeName, clock } = this.#options;
    const { type, reason, action, note } = event;
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace, name: this.#name(event) },
      eventTime: microTime(clock.now()),
      reportingController: controller,
      reportingInstance: `${controller}-${nodeName}`.slice(0, 128),
      action,
      reason,
      regarding: regardingJson(event),
      note: note.slice(0, NOTE_LENGTH),
      type,
    };
  }
}

/** kubelets and kube-proxy give a Node's name for its uid; `kubectl describe node` looks for that. */
function regardingJson({ regarding: { kind, namespace, name, uid } }: ClusterEvent): unknown {
  if (kind === 'Node') return { apiVersion: 'v1', kind, name, uid: name };
  const apiVersion = kind === 'Ingress' ? 'networking.k8s.io/v1' : 'v1';
  return { apiVersion, kind, namespace, name, ...(uid === undefined || uid === '' ? {} : { uid }) };
}
