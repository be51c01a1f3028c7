import type { Deadlines, Expiring } from './deadlines.ts';

/** `limit-rate`: bytes a millisecond for the body of an answer, after the first `free` bytes. */
export interface Rate {
  readonly perMs: number;
  readonly free: number;
}

/** Holds the body of one answer back to a rate. Looked at in ticks: over seconds it is kept, within one it is not even. */
export class Throttle implements Expiring {
  deadline = Number.POSITIVE_INFINITY;
  readonly #rate: Rate;
  readonly #deadlines: Deadlines;
  readonly #startedAt: number;
  readonly #resume: () => void;

  /** `now` is when the body begins, in monotonic milliseconds: the last tick may be long ago. */
  constructor(rate: Rate, deadlines: Deadlines, now: number, resume: () => void) {
    this.#rate = rate;
    this.#deadlines = deadlines;
    this.#startedAt = now;
    this.#resume = resume;
    deadlines.add(this);
  }

  /** No more may be sent until `resume` is called. */
  get holds(): boolean {
    return this.deadline !== Number.POSITIVE_INFINITY;
  }

  /** So many bytes of the body were sent. */
  sent(bytes: number): void {
    const at = this.#startedAt + Math.max(0, bytes - this.#rate.free) / this.#rate.perMs;
    if (at > this.#deadlines.now) this.deadline = at;
  }

  expire(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    this.#resume();
  }

  stop(): void {
    this.#deadlines.remove(this);
  }
}
