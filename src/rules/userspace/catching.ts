// Service addresses led to the relays by the kernel, from the first sync to the end: whether it can be had, what a look from time to time
// finds missing, and that another mode which has taken over keeps what it has.

import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { RegularLook } from '../regular-look.ts';
import type { CaughtAddress } from './catch-rules.ts';
import { Catcher, type CatchOutcome } from './catcher.ts';

export interface CatchingOptions {
  readonly exec: Exec;
  readonly clock: Clock;
  readonly log: Logger;
}

export class Catching {
  readonly #log: Logger;
  readonly #catcher: Catcher;
  readonly #look: RegularLook;
  #state: 'not tried' | 'possible' | 'impossible' = 'not tried';
  #isTakenOver = false;
  #writes = 0;

  constructor({ exec, clock, log }: CatchingOptions) {
    this.#log = log;
    this.#catcher = new Catcher(exec);
    this.#look = new RegularLook(clock);
  }

  /** Whether the kernel can be asked to lead addresses here; false until it was tried. */
  get isPossible(): boolean {
    return this.#state === 'possible';
  }

  /** Another mode carries what was led here. */
  get isTakenOver(): boolean {
    return this.#isTakenOver;
  }

  /** Tries whether it can be had, once; a notice says when it cannot. */
  async prepare(): Promise<void> {
    if (this.#state !== 'not tried') return;
    const found = await this.#catcher.prepare();
    this.#state = found.kind === 'with' ? 'possible' : 'impossible';
    if (found.kind === 'with') return;
    this.#log.warn(
      `Service addresses that are not this machine's cannot be led to the relays (${found.reason}); run as root, or give --userspace-catch-addresses=false`,
    );
  }

  /** Leads these and no others here; nothing while another mode carries them. */
  async write(caught: readonly CaughtAddress[]): Promise<CatchOutcome> {
    if (!this.isPossible || this.#isTakenOver) return { kind: 'unchanged' };
    this.#writes++;
    const outcome = await this.#catcher.write(caught);
    if (outcome.kind !== 'failed') return outcome;
    return { kind: 'failed', reason: `Service addresses could not be led to the relays: ${outcome.reason}` };
  }

  /** Calls `onDrift` when somebody else has taken away what was written; the next `write` writes all of it. */
  watch(onDrift: (what: string) => void): void {
    this.#look.start(async () => {
      if (!this.isPossible) return;
      const writes = this.#writes;
      const state = await this.#catcher.look();
      // A write that came meanwhile has its own view of things.
      if (writes !== this.#writes) return;
      if (state === 'taken over' && !this.#isTakenOver) {
        this.#log.info('another mode carries the Services now: no more connections are led to the relays');
      }
      this.#isTakenOver = state === 'taken over';
      if (state !== 'missing') return;
      this.#catcher.forget();
      onDrift('what leads Service addresses to the relays is gone');
    });
  }

  remove(): Promise<CleanupOutcome> {
    return this.#catcher.remove();
  }

  /** Resolves when no look runs any more. */
  stop(): Promise<void> {
    return this.#look.stop();
  }
}
