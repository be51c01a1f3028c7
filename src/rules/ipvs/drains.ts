// Real servers that get no new connections any more, and go when their last one has ended (graceful termination).

import type { RealKey, ServerKey } from './names.ts';
import type { Connections } from './parse.ts';
import { removeReal } from './render.ts';

const NONE: ReadonlySet<RealKey> = new Set();

export class Drains {
  readonly #reals = new Map<ServerKey, Set<RealKey>>();

  of(key: ServerKey): ReadonlySet<RealKey> {
    return this.#reals.get(key) ?? NONE;
  }

  get size(): number {
    let count = 0;
    for (const reals of this.#reals.values()) count += reals.size;
    return count;
  }

  /** The virtual servers that they belong to. */
  get servers(): ReadonlyMap<ServerKey, unknown> {
    return this.#reals;
  }

  /** For `fairlead state`. */
  list(): readonly string[] {
    return [...this.#reals].flatMap(([key, reals]) => [...reals].map((real) => `${key} → ${real}`));
  }

  add(key: ServerKey, reals: Iterable<RealKey>): void {
    for (const real of reals) {
      const known = this.#reals.get(key);
      if (known) known.add(real);
      else this.#reals.set(key, new Set([real]));
    }
  }

  delete(key: ServerKey, reals: Iterable<RealKey>): void {
    const known = this.#reals.get(key);
    for (const real of reals) known?.delete(real);
    if (known?.size === 0) this.#reals.delete(key);
  }

  /** The virtual server is gone, and all of its real servers with it. */
  drop(key: ServerKey): void {
    this.#reals.delete(key);
  }

  clear(): void {
    this.#reals.clear();
  }

  /** The lines that remove those without a connection; they are forgotten here. `found`: their virtual servers, as the kernel shows them. */
  ended(found: Connections): string {
    let text = '';
    for (const [key, reals] of this.#reals) {
      const gone: RealKey[] = [];
      for (const real of reals) {
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
