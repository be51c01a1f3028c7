// Counts behind limit-rps, limit-rpm and limit-connections: one for all threads that carry requests, in memory that they share, as nginx'
// zones are. They outlive every change of configuration, and each thread.

import { randomBytes } from 'node:crypto';

/** Entries of each of the two tables. Memory that was never written to costs nothing. */
const ENTRIES = 65_536;
/** Entries that one key may stand in; the least useful of them makes room. */
const WINDOW = 16;

// The start of the memory, in numbers of 32 bits: the lock, who holds it, how many threads there are, two seeds of the hash.
const LOCK = 0;
const HOLDER = 1;
const THREADS = 2;
const SEED = 3;
const HEADER = 8;

/** How often the lock is tried for before its holder is waited for, and how long it is believed to be at work. */
const SPINS = 100;
const WAIT_MS = 2;
const MAX_WAITS = 50;

/** Memory for `threads` threads, which each open it with their own index. */
export function createLimitMemory(threads: number): SharedArrayBuffer {
  const numbers = HEADER + ENTRIES * 2 + ENTRIES * (3 + threads);
  const memory = new SharedArrayBuffer(numbers * 4 + ENTRIES * 8);
  const words = new Int32Array(memory, 0, HEADER);
  words[THREADS] = threads;
  const seeds = randomBytes(8);
  words[SEED] = seeds.readInt32LE(0);
  words[SEED + 1] = seeds.readInt32LE(4);
  return memory;
}

export class LimitState {
  readonly #words: Int32Array;
  /** Of each bucket: when it will be empty, in milliseconds since 1970. */
  readonly #emptyAt: Float64Array;
  readonly #threads: number;
  readonly #thread: number;
  readonly #buckets: number;
  readonly #counts: number;
  #low = 0;
  #high = 0;

  /** `thread` is the index of the thread that this is for, from 0 on. */
  constructor(memory: SharedArrayBuffer = createLimitMemory(1), thread = 0) {
    this.#words = new Int32Array(memory);
    this.#threads = this.#words[THREADS] ?? 1;
    this.#thread = thread;
    this.#buckets = HEADER;
    this.#counts = HEADER + ENTRIES * 2;
    this.#emptyAt = new Float64Array(memory, memory.byteLength - ENTRIES * 8, ENTRIES);
  }

  /**
   * A leaky bucket without delay, as nginx' limit_req: one request of `key` at `now` (milliseconds since 1970). False when it is one too
   * many: more than `burst` above the rate.
   */
  take(key: string, perMs: number, burst: number, now: number): boolean {
    this.#hash(key);
    return this.#locked(() => {
      const entry = this.#bucketOf();
      const before = this.#emptyAt[entry] ?? 0;
      // What is later than a full bucket can be was written before the clock was set back.
      const known = before - now > (burst + 1) / perMs ? Number.NEGATIVE_INFINITY : before;
      const after = Math.max(now, known + 1 / perMs);
      if ((after - now) * perMs > burst + 1e-6) return false;
      this.#emptyAt[entry] = after;
      return true;
    });
  }

  /** One request more of `key` under way, for `leave` to take away again. Undefined when `limit` of them are. */
  enter(key: string, limit: number): (() => void) | undefined {
    this.#hash(key);
    const at = this.#locked(() => {
      const entry = this.#countOf();
      if (entry === undefined || (this.#words[entry + 2] ?? 0) >= limit) return undefined;
      this.#add(entry, this.#thread, 1);
      return entry;
    });
    if (at === undefined) return undefined;
    let entered = true;
    return () => {
      if (entered) this.#locked(() => this.#add(at, this.#thread, -1));
      entered = false;
    };
  }

  /** A thread is gone, and with it its requests and its hold on the lock. */
  forget(thread: number): void {
    if (Atomics.load(this.#words, HOLDER) === thread + 1 && Atomics.load(this.#words, LOCK) === 1) this.#unlock();
    this.#locked(() => {
      for (let i = 0; i < ENTRIES; i++) {
        const entry = this.#counts + i * (3 + this.#threads);
        this.#add(entry, thread, -(this.#words[entry + 3 + thread] ?? 0));
      }
    });
  }

  #add(entry: number, thread: number, difference: number): void {
    const own = entry + 3 + thread;
    this.#words[own] = (this.#words[own] ?? 0) + difference;
    this.#words[entry + 2] = Math.max(0, (this.#words[entry + 2] ?? 0) + difference);
  }

  /** The bucket of the hashed key; for a new key an unused one, or that which is empty soonest. */
  #bucketOf(): number {
    let best = -1;
    let bestAt = Number.POSITIVE_INFINITY;
    for (let step = 0; step < WINDOW; step++) {
      const i = ((this.#low >>> 0) + step) % ENTRIES;
      const entry = this.#buckets + i * 2;
      if (this.#words[entry] === this.#low && this.#words[entry + 1] === this.#high) return i;
      const at = this.#emptyAt[i] ?? 0;
      if (at < bestAt) [best, bestAt] = [i, at];
    }
    this.#words[this.#buckets + best * 2] = this.#low;
    this.#words[this.#buckets + best * 2 + 1] = this.#high;
    this.#emptyAt[best] = Number.NEGATIVE_INFINITY;
    return best;
  }

  /** The count of the hashed key; undefined where all that it may stand in are in use by others, as in a full zone of nginx. */
  #countOf(): number | undefined {
    let free: number | undefined;
    for (let step = 0; step < WINDOW; step++) {
      const entry = this.#counts + (((this.#low >>> 0) + step) % ENTRIES) * (3 + this.#threads);
      if (this.#words[entry] === this.#low && this.#words[entry + 1] === this.#high) return entry;
      if (this.#words[entry + 2] === 0) free ??= entry;
    }
    if (free === undefined) return undefined;
    this.#words[free] = this.#low;
    this.#words[free + 1] = this.#high;
    return free;
  }

  /** 64 bits of the key in two numbers, seeded, so that nobody can choose addresses that share an entry. */
  #hash(key: string): void {
    let low = (this.#words[SEED] ?? 0) | 0;
    let high = (this.#words[SEED + 1] ?? 0) | 0;
    for (let i = 0; i < key.length; i++) {
      const code = key.charCodeAt(i);
      low = Math.imul(low ^ code, 0x9e3779b1);
      high = Math.imul(high ^ code, 0x5f356495);
    }
    low = Math.imul(low ^ (low >>> 16), 0x85ebca6b) ^ Math.imul(high ^ (high >>> 13), 0xc2b2ae35);
    high = Math.imul(high ^ (high >>> 16), 0x85ebca6b) ^ Math.imul(low ^ (low >>> 13), 0xc2b2ae35);
    this.#low = low;
    // Never the two zeros of an unused entry.
    this.#high = high | 1;
  }

  #locked<T>(work: () => T): T {
    this.#lock();
    try {
      return work();
    } finally {
      this.#unlock();
    }
  }

  #lock(): void {
    for (let spin = 0; spin < SPINS; spin++) if (this.#taken()) return;
    // The holder was put aside by the system. One that does not come back at all has died: its lock is taken over.
    for (let wait = 0; wait < MAX_WAITS; wait++) {
      Atomics.wait(this.#words, LOCK, 1, WAIT_MS);
      if (this.#taken()) return;
    }
    Atomics.store(this.#words, HOLDER, this.#thread + 1);
  }

  #taken(): boolean {
    if (Atomics.compareExchange(this.#words, LOCK, 0, 1) !== 0) return false;
    Atomics.store(this.#words, HOLDER, this.#thread + 1);
    return true;
  }

  #unlock(): void {
    Atomics.store(this.#words, LOCK, 0);
    Atomics.notify(this.#words, LOCK, 1);
  }
}
