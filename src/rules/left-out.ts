// The Services that the kernel does not take: named, left out, and tried again when they have changed and from time to time.

import type { ObjectKey } from '../model/records.ts';
import type { ResolvedService, Snapshot } from '../model/snapshot.ts';
import type { Rejection } from './backend.ts';

/** With more Services refused than this it is not about them. */
const MOST = 20;
/** What refused a Service may be mended without a change of it. */
const FORGIVE_AFTER_MS = 30_000;

interface Entry {
  /** As it was refused. */
  readonly resolved: ResolvedService | undefined;
  /** By the monotonic clock. */
  readonly at: number;
  readonly rejection: Rejection;
}

export class LeftOut {
  readonly #entries = new Map<ObjectKey, Entry>();

  /** For a planner. */
  get services(): ReadonlySet<ObjectKey> {
    return new Set(this.#entries.keys());
  }

  /** For the outcome of a sync; undefined when there are none. */
  get rejections(): readonly Rejection[] | undefined {
    return this.#entries.size === 0 ? undefined : [...this.#entries.values()].map(({ rejection }) => rejection);
  }

  /** Leaves these out, too. False when there are none, or too many: then it is not about Services. `now` is monotonic. */
  add(
    services: readonly ObjectKey[],
    { families, reason }: Omit<Rejection, 'service'>,
    snapshot: Snapshot,
    now: number,
  ): boolean {
    const fresh = services.filter((service) => !this.#entries.has(service));
    if (fresh.length === 0 || this.#entries.size + fresh.length > MOST) return false;
    for (const service of fresh) {
      const resolved = snapshot.services.get(service);
      this.#entries.set(service, { resolved, at: now, rejection: { service, families, reason } });
    }
    return true;
  }

  /** Lets those count again that have changed since, or have been out for a while. Says whether there were any. */
  forgive(snapshot: Snapshot, now: number): boolean {
    let any = false;
    for (const [key, { resolved, at }] of this.#entries) {
      if (snapshot.services.get(key) === resolved && now - at < FORGIVE_AFTER_MS) continue;
      this.#entries.delete(key);
      any = true;
    }
    return any;
  }
}
