// Real servers that get no new connections any more, and go when their last one has ended (graceful termination). Their virtual servers are asked soon
// and then less and less often, each by its own age: what has drained for an hour costs no more because something else begins to.

import type { RealKey, ServerKey } from './names.ts';
import type { Connections } from './parse.ts';
import { removeReal } from './render.ts';

const NONE: ReadonlySet<RealKey> = new Set();

/** Until real servers without new connections are looked at for the first time, and at most from one look to the next. */
const FIRST_MS = 100;
const LONGEST_MS = 10_000;
const GROWTH = 3;

interface Draining {
  readonly reals: Set<RealKey>;
  /** When it was asked last, or began. By the monotonic clock. */
  asked: number;
  /** From then until it is asked again. */
  pause: number;
}

export class Drains {
  readonly #servers = new Map<ServerKey, Draining>();

  of(key: ServerKey): ReadonlySet<RealKey> {
    return this.#servers.get(key)?.reals ?? NONE;
  }

  get size(): number {
    let count = 0;
    for (const { reals } of this.#servers.values()) count += reals.size;
    return count;
  }

  /** For `fairlead state`. */
  list(): readonly string[] {
    return [...this.#servers].flatMap(([key, { reals }]) => [...reals].map((real) => `${key} → ${real}`));
  }

  add(key: ServerKey, reals: readonly RealKey[], now: number): void {
    if (reals.length === 0) return;
    const all = new Set([...this.of(key), ...reals]);
    this.#servers.set(key, { reals: all, asked: now, pause: FIRST_MS });
  }

  delete(key: ServerKey, reals: Iterable<RealKey>): void {
    const known = this.#servers.get(key)?.reals;
    for (const real of reals) known?.delete(real);
    if (known?.size === 0) this.#servers.delete(key);
  }

  /** The virtual server is gone, and all of its real servers with it. */
  drop(key: ServerKey): void {
    this.#servers.delete(key);
  }

  clear(): void {
    this.#servers.clear();
  }

  /** When one is to be asked next; undefined when none drains. */
  next(): number | undefined {
    let next: number | undefined;
    for (const { asked, pause } of this.#servers.values()) next = Math.min(next ?? Infinity, asked + pause);
    return next;
  }

  /** The virtual servers to ask now: those that are due, and those that would be soon, so that one look does for many. They count as asked. */
  due(now: number): readonly ServerKey[] {
    const keys: ServerKey[] = [];
    for (const [key, draining] of this.#servers) {
      if (now - draining.asked < draining.pause / 2) continue;
      draining.asked = now;
      draining.pause = Math.min(LONGEST_MS, draining.pause * GROWTH);
      keys.push(key);
    }
    return keys;
  }

  /** The lines that remove those of `keys` that have no connection; they are forgotten here. `found`: their virtual servers, as the kernel shows them. */
  ended(keys: readonly ServerKey[], found: Connections): string {
    let text = '';
    for (const key of keys) {
      const gone: RealKey[] = [];
      for (const real of this.of(key)) {
        const state = found.get(key)?.get(real);
        if (state && (state.active > 0 || state.inactive > 0 || state.weight > 0)) continue;
        if (state) text += removeReal(key, real);
        gone.push(real);
      }
      this.delete(key, gone);
    }
    return text;
  }
}
