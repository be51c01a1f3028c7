// Keeps a plane that could not start (a port in use, no privilege) from taking the others down: it is tried again until it starts.

import { backoffDelay } from '../lib/backoff.ts';
import type { Plane } from '../model/plane.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Clock } from '../system/clock.ts';
import { messageOf } from '../lib/message-of.ts';
import type { NamedObjects } from './source-choice.ts';

export interface PlaneStarter {
  readonly name: Plane['name'];
  readonly start: () => Promise<Plane>;
  /**
   * The Secrets and ConfigMaps that it needs for a Snapshot. Of these kinds only what a plane names is read, and a plane that names some gets
   * its first Snapshot when all of them have been read.
   */
  readonly namedObjects?: (snapshot: Snapshot) => NamedObjects;
}

export interface PlaneKeeperOptions {
  readonly starter: PlaneStarter;
  readonly onStart: (plane: Plane) => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

const RETRY = { initial: 1_000, max: 15_000 };

export class PlaneKeeper {
  readonly name: Plane['name'];
  readonly #options: PlaneKeeperOptions;
  readonly #stopping = new AbortController();
  #plane: Plane | undefined;
  #problem: string | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: PlaneKeeperOptions) {
    this.#options = options;
    this.name = options.starter.name;
  }

  get ready(): boolean {
    return this.#plane?.ready ?? false;
  }

  state(): unknown {
    return this.#plane ? this.#plane.state() : { problem: this.#problem ?? 'not started' };
  }

  /** Tries once; when that fails, says so and goes on trying. Resolves after the first try, and never rejects. */
  async start(): Promise<void> {
    if (await this.#try()) return;
    this.#running = this.#retry();
  }

  /** Starts, or rejects with what keeps it from that. */
  async startOnce(): Promise<void> {
    this.#began(await this.#options.starter.start());
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#plane?.stop();
  }

  async #try(): Promise<boolean> {
    const { starter, log } = this.#options;
    try {
      this.#began(await starter.start());
    } catch (error) {
      const problem = messageOf(error);
      if (problem !== this.#problem) log.error(`${problem} The rest works; trying again.`);
      this.#problem = problem;
      return false;
    }
    if (this.#problem !== undefined) log.info('started after all', { was: this.#problem });
    this.#problem = undefined;
    return true;
  }

  #began(plane: Plane): void {
    this.#plane = plane;
    this.#options.onStart(plane);
  }

  async #retry(): Promise<void> {
    const { clock, random } = this.#options;
    const { signal } = this.#stopping;
    for (let failures = 1; !signal.aborted; failures++) {
      await clock.sleep(backoffDelay(RETRY, failures, random()), signal);
      if (signal.aborted || (await this.#try())) return;
    }
  }
}
