import type { Clock, Timer } from '../../system/clock.ts';

export interface Expiring {
  /** Monotonic milliseconds; Infinity while nothing is waited for. */
  deadline: number;
  /** Called once the deadline has passed; has to move it. */
  expire(): void;
}

/** One timer for all connections: a deadline is a number in an object, and setting it costs nothing. */
export class Deadlines {
  /** The time of the last tick: what the hot path takes for now. */
  now: number;
  readonly #members = new Set<Expiring>();
  readonly #clock: Clock;
  readonly #tickMs: number;
  #timer: Timer | undefined;

  constructor(clock: Clock, tickMs: number) {
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.now = clock.monotonic();
    this.#arm();
  }

  add(member: Expiring): void {
    this.#members.add(member);
  }

  remove(member: Expiring): void {
    this.#members.delete(member);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#members.clear();
  }

  #arm(): void {
    this.#timer = this.#clock.after(this.#tickMs, () => {
      this.#arm();
      this.now = this.#clock.monotonic();
      for (const member of this.#members) if (member.deadline <= this.now) member.expire();
    });
  }
}
