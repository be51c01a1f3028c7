// Counts behind limit-rps, limit-rpm and limit-connections: they outlive every change of configuration.

/** Clients of one process that are remembered; nginx' zone of 5 MB holds about as many. */
const MAX_ENTRIES = 65_536;

interface Bucket {
  /** Requests above the rate, as nginx' limit_req counts them. */
  excess: number;
  at: number;
}

export class LimitState {
  readonly #buckets = new Map<string, Bucket>();
  readonly #open = new Map<string, number>();

  /** A leaky bucket without delay: one request of `key` at `now` (milliseconds). False when it is one too many. */
  take(key: string, perMs: number, burst: number, now: number): boolean {
    const before = this.#buckets.get(key);
    const excess = before ? Math.max(0, before.excess - (now - before.at) * perMs + 1) : 0;
    if (excess > burst) return false;
    // The newest at the end, so that what was not used for longest is forgotten first.
    this.#buckets.delete(key);
    this.#buckets.set(key, { excess, at: now });
    if (this.#buckets.size > MAX_ENTRIES) {
      const oldest = this.#buckets.keys().next();
      if (!oldest.done) this.#buckets.delete(oldest.value);
    }
    return true;
  }

  openOf(key: string): number {
    return this.#open.get(key) ?? 0;
  }

  /** One request more under way; the function that is returned takes it away again, once. */
  enter(key: string): () => void {
    this.#open.set(key, this.openOf(key) + 1);
    let entered = true;
    return () => {
      if (!entered) return;
      entered = false;
      const left = this.openOf(key) - 1;
      if (left > 0) this.#open.set(key, left);
      else this.#open.delete(key);
    };
  }
}
