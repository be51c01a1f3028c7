// How much memory the children of this process took at most, by asking the kernel every few milliseconds: a child that has
// ended can no longer be asked.

import { readFileSync } from 'node:fs';

const INTERVAL_MS = 5;

export class PeakMemory {
  readonly #timer: NodeJS.Timeout;
  #peakMb = 0;

  constructor() {
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS);
  }

  /** Ends the watch and returns the peak of the largest child, in MiB. */
  stop(): number {
    clearInterval(this.#timer);
    return this.#peakMb;
  }

  #look(): void {
    for (const pid of read('/proc/self/task/' + process.pid + '/children').split(' ')) {
      const match = pid === '' ? null : /VmHWM:\s+([0-9]+) kB/.exec(read(`/proc/${pid}/status`));
      if (match) this.#peakMb = Math.max(this.#peakMb, Number(match[1]) / 1024);
    }
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
