// The metrics of several threads shown as those of one program: each sends its tally, and what one has counted stays when it is gone.

import type { Meters } from './metrics.ts';
import { sumOf, type Family } from './tally.ts';

export class ThreadMetrics {
  readonly #metrics: Meters;
  readonly #shown = new Set<string>();
  #past: readonly Family[] = [];
  #sums = new Map<string, Family>();

  constructor(metrics: Meters) {
    this.#metrics = metrics;
  }

  /** The last tally of a thread that is gone: its levels go with it. */
  keep(families: readonly Family[]): void {
    this.#past = sumOf([this.#past, families.filter(({ type }) => type !== 'gauge')]);
  }

  /** The newest tally of each that lives. Metrics that were not seen before are shown from now on. */
  show(tallies: readonly (readonly Family[])[]): void {
    this.#sums = new Map(sumOf([this.#past, ...tallies]).map((sum) => [sum.name, sum]));
    for (const { name, help, type } of this.#sums.values()) {
      if (this.#shown.has(name)) continue;
      this.#shown.add(name);
      this.#metrics.collected({ name, help, type, samples: () => this.#sums.get(name)?.samples ?? [] });
    }
  }
}
