// The threads that answer, seen from the main thread: each is told what changes, one that dies is replaced while the others serve, and what
// they count is one sum.

import { randomBytes } from 'node:crypto';
import { backoffDelay } from '../lib/backoff.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { createTally, sumOf, type Family } from '../observe/tally.ts';
import type { Clock } from '../system/clock.ts';
import type { StartThread, WorkerThread } from '../system/worker-thread.ts';
import type { AnswererFigures } from './answerer.ts';
import type { Answering } from './answering.ts';
import type { BlockSource } from './block-source.ts';
import { DnsListenError } from './listen-error.ts';
import type { BoundAddress } from './listener.ts';
import type { FromWorker, ToWorker, WorkerData } from './worker-messages.ts';
import { changesBetween, emptySource, type DnsSource } from './zone/source.ts';

export interface WorkerPoolOptions {
  readonly workers: number;
  readonly selfIps: readonly Ip[] | undefined;
  readonly maxConnections: number;
  readonly idleMs: number;
  /** Whether Pods are read. */
  readonly pods: () => boolean;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly startThread: StartThread;
}

type Reply = Extract<FromWorker, { readonly id: number }> | { readonly kind: 'gone'; readonly why: string };

interface Member {
  readonly index: number;
  readonly thread: WorkerThread;
  readonly startedAt: number;
  readonly asked: Map<number, (reply: Reply) => void>;
  heardAt: number;
  figures: AnswererFigures | undefined;
  families: readonly Family[];
  finished: boolean;
  why: string | undefined;
}

/** What is in force, for those that come later. */
interface Force {
  readonly source: BlockSource;
  readonly secret: string;
  readonly ports: ReadonlyMap<string, number>;
}

/** A worker answers in less; what it does not count in time is counted the next time. */
const COUNT_TIMEOUT_MS = 500;
const FINISH_TIMEOUT_MS = 4000;
/** Every worker says what it has counted each second: one that is silent for so long hangs. */
const SILENCE_MS = 30_000;
const WATCH_MS = 5000;
/** One that dies sooner is not started again at once. */
const SHORT_LIFE_MS = 10_000;
const RESTART = { initial: 500, max: 30_000 };
const MODULE = new URL('./worker.ts', import.meta.url);
/** What is made for a query is garbage at once: a larger young generation costs memory, and no query is answered sooner. */
const YOUNG_MB = 8;

export class WorkerPool implements Answering {
  readonly metrics = createTally();
  readonly #options: WorkerPoolOptions;
  readonly #members = new Map<number, Member>();
  readonly #stopping = new AbortController();
  readonly #shown = new Set<string>();
  /** What workers that are gone have counted. */
  #past: readonly Family[] = [];
  #sums = new Map<string, Family>();
  #force: Force | undefined;
  #source: DnsSource | undefined;
  #sendsPods = false;
  #addresses: readonly BoundAddress[] = [];
  #failures = 0;
  #nextId = 1;
  #wasReady = false;
  #watching: Promise<void> | undefined;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    options.metrics.beforeText('dns workers', () => this.#count());
  }

  get addresses(): readonly BoundAddress[] {
    return this.#addresses;
  }

  get ready(): boolean {
    const { workers } = this.#options;
    const synced = [...this.#members.values()].filter(({ figures }) => figures?.synced === true);
    return (this.#wasReady ||= this.#force !== undefined && synced.length === workers);
  }

  get figures(): AnswererFigures | undefined {
    const all = [...this.#members.values()].flatMap(({ figures }) => figures ?? []);
    const [first] = all.toSorted((a, b) => a.revision - b.revision);
    return first && { ...first, tcpConnections: all.reduce((sum, { tcpConnections }) => sum + tcpConnections, 0) };
  }

  /** The first that takes it decides for all; the others share its ports. Rejects with a DnsListenError. */
  async take(source: BlockSource): Promise<void> {
    const { workers } = this.#options;
    const secret = randomBytes(16).toString('hex');
    // Blocks that need Pods find them there.
    if (this.#source && this.#options.pods() && !this.#sendsPods) this.update(this.#source);
    for (let index = 0; index < workers; index++) if (!this.#members.has(index)) this.#start(index);
    this.#watching ??= this.#watch();
    const [first, ...others] = [...this.#members.values()].toSorted((a, b) => a.index - b.index);
    if (!first) throw new Error('no worker');
    const force = { source, secret, ports: this.#force?.ports ?? new Map<string, number>() };
    const reply = await this.#tell(first, force);
    switch (reply.kind) {
      case 'taken':
        break;
      case 'refused':
        throw new DnsListenError(
          reply.at,
          Object.assign(new Error(reply.message), reply.code ? { code: reply.code } : {}),
        );
      case 'gone':
        throw new Error(`a DNS worker thread ended: ${reply.why}`);
      case 'counted':
        throw new Error('a DNS worker thread answered something else');
    }
    first.figures = reply.figures;
    this.#force = { ...force, ports: reply.ports };
    this.#addresses = reply.addresses;
    await Promise.all(others.map((member) => this.#follow(member)));
  }

  update(source: DnsSource): void {
    const pods = this.#options.pods();
    // Pods that nobody read until now are all new to the workers.
    const before =
      pods && !this.#sendsPods && this.#source ? { ...this.#source, pods: emptySource().pods } : this.#source;
    this.#sendsPods = pods;
    for (const changes of changesBetween(before, source, pods))
      for (const member of this.#members.values()) post(member, { kind: 'changes', changes });
    this.#source = source;
  }

  async finish(): Promise<void> {
    const { clock } = this.#options;
    this.#stopping.abort();
    for (const member of this.#members.values()) post(member, { kind: 'finish' });
    const bound = clock.monotonic() + FINISH_TIMEOUT_MS;
    while (this.#members.size > 0 && clock.monotonic() < bound) await clock.sleep(5);
    await Promise.all([...this.#members.values()].map(({ thread }) => thread.terminate()));
    await this.#watching;
  }

  #start(index: number): void {
    const { workers, selfIps, maxConnections, idleMs, clock } = this.#options;
    const share = Math.max(1, Math.ceil(maxConnections / workers));
    const data: WorkerData = { workers, leads: index === 0, selfIps, maxConnections: share, idleMs };
    const thread = this.#options.startThread({
      module: MODULE,
      data,
      youngMb: YOUNG_MB,
      onMessage: (message) => this.#hear(member, message as FromWorker),
      onEnd: (why) => this.#ended(member, why),
    });
    const now = clock.monotonic();
    const empty = { asked: new Map<number, (reply: Reply) => void>(), figures: undefined, families: [] };
    const member: Member = { index, thread, startedAt: now, heardAt: now, finished: false, why: undefined, ...empty };
    this.#members.set(index, member);
    // The names first: it listens only once it knows them.
    if (this.#source)
      for (const changes of changesBetween(undefined, this.#source, this.#options.pods()))
        post(member, { kind: 'changes', changes });
  }

  #tell(member: Member, { source, secret, ports }: Force): Promise<Reply> {
    return this.#ask(member, (id) => ({ kind: 'take', id, source, secret, ports }));
  }

  #ask(member: Member, question: (id: number) => ToWorker): Promise<Reply> {
    const id = this.#nextId++;
    return new Promise((resolve) => {
      member.asked.set(id, resolve);
      post(member, question(id));
    });
  }

  /** Brings one to what is in force; one that cannot be is replaced. */
  async #follow(member: Member): Promise<void> {
    const force = this.#force;
    if (!force) return;
    const reply = await this.#tell(member, force);
    if (reply.kind === 'taken') {
      member.figures = reply.figures;
      return;
    }
    if (reply.kind !== 'refused') return;
    member.why = reply.message;
    await member.thread.terminate();
  }

  #hear(member: Member, message: FromWorker): void {
    member.heardAt = this.#options.clock.monotonic();
    switch (message.kind) {
      case 'log':
        for (const { level, message: text, fields } of message.lines) this.#options.log[level](text, fields);
        return;
      case 'announce':
        for (const other of this.#members.values()) post(other, { kind: 'announced', fact: message.fact });
        return;
      case 'applied':
        member.figures = message.figures;
        return;
      case 'finished':
        member.families = message.families;
        member.finished = true;
        return;
      case 'counted':
        member.families = message.families;
        member.figures = message.figures;
        answer(member, message);
        return;
      case 'taken':
      case 'refused':
        answer(member, message);
        return;
    }
  }

  #ended(member: Member, why: string | undefined): void {
    const { log, clock } = this.#options;
    const reason = member.why ?? why ?? 'it stopped by itself';
    this.#members.delete(member.index);
    this.#past = sumOf([this.#past, member.families.filter(({ type }) => type !== 'gauge')]);
    for (const reply of member.asked.values()) reply({ kind: 'gone', why: reason });
    // Before anything is in force, who asked for it is told.
    if (this.#stopping.signal.aborted || !this.#force) return;
    this.#failures = clock.monotonic() - member.startedAt < SHORT_LIFE_MS ? this.#failures + 1 : 1;
    const delay = this.#failures < 2 ? 0 : backoffDelay(RESTART, this.#failures - 1, Math.random());
    log.error('a DNS worker thread has ended and is replaced; the others answer meanwhile', {
      worker: member.index,
      ms: delay,
      error: reason,
    });
    void clock.sleep(delay, this.#stopping.signal).then(() => this.#replace(member.index));
  }

  async #replace(index: number): Promise<void> {
    if (this.#stopping.signal.aborted || this.#members.has(index)) return;
    this.#start(index);
    const member = this.#members.get(index);
    if (member) await this.#follow(member);
  }

  /** Ends those that hang. */
  async #watch(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await clock.sleep(WATCH_MS, signal);
      for (const member of this.#members.values()) {
        if (signal.aborted || clock.monotonic() - member.heardAt < SILENCE_MS) continue;
        log.error('a DNS worker thread hangs; it is ended', { worker: member.index });
        member.why = 'it hung';
        await member.thread.terminate();
      }
    }
  }

  /** Brings the sums up to date, and shows those that are new. */
  async #count(): Promise<void> {
    const { clock, metrics } = this.#options;
    const bound = new AbortController();
    const told = [...this.#members.values()].map((member) => this.#ask(member, (id) => ({ kind: 'count', id })));
    await Promise.race([Promise.all(told), clock.sleep(COUNT_TIMEOUT_MS, bound.signal)]);
    bound.abort();
    const all = [...this.#members.values()].map(({ families }) => families);
    this.#sums = new Map(sumOf([this.#past, await this.metrics.families(), ...all]).map((sum) => [sum.name, sum]));
    for (const { name, help, type } of this.#sums.values()) {
      if (this.#shown.has(name)) continue;
      this.#shown.add(name);
      metrics.collected({ name, help, type, samples: () => this.#sums.get(name)?.samples ?? [] });
    }
  }
}

function post(member: Member, message: ToWorker): void {
  if (!member.finished) member.thread.post(message);
}

function answer(member: Member, reply: Extract<Reply, { readonly id: number }>): void {
  member.asked.get(reply.id)?.(reply);
  member.asked.delete(reply.id);
}
