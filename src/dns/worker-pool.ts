// The threads that answer, seen from the main thread: each is told what changes, one that dies is replaced while the others serve, and what
// they count is one sum.

import { randomBytes } from 'node:crypto';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { createTally, type Family } from '../observe/tally.ts';
import { ThreadMetrics } from '../observe/thread-metrics.ts';
import type { Clock } from '../system/clock.ts';
import { ThreadGroup, type Gone, type GroupMember, type ReplyOf } from '../system/thread-group.ts';
import type { StartThread } from '../system/worker-thread.ts';
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

/** What is known of a worker. */
interface Known {
  heardAt: number;
  figures: AnswererFigures | undefined;
  families: readonly Family[];
}

type Member = GroupMember<ToWorker, FromWorker, Known>;

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
const MODULE = new URL('./worker.ts', import.meta.url);
/** What is made for a query is garbage at once: a larger young generation costs memory, and no query is answered sooner. */
const YOUNG_MB = 8;

export class WorkerPool implements Answering {
  readonly metrics = createTally();
  readonly #options: WorkerPoolOptions;
  readonly #group: ThreadGroup<ToWorker, FromWorker, Known>;
  readonly #counted: ThreadMetrics;
  #force: Force | undefined;
  #source: DnsSource | undefined;
  #sendsPods = false;
  #addresses: readonly BoundAddress[] = [];
  #wasReady = false;
  #watching: Promise<void> | undefined;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    const { clock, startThread, metrics } = options;
    this.#group = new ThreadGroup({
      module: MODULE,
      youngMb: YOUNG_MB,
      dataOf: (index) => this.#dataOf(index),
      known: (): Known => ({ heardAt: clock.monotonic(), figures: undefined, families: [] }),
      first: () => this.#everything(),
      follow: (member) => this.#follow(member),
      onMessage: (member, message) => this.#hear(member, message),
      onEnd: (member, why, replacedInMs) => this.#ended(member, why, replacedInMs),
      clock,
      random: Math.random,
      startThread,
    });
    this.#counted = new ThreadMetrics(metrics);
    metrics.beforeText('dns workers', () => this.#count());
  }

  get addresses(): readonly BoundAddress[] {
    return this.#addresses;
  }

  get ready(): boolean {
    const { workers } = this.#options;
    const synced = this.#group.members.filter(({ known }) => known.figures?.synced === true);
    return (this.#wasReady ||= this.#force !== undefined && synced.length === workers);
  }

  get figures(): AnswererFigures | undefined {
    const all = this.#group.members.flatMap(({ known }) => known.figures ?? []);
    const [first] = all.toSorted((a, b) => a.revision - b.revision);
    return first && { ...first, tcpConnections: all.reduce((sum, { tcpConnections }) => sum + tcpConnections, 0) };
  }

  /** The first that takes it decides for all; the others share its ports. Rejects with a DnsListenError. */
  async take(source: BlockSource): Promise<void> {
    const secret = randomBytes(16).toString('hex');
    // Blocks that need Pods find them there.
    if (this.#source && this.#options.pods() && !this.#sendsPods) this.update(this.#source);
    const first = this.#group.at(0);
    // The others start meanwhile.
    this.#others();
    this.#watching ??= this.#watch();
    const force = { source, secret, ports: this.#force?.ports ?? new Map<string, number>() };
    const reply = await tell(first, force);
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
    first.known.figures = reply.figures;
    this.#force = { ...force, ports: reply.ports };
    this.#addresses = reply.addresses;
    this.#group.replaceEnded();
    await Promise.all(this.#others().map((member) => this.#follow(member)));
  }

  update(source: DnsSource): void {
    const pods = this.#options.pods();
    // Pods that nobody read until now are all new to the workers.
    const before =
      pods && !this.#sendsPods && this.#source ? { ...this.#source, pods: emptySource().pods } : this.#source;
    this.#sendsPods = pods;
    for (const changes of changesBetween(before, source, pods)) this.#group.broadcast({ kind: 'changes', changes });
    this.#source = source;
  }

  async finish(): Promise<void> {
    await this.#group.stop({ kind: 'finish' }, FINISH_TIMEOUT_MS);
    await this.#watching;
  }

  #others(): readonly Member[] {
    return Array.from({ length: this.#options.workers - 1 }, (_, i) => this.#group.at(i + 1));
  }

  #dataOf(index: number): WorkerData {
    const { workers, selfIps, maxConnections, idleMs } = this.#options;
    const share = Math.max(1, Math.ceil(maxConnections / workers));
    return { workers, leads: index === 0, selfIps, maxConnections: share, idleMs };
  }

  /** The names: a worker listens only once it knows them. */
  *#everything(): Generator<ToWorker> {
    if (!this.#source) return;
    for (const changes of changesBetween(undefined, this.#source, this.#options.pods()))
      yield { kind: 'changes', changes };
  }

  /** Brings one to what is in force; one that cannot be is replaced. */
  async #follow(member: Member): Promise<void> {
    if (!this.#force) return;
    const reply = await tell(member, this.#force);
    if (reply.kind === 'taken') member.known.figures = reply.figures;
    else if (reply.kind === 'refused') await member.terminate(reply.message);
  }

  #hear(member: Member, message: FromWorker): void {
    const { known } = member;
    known.heardAt = this.#options.clock.monotonic();
    switch (message.kind) {
      case 'log':
        for (const { level, message: text, fields } of message.lines) this.#options.log[level](text, fields);
        return;
      case 'announce':
        this.#group.broadcast({ kind: 'announced', fact: message.fact });
        return;
      case 'applied':
        known.figures = message.figures;
        return;
      case 'counted':
        known.families = message.families;
        known.figures = message.figures;
        return;
      case 'taken':
      case 'refused':
        // Who asked is told.
        return;
    }
  }

  #ended(member: Member, why: string, replacedInMs: number | undefined): void {
    this.#counted.keep(member.known.families);
    if (replacedInMs === undefined) return;
    this.#options.log.error('a DNS worker thread has ended and is replaced; the others answer meanwhile', {
      worker: member.index,
      ms: replacedInMs,
      error: why,
    });
  }

  /** Ends those that hang. */
  async #watch(): Promise<void> {
    const { clock, log } = this.#options;
    const { stopping } = this.#group;
    while (!stopping.aborted) {
      await clock.sleep(WATCH_MS, stopping);
      for (const member of this.#group.members) {
        if (stopping.aborted || clock.monotonic() - member.known.heardAt < SILENCE_MS) continue;
        log.error('a DNS worker thread hangs; it is ended', { worker: member.index });
        await member.terminate('it hung');
      }
    }
  }

  async #count(): Promise<void> {
    await this.#group.askAll((id) => ({ kind: 'count', id }), COUNT_TIMEOUT_MS);
    const told = this.#group.members.map(({ known }) => known.families);
    this.#counted.show([await this.metrics.families(), ...told]);
  }
}

function tell(member: Member, { source, secret, ports }: Force): Promise<ReplyOf<FromWorker> | Gone> {
  return member.ask((id) => ({ kind: 'take', id, source, secret, ports }));
}
