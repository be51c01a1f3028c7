// Secrets and ConfigMaps are read only where a plane names them: the source is told which, and the first Snapshot that such a plane gets waits
// until they are there.

import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Clock } from '../system/clock.ts';
import type { NamedObjects, RunningSource } from './source-choice.ts';

export interface NamedReadingOptions {
  /** What each plane names. */
  readonly namers: readonly ((snapshot: Snapshot) => NamedObjects)[];
  /** Undefined until it reads. */
  readonly source: () => RunningSource | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long the first Snapshot waits for what it names. */
const PATIENCE_MS = 10_000;

export class NamedReading {
  readonly #options: NamedReadingOptions;
  readonly #followed = { secrets: '', configMaps: '' };
  #named: readonly NamedObjects[] = [];
  #stopped = false;

  constructor(options: NamedReadingOptions) {
    this.#options = options;
  }

  /** Has the source read what this Snapshot names, and nothing else of these kinds. */
  follow(snapshot: Snapshot): void {
    const source = this.#options.source();
    if (!source) return;
    const named = this.#options.namers.map((namer) => namer(snapshot));
    if (named.length === this.#named.length && named.every((objects, i) => objects === this.#named[i])) return;
    this.#named = named;
    for (const kind of ['secrets', 'configMaps'] as const) {
      const keys = new Set(named.flatMap((objects) => [...objects[kind]]));
      const text = [...keys].sort().join(' ');
      if (text === this.#followed[kind]) continue;
      this.#followed[kind] = text;
      source.watchNamed(kind, keys);
    }
  }

  /**
   * Resolves once all that is named has been read, or when that takes too long, which the log says: a Secret that is not read yet is not one
   * that is missing, so nothing is said of it, and nothing served without it.
   */
  async complete(): Promise<void> {
    const { clock, log } = this.#options;
    const late = new AbortController();
    const whole = await Promise.race([this.#all(), clock.sleep(PATIENCE_MS, late.signal).then(() => false)]);
    late.abort();
    if (whole || this.#stopped) return;
    log.warn(
      'Secrets and ConfigMaps that objects name could not all be read; what hangs on the rest is served without it',
      {
        seconds: PATIENCE_MS / 1000,
        mend: 'look at what the log says of secrets and configmaps, and at the rights of the account',
      },
    );
  }

  stop(): void {
    this.#stopped = true;
  }

  async #all(): Promise<true> {
    const { clock, source } = this.#options;
    const now = (): string => `${this.#followed.secrets} ${this.#followed.configMaps}`;
    // What is read may name more: a ConfigMap names others.
    for (let read = ''; read !== now();) {
      read = now();
      await source()?.namedRead();
      await clock.sleep(0);
    }
    return true;
  }
}
