// Slow checks of passwords, on a thread of their own: started with the first of them, so that requests of others go on meanwhile.

import { startThread, type StartThread, type WorkerThread } from '../system/worker-thread.ts';

export interface PasswordQuestion {
  readonly id: number;
  readonly password: string;
  readonly hash: string;
}

export interface PasswordAnswer {
  readonly id: number;
  readonly fits: boolean;
}

/** What became of a check: `failed` when the thread is gone. */
export type PasswordVerdict = 'fits' | 'differs' | 'failed';

const MODULE = new URL('./password-worker.ts', import.meta.url);
const YOUNG_MB = 4;

export class PasswordThread {
  readonly #start: StartThread;
  #thread: WorkerThread | undefined;
  readonly #asked = new Map<number, (verdict: PasswordVerdict) => void>();
  #nextId = 1;
  #stopped = false;

  constructor(start: StartThread = startThread) {
    this.#start = start;
  }

  check(password: string, hash: string): Promise<PasswordVerdict> {
    if (this.#stopped) return Promise.resolve('failed');
    this.#thread ??= this.#open();
    const id = this.#nextId++;
    const verdict = new Promise<PasswordVerdict>((resolve) => this.#asked.set(id, resolve));
    this.#thread.post({ id, password, hash } satisfies PasswordQuestion);
    return verdict;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#thread?.terminate();
  }

  #open(): WorkerThread {
    return this.#start({
      module: MODULE,
      data: undefined,
      youngMb: YOUNG_MB,
      onMessage: (message) => {
        const { id, fits } = message as PasswordAnswer;
        this.#asked.get(id)?.(fits ? 'fits' : 'differs');
        this.#asked.delete(id);
      },
      onEnd: () => {
        // The next check starts another one.
        this.#thread = undefined;
        for (const tell of this.#asked.values()) tell('failed');
        this.#asked.clear();
      },
    });
  }
}
