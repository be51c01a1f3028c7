// How much memory the children of this process took at most, by asking the kernel every few milliseconds: a child that has
// ended can no longer be asked.

import { readFileSync } from 'node:fs';
import { childrenOf } from '../support/cpu-time.ts';
import { SLOWNESS } from '../support/slowness.ts';

/** On an emulated processor a look takes long: it must not use what it measures. */
const INTERVAL_MS = 5 * SLOWNESS ** 2;

export class PeakMemory {
  readonly #timer: NodeJS.Timeout;
  #peakMb = 0;

  constructor() {
    this.#timer = setInterval(() => this.#look(process.pid), INTERVAL_MS);
  }

  /** Ends the watch and returns the peak of the largest child, or child of a child, in MiB. */
  stop(): number {
    clearInterval(this.#timer);
    return this.#peakMb;
  }

  #look(parent: number): void {
    for (const pid of childrenOf(parent)) {
      this.#peakMb = Math.max(this.#peakMb, peakMbOf(pid));
      this.#look(pid);
    }
  }
}

/** The most that the process has held at once, in MiB; 0 when it is gone. */
export function peakMbOf(pid: number): number {
  return statusMb(pid, 'VmHWM');
}

/** What the process holds now, in MiB; 0 when it is gone. */
export function residentMbOf(pid: number): number {
  return statusMb(pid, 'VmRSS');
}

function statusMb(pid: number, field: string): number {
  return Number(new RegExp(`^${field}:\\s+([0-9]+) kB`, 'm').exec(read(`/proc/${pid}/status`))?.[1] ?? 0) / 1024;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
