// Threads of one kind that share a task: each is told and asked by messages, and one that dies is replaced while the others go on.

import { backoffDelay } from '../lib/backoff.ts';
import type { Clock } from './clock.ts';
import type { StartThread, WorkerThread } from './worker-thread.ts';

/** Those of its messages that answer a question. */
export type ReplyOf<From> = Extract<From, { readonly id: number }>;

/** The thread ended before it answered. */
export interface Gone {
  readonly kind: 'gone';
  readonly why: string;
}

/** One thread; `known` is what its owner keeps of it. */
export interface GroupMember<To, From, Known> {
  readonly index: number;
  readonly known: Known;
  post(message: To): void;
  ask(question: (id: number) => To): Promise<ReplyOf<From> | Gone>;
  /** Ends it where it stands; `why` is told in place of the thread's own reason. */
  terminate(why?: string): Promise<void>;
}

export interface ThreadGroupOptions<To, From, Known> {
  readonly module: URL;
  /** Bounds the young generation of each heap, in MB. */
  readonly youngMb: number;
  /** What the thread is begun with. */
  readonly dataOf: (index: number) => unknown;
  readonly known: () => Known;
  /** What each is told before all else. */
  readonly first: () => Iterable<To>;
  /** Brings one that takes the place of another to what is in force. */
  readonly follow: (member: GroupMember<To, From, Known>) => Promise<void>;
  readonly onMessage: (member: GroupMember<To, From, Known>, message: From) => void;
  /** Called once for each; `replacedInMs` is undefined where nothing takes its place. */
  readonly onEnd: (member: GroupMember<To, From, Known>, why: string, replacedInMs: number | undefined) => void;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly startThread: StartThread;
}

/** One that dies sooner is not started again at once. */
const SHORT_LIFE_MS = 10_000;
const RESTART = { initial: 500, max: 30_000 };

export class ThreadGroup<To, From extends { readonly kind: string }, Known> {
  readonly #options: ThreadGroupOptions<To, From, Known>;
  readonly #members = new Map<number, Member<To, From, Known>>();
  readonly #stopping = new AbortController();
  #replaces = false;
  #failures = 0;

  constructor(options: ThreadGroupOptions<To, From, Known>) {
    this.#options = options;
  }

  /** Those that live, by their index. */
  get members(): readonly GroupMember<To, From, Known>[] {
    return [...this.#members.values()].toSorted((a, b) => a.index - b.index);
  }

  /** Aborted by `stop`. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** The thread of that index, started where there is none. */
  at(index: number): GroupMember<To, From, Known> {
    return this.#members.get(index) ?? this.#start(index);
  }

  /** From now on one that ends is replaced; until then, who asked it for something is told, and decides. */
  replaceEnded(): void {
    this.#replaces = true;
  }

  broadcast(message: To): void {
    for (const member of this.#members.values()) member.post(message);
  }

  /** Resolves once all have answered, or after `ms`. */
  async askAll(question: (id: number) => To, ms: number): Promise<void> {
    await this.#within(
      ms,
      [...this.#members.values()].map((member) => member.ask(question)),
    );
  }

  /** Tells all to end, and ends those where they stand that have not after `ms`. */
  async stop(message: To, ms: number): Promise<void> {
    this.#stopping.abort();
    this.broadcast(message);
    await this.#within(
      ms,
      [...this.#members.values()].map(({ ended }) => ended),
    );
    await Promise.all([...this.#members.values()].map((member) => member.terminate()));
  }

  #start(index: number): Member<To, From, Known> {
    const { module, youngMb, dataOf, known, first, onMessage, clock, startThread } = this.#options;
    const thread = startThread({
      module,
      data: dataOf(index),
      youngMb,
      onMessage: (data) => {
        const message = data as From;
        onMessage(member, message);
        if (isReply(message)) member.answered(message);
      },
      onEnd: (why) => this.#ended(member, why),
    });
    const member = new Member<To, From, Known>(index, known(), thread, clock.monotonic());
    this.#members.set(index, member);
    for (const message of first()) member.post(message);
    return member;
  }

  #ended(member: Member<To, From, Known>, why: string | undefined): void {
    const { clock, random, onEnd } = this.#options;
    const reason = member.why ?? why ?? 'it stopped by itself';
    this.#members.delete(member.index);
    const delay = this.#replaces && !this.#stopping.signal.aborted ? this.#delay(member, random()) : undefined;
    onEnd(member, reason, delay);
    member.gone(reason);
    if (delay === undefined) return;
    void clock.sleep(delay, this.#stopping.signal).then(() => this.#replace(member.index));
  }

  /** The first time at once. */
  #delay({ startedAt }: Member<To, From, Known>, random: number): number {
    this.#failures = this.#options.clock.monotonic() - startedAt < SHORT_LIFE_MS ? this.#failures + 1 : 1;
    return this.#failures < 2 ? 0 : backoffDelay(RESTART, this.#failures - 1, random);
  }

  async #replace(index: number): Promise<void> {
    if (this.#stopping.signal.aborted || this.#members.has(index)) return;
    await this.#options.follow(this.#start(index));
  }

  async #within(ms: number, all: readonly Promise<unknown>[]): Promise<void> {
    const enough = new AbortController();
    await Promise.race([Promise.all(all), this.#options.clock.sleep(ms, enough.signal)]);
    enough.abort();
  }
}

class Member<To, From, Known> implements GroupMember<To, From, Known> {
  readonly index: number;
  readonly known: Known;
  readonly startedAt: number;
  readonly ended: Promise<void>;
  readonly #thread: WorkerThread;
  readonly #asked = new Map<number, (reply: ReplyOf<From> | Gone) => void>();
  readonly #onEnded: () => void;
  #nextId = 1;
  #why: string | undefined;
  #gone: Gone | undefined;

  constructor(index: number, known: Known, thread: WorkerThread, startedAt: number) {
    this.index = index;
    this.known = known;
    this.startedAt = startedAt;
    this.#thread = thread;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#onEnded = resolve;
  }

  get why(): string | undefined {
    return this.#why;
  }

  post(message: To): void {
    this.#thread.post(message);
  }

  ask(question: (id: number) => To): Promise<ReplyOf<From> | Gone> {
    if (this.#gone) return Promise.resolve(this.#gone);
    const id = this.#nextId++;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.post(question(id));
    });
  }

  async terminate(why?: string): Promise<void> {
    this.#why ??= why;
    await this.#thread.terminate();
  }

  answered(reply: ReplyOf<From>): void {
    this.#asked.get(reply.id)?.(reply);
    this.#asked.delete(reply.id);
  }

  gone(why: string): void {
    this.#gone = { kind: 'gone', why };
    for (const reply of this.#asked.values()) reply(this.#gone);
    this.#asked.clear();
    this.#onEnded();
  }
}

function isReply<From extends { readonly kind: string }>(message: From): message is ReplyOf<From> {
  return 'id' in message;
}
