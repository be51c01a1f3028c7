// The threads that carry requests, seen from the main thread: each is told what changes, one that dies is replaced while the others serve,
// and what they count is one sum.

import { randomBytes } from 'node:crypto';
import { backoffDelay } from '../lib/backoff.ts';
import type { Logger } from '../observe/log.ts';
import type { Meters } from '../observe/metrics.ts';
import { sumOf, type Family } from '../observe/tally.ts';
import type { Clock } from '../system/clock.ts';
import type { StartThread, WorkerThread } from '../system/worker-thread.ts';
import type { DataPathCounts, Serving } from './data-path.ts';
import { createLimitMemory, LimitState } from './limit-state.ts';
import { IngressListenError, type ListenAddress } from './listen-error.ts';
import type { RouteTable } from './route-table.ts';
import type { CertificateState, CertificateTable } from './tls.ts';
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

type Reply = Extract<FromWorker, { readonly id: number }> | { readonly kind: 'gone'; readonly why: string };

interface Member {
  readonly index: number;
  readonly thread: WorkerThread;
  readonly startedAt: number;
  readonly asked: Map<number, (reply: Reply) => void>;
  families: readonly Family[];
  counts: WorkerCounts;
  applied: boolean;
  ended: Promise<void>;
}

const NOTHING: WorkerCounts = { active: 0, busy: 0, accepted: 0, upstream: 0, ejected: 0 };
const MODULE = new URL('./worker.ts', import.meta.url);
const YOUNG_MB = 32;
const COUNT_TIMEOUT_MS = 500;
/** After the grace of the workers themselves. */
const STOP_EXTRA_MS = 2000;
/** One that dies sooner is not started again at once. */
const SHORT_LIFE_MS = 10_000;
const RESTART = { initial: 500, max: 30_000 };

export class WorkerPool implements Serving {
  readonly #options: WorkerPoolOptions;
  readonly #data: Omit<WorkerData, 'index'>;
  readonly #limits: LimitState;
  readonly #members = new Map<number, Member>();
  readonly #stopping = new AbortController();
  readonly #shown = new Set<string>();
  /** What workers that are gone have counted. */
  #past: readonly Family[] = [];
  #pastAccepted = 0;
  #sums = new Map<string, Family>();
  #addresses: Addresses = { http: undefined, https: undefined };
  #listening = false;
  #table: RouteTable | undefined;
  #source: WorkerSource = emptySource();
  #wasReady = false;
  #failures = 0;
  #nextId = 1;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    const limits = createLimitMemory(options.workers);
    // The main thread takes no requests: its index is behind those that do.
    this.#limits = new LimitState(limits, options.workers);
    this.#data = { ...options.data, ownPair: options.certificates.defaultPair, ticketKeys: randomBytes(48), limits };
    options.metrics.beforeText('ingress workers', () => this.#count());
  }

  get addresses(): Addresses {
    return this.#addresses;
  }

  get table(): RouteTable | undefined {
    return this.#table;
  }

  /** Every worker has had its first table. */
  get ready(): boolean {
    const all = [...this.#members.values()];
    return (this.#wasReady ||= this.#table !== undefined && all.length > 0 && all.every(({ applied }) => applied));
  }

  get counts(): DataPathCounts {
    const all = [...this.#members.values()].map(({ counts }) => counts);
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
    const first = this.#start(0);
    const reply = await this.#ask(first, (id) => ({ kind: 'listen', id, addresses: { http, https } }));
    if (reply.kind === 'refused') {
      const cause = Object.assign(new Error(reply.message), reply.code === undefined ? {} : { code: reply.code });
      throw new IngressListenError(cause, reply.listen, reply.scheme);
    }
    if (reply.kind !== 'listening') throw new Error(`a worker thread of the Ingress ended: ${whyOf(reply)}`);
    this.#addresses = reply.addresses;
    this.#listening = true;
    const others = Array.from({ length: this.#options.workers - 1 }, (_, i) => this.#start(i + 1));
    await Promise.all(others.map((member) => this.#follow(member)));
  }

  /** Each worker compiles what differs, and routes by it some milliseconds later. */
  apply(table: RouteTable): void {
    const before = this.#source;
    const after = sourceOf(table, this.#table, before);
    this.#table = table;
    this.#source = after;
    const changes = changesBetween(before, after);
    for (const { thread } of this.#members.values()) thread.post({ kind: 'changes', changes } satisfies ToWorker);
    // Thousands of Secrets take a second: the workers do not wait for it.
    this.#options.certificates.apply(table);
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    const all = [...this.#members.values()];
    for (const { thread } of all) thread.post({ kind: 'stop' } satisfies ToWorker);
    const bound = new AbortController();
    await Promise.race([
      Promise.all(all.map(({ ended }) => ended)),
      this.#options.clock.sleep(graceMs + STOP_EXTRA_MS, bound.signal),
    ]);
    bound.abort();
    await Promise.all([...this.#members.values()].map(({ thread }) => thread.terminate()));
  }

  #start(index: number): Member {
    let onEnded = (): void => {};
    const ended = new Promise<void>((resolve) => (onEnded = resolve));
    const thread = this.#options.startThread({
      module: MODULE,
      data: { ...this.#data, index } satisfies WorkerData,
      youngMb: YOUNG_MB,
      onMessage: (message) => this.#hear(member, message as FromWorker),
      onEnd: (why) => {
        this.#ended(member, why);
        onEnded();
      },
    });
    const member: Member = {
      index,
      thread,
      startedAt: this.#options.clock.monotonic(),
      asked: new Map(),
      families: [],
      counts: NOTHING,
      applied: false,
      ended,
    };
    this.#members.set(index, member);
    // The routes first: it listens only once it knows them.
    if (this.#table) {
      const changes = changesBetween(emptySource(), this.#source);
      thread.post({ kind: 'changes', changes } satisfies ToWorker);
    }
    return member;
  }

  /** Has one listen where the others do; one that cannot is replaced. */
  async #follow(member: Member): Promise<void> {
    const reply = await this.#ask(member, (id) => ({ kind: 'listen', id, addresses: this.#addresses }));
    if (reply.kind === 'listening' || reply.kind === 'gone') return;
    this.#options.log.error('a worker thread of the Ingress cannot listen', {
      worker: member.index,
      error: whyOf(reply),
    });
    await member.thread.terminate();
  }

  #ask(member: Member, question: (id: number) => ToWorker): Promise<Reply> {
    const id = this.#nextId++;
    return new Promise((resolve) => {
      member.asked.set(id, resolve);
      member.thread.post(question(id));
    });
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
        member.applied = true;
        return;
      case 'counted':
        member.families = message.families;
        member.counts = message.counts;
        answer(member, message);
        return;
      case 'listening':
      case 'refused':
        answer(member, message);
        return;
    }
  }

  #ended(member: Member, why: string | undefined): void {
    const { log, clock } = this.#options;
    const reason = why ?? 'it stopped by itself';
    this.#members.delete(member.index);
    this.#limits.forget(member.index);
    this.#past = sumOf([this.#past, member.families.filter(({ type }) => type !== 'gauge')]);
    this.#pastAccepted += member.counts.accepted;
    for (const reply of member.asked.values()) reply({ kind: 'gone', why: reason });
    // Before anything is in force, who asked for it is told.
    if (this.#stopping.signal.aborted || !this.#listening) return;
    this.#failures = clock.monotonic() - member.startedAt < SHORT_LIFE_MS ? this.#failures + 1 : 1;
    const delay = this.#failures < 2 ? 0 : backoffDelay(RESTART, this.#failures - 1, Math.random());
    log.error('a worker thread of the Ingress has ended and is replaced; the others serve meanwhile', {
      worker: member.index,
      ms: delay,
      error: reason,
    });
    void clock.sleep(delay, this.#stopping.signal).then(() => this.#replace(member.index));
  }

  async #replace(index: number): Promise<void> {
    if (this.#stopping.signal.aborted || this.#members.has(index)) return;
    await this.#follow(this.#start(index));
  }

  /** Brings the sums up to date, and shows those that are new. */
  async #count(): Promise<void> {
    const { clock, metrics } = this.#options;
    const bound = new AbortController();
    const told = [...this.#members.values()].map((member) => this.#ask(member, (id) => ({ kind: 'count', id })));
    await Promise.race([Promise.all(told), clock.sleep(COUNT_TIMEOUT_MS, bound.signal)]);
    bound.abort();
    const all = [...this.#members.values()].map(({ families }) => families);
    this.#sums = new Map(sumOf([this.#past, ...all]).map((sum) => [sum.name, sum]));
    for (const { name, help, type } of this.#sums.values()) {
      if (this.#shown.has(name)) continue;
      this.#shown.add(name);
      metrics.collected({ name, help, type, samples: () => this.#sums.get(name)?.samples ?? [] });
    }
  }
}

function answer(member: Member, reply: Extract<Reply, { readonly id: number }>): void {
  member.asked.get(reply.id)?.(reply);
  member.asked.delete(reply.id);
}

function whyOf(reply: Reply): string {
  if (reply.kind === 'gone') return reply.why;
  return reply.kind === 'refused' ? reply.message : 'it answered something else';
}
