import type { Verdict } from './http/forward.ts';

/** Verdicts of one process that are kept at most. */
const MAX_ENTRIES = 10_000;

/** auth-cache-key: verdicts of auth services, by the key that an Ingress makes of a request. Times in milliseconds. */
export class VerdictCache {
  readonly #entries = new Map<string, { readonly verdict: Verdict; readonly until: number }>();

  get(key: string, now: number): Verdict | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (now < entry.until) return entry.verdict;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, verdict: Verdict, until: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { verdict, until });
    if (this.#entries.size <= MAX_ENTRIES) return;
    const oldest = this.#entries.keys().next();
    if (!oldest.done) this.#entries.delete(oldest.value);
  }
}
