// Looks at the kernel's state from time to time, for what tells nobody when somebody else changes it.

import type { Clock, Timer } from '../system/clock.ts';

const INTERVAL_MS = 1500;
/** A look at a large table takes time (the legacy tool reads all of it); it gets at most a twentieth of one CPU, unless repair would take over 5 s. */
const LONGEST_INTERVAL_MS = 2500;
const SHARE = 20;

/** One look at a time, the next one the later the longer this one took. */
export class RegularLook {
  readonly #clock: Clock;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `look` from time to time until `stop`. */
  start(look: () => Promise<void>): void {
    this.#schedule(look, INTERVAL_MS);
  }

  /** Resolves when no look runs any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  #schedule(look: () => Promise<void>, delay: number): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.after(delay, () => {
      const start = this.#clock.monotonic();
      this.#running = look().finally(() => {
        const pause = (this.#clock.monotonic() - start) * SHARE;
        this.#schedule(look, Math.min(LONGEST_INTERVAL_MS, Math.max(INTERVAL_MS, pause)));
      });
    });
  }
}
