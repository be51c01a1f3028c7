// The threads that carry requests, seen from the main thread: each is told what changes, one that dies is replaced while the others serve,
// and what they count is one sum.

import { randomBytes } from 'node:crypto';
import type { Logger } from '../observe/log.ts';
import type { Meters } from '../observe/metrics.ts';
import type { Family } from '../observe/tally.ts';
import { ThreadMetrics } from '../observe/thread-metrics.ts';
import type { Clock } from '../system/clock.ts';
import { ThreadGroup, type Gone, type GroupMember, type ReplyOf } from '../system/thread-group.ts';
import type { StartThread } from '../system/worker-thread.ts';
import type { DataPathCounts, Serving } from './data-path.ts';
import { createLimitMemory, LimitState } from './limit-state.ts';
import { IngressListenError, type ListenAddress } from './listen-error.ts';
import type { RouteTable } from './route-table.ts';
import type { CertificateState, CertificateTable } from './tls.ts';
import { TrafficCounts, type ToldBy } from './traffic-counts.ts';
import type { Addresses, FromWorker, ToWorker, WorkerCounts, WorkerData } from './worker-messages.ts';
import { changesBetween, emptySource, sourceOf, type WorkerSource } from './worker-source.ts';

export interface WorkerPoolOptions {
  readonly workers: number;
  readonly data: Omit<WorkerData, 'ticketKeys' | 'ownPair' | 'index' | 'limits'>;
  readonly certificates: CertificateTable;
  readonly log: Logger;
  readonly metrics: Meters;
  readonly clock: Clock;
  readonly startThread: StartThread;
  readonly accessLog: ((text: string) => void) | undefined;
}

/** What is known of a worker. */
interface Known {
  families: readonly Family[];
  counts: WorkerCounts;
  applied: boolean;
  readonly told: ToldBy;
}

type Member = GroupMember<ToWorker, FromWorker, Known>;

const NOTHING: WorkerCounts = { active: 0, busy: 0, accepted: 0, upstream: 0, ejected: 0 };
const MODULE = new URL('./worker.ts', import.meta.url);
const YOUNG_MB = 32;
const COUNT_TIMEOUT_MS = 500;
/** After the grace of the workers themselves. */
const STOP_EXTRA_MS = 2000;

export class WorkerPool implements Serving {
  readonly #options: WorkerPoolOptions;
  readonly #data: Omit<WorkerData, 'index'>;
  readonly #limits: LimitState;
  readonly #group: ThreadGroup<ToWorker, FromWorker, Known>;
  readonly #counted: ThreadMetrics;
  readonly #traffic: TrafficCounts;
  #pastAccepted = 0;
  #addresses: Addresses = { http: undefined, https: undefined };
  #table: RouteTable | undefined;
  #source: WorkerSource = emptySource();
  #wasReady = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    const { workers, data, certificates, clock, startThread, metrics } = options;
    const limits = createLimitMemory(workers);
    // The main thread takes no requests: its index is behind those that do.
    this.#limits = new LimitState(limits, workers);
    this.#data = { ...data, ownPair: certificates.defaultPair, ticketKeys: randomBytes(48), limits };
    this.#group = new ThreadGroup({
      module: MODULE,
      youngMb: YOUNG_MB,
      dataOf: (index): WorkerData => ({ ...this.#data, index }),
      known: (): Known => ({ families: [], counts: NOTHING, applied: false, told: new Map() }),
      first: () => this.#everything(),
      follow: (member) => this.#follow(member),
      onMessage: (member, message) => this.#hear(member, message),
      onEnd: (member, why, replacedInMs) => this.#ended(member, why, replacedInMs),
      clock,
      random: Math.random,
      startThread,
    });
    this.#counted = new ThreadMetrics(metrics);
    this.#traffic = new TrafficCounts(data.traffic);
    this.#traffic.register(metrics);
    metrics.beforeText('ingress workers', () => this.#count());
  }

  get addresses(): Addresses {
    return this.#addresses;
  }

  get table(): RouteTable | undefined {
    return this.#table;
  }

  /** Every worker has had its first table. */
  get ready(): boolean {
    const all = this.#group.members;
    return (this.#wasReady ||= this.#table !== undefined && all.length > 0 && all.every(({ known }) => known.applied));
  }

  get counts(): DataPathCounts {
    const all = this.#group.members.map(({ known }) => known.counts);
    const sum = (pick: (counts: WorkerCounts) => number): number =>
      all.reduce((total, counts) => total + pick(counts), 0);
    return {
      active: sum(({ active }) => active),
      busy: sum(({ busy }) => busy),
      accepted: this.#pastAccepted + sum(({ accepted }) => accepted),
      upstream: sum(({ upstream }) => upstream),
      ejected: sum(({ ejected }) => ejected),
    };
  }

  certificateStates(): readonly CertificateState[] {
    return [...this.#options.certificates.states()];
  }

  /** The first decides for all; the others share its ports. Rejects with IngressListenError. */
  async listen(http: ListenAddress | undefined, https: ListenAddress | undefined): Promise<void> {
    const first = this.#group.at(0);
    const reply = await first.ask((id) => ({ kind: 'listen', id, addresses: { http, https } }));
    if (reply.kind === 'refused') {
      const cause = Object.assign(new Error(reply.message), reply.code === undefined ? {} : { code: reply.code });
      throw new IngressListenError(cause, reply.listen, reply.scheme);
    }
    if (reply.kind !== 'listening') throw new Error(`a worker thread of the Ingress ended: ${whyOf(reply)}`);
    this.#addresses = reply.addresses;
    this.#group.replaceEnded();
    const others = Array.from({ length: this.#options.workers - 1 }, (_, i) => this.#group.at(i + 1));
    await Promise.all(others.map((member) => this.#follow(member)));
  }

  /** Each worker compiles what differs, and routes by it some milliseconds later. */
  apply(table: RouteTable): void {
    const before = this.#source;
    const after = sourceOf(table, this.#table, before);
    this.#table = table;
    this.#source = after;
    const changes = changesBetween(before, after);
    this.#group.broadcast({ kind: 'changes', changes });
    // Thousands of Secrets take a second: the workers do not wait for it.
    this.#options.certificates.apply(table);
  }

  async stop(graceMs: number): Promise<void> {
    await this.#group.stop({ kind: 'stop' }, graceMs + STOP_EXTRA_MS);
  }

  /** The routes: a worker listens only once it knows them. */
  *#everything(): Generator<ToWorker> {
    if (this.#table) yield { kind: 'changes', changes: changesBetween(emptySource(), this.#source) };
  }

  /** Has one listen where the others do; one that cannot is replaced. */
  async #follow(member: Member): Promise<void> {
    const reply = await member.ask((id) => ({ kind: 'listen', id, addresses: this.#addresses }));
    if (reply.kind === 'listening' || reply.kind === 'gone') return;
    this.#options.log.error('a worker thread of the Ingress cannot listen', {
      worker: member.index,
      error: whyOf(reply),
    });
    await member.terminate();
  }

  #hear(member: Member, message: FromWorker): void {
    switch (message.kind) {
      case 'access':
        this.#options.accessLog?.(message.text);
        return;
      case 'error':
        this.#options.log.error(message.message, { ...message.fields, worker: member.index });
        return;
      case 'applied':
        member.known.applied = true;
        return;
      case 'counted':
        member.known.families = message.families;
        member.known.counts = message.counts;
        this.#traffic.add(message.traffic, member.known.told);
        return;
      case 'listening':
      case 'refused':
        // Who asked is told.
        return;
    }
  }

  #ended({ index, known }: Member, why: string, replacedInMs: number | undefined): void {
    this.#limits.forget(index);
    this.#traffic.release(known.told);
    this.#counted.keep(known.families);
    this.#pastAccepted += known.counts.accepted;
    if (replacedInMs === undefined) return;
    this.#options.log.error('a worker thread of the Ingress has ended and is replaced; the others serve meanwhile', {
      worker: index,
      ms: replacedInMs,
      error: why,
    });
  }

  async #count(): Promise<void> {
    await this.#group.askAll((id) => ({ kind: 'count', id }), COUNT_TIMEOUT_MS);
    this.#counted.show(this.#group.members.map(({ known }) => known.families));
  }
}

function whyOf(reply: ReplyOf<FromWorker> | Gone): string {
  if (reply.kind === 'gone') return reply.why;
  return reply.kind === 'refused' ? reply.message : 'it answered something else';
}
