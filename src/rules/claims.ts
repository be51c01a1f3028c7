// Two Services can claim one address, protocol and port (external IPs and load balancer addresses are not exclusive). The
// first by name has it; the next takes over when that goes.

import type { ObjectKey } from '../model/records.ts';

/** `172.30.0.1 TCP 80`, or `4 TCP 30001` for a NodePort: what only one Service can have. */
export type FrontendKey = string;

export class Claims {
  /** Nearly always one claims a place. */
  readonly #claims = new Map<FrontendKey, ObjectKey | readonly ObjectKey[]>();

  holds(key: ObjectKey, frontend: FrontendKey): boolean {
    const claims = this.#claims.get(frontend);
    return typeof claims === 'string' ? claims === key : claims?.[0] === key;
  }

  /** Replaces what the Service claims. Whoever claims one of these places too is added to `affected`. */
  update(
    key: ObjectKey,
    before: ReadonlySet<FrontendKey>,
    after: ReadonlySet<FrontendKey>,
    affected: Set<ObjectKey>,
  ): void {
    for (const frontend of before) if (!after.has(frontend)) this.#release(frontend, key, affected);
    for (const frontend of after) if (!before.has(frontend)) this.#claim(frontend, key, affected);
  }

  #claim(frontend: FrontendKey, key: ObjectKey, affected: Set<ObjectKey>): void {
    const claims = this.#claims.get(frontend);
    if (claims === undefined) {
      this.#claims.set(frontend, key);
      return;
    }
    const others = typeof claims === 'string' ? [claims] : claims;
    if (others.includes(key)) return;
    this.#claims.set(frontend, [...others, key].sort());
    for (const other of others) affected.add(other);
  }

  #release(frontend: FrontendKey, key: ObjectKey, affected: Set<ObjectKey>): void {
    const claims = this.#claims.get(frontend);
    const rest = typeof claims === 'string' ? [] : (claims ?? []).filter((other) => other !== key);
    const [first] = rest;
    if (first === undefined) this.#claims.delete(frontend);
    else this.#claims.set(frontend, rest.length === 1 ? first : rest);
    for (const other of rest) affected.add(other);
  }
}
