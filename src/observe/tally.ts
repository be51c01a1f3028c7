// Metrics of a worker thread: counted in plain numbers, and handed to the main thread, which shows them. It takes a fraction of the memory
// of prom-client, once for each thread.

import { BucketCounts, labelKey } from './bucket-counts.ts';
import type { CollectedOptions, Count, Labels, Level, Meters, Sample } from './metrics.ts';

/** All samples of one metric. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: CollectedOptions['type'];
  readonly addsUp: boolean;
  readonly samples: readonly Sample[];
}

export interface Tally extends Meters {
  families(): Promise<readonly Family[]>;
}

class Values implements Count, Level {
  readonly #name: string;
  readonly #samples = new Map<string, { readonly labels: Labels; value: number }>();

  constructor(name: string) {
    this.#name = name;
  }

  add(amount = 1, labels: Labels = {}): void {
    this.#at(labels).value += amount;
  }

  set(value: number, labels: Labels = {}): void {
    this.#at(labels).value = value;
  }

  *samples(): Iterable<Sample> {
    for (const { labels, value } of this.#samples.values()) yield { name: this.#name, labels, value };
  }

  #at(labels: Labels): { value: number } {
    const key = labelKey(labels);
    let sample = this.#samples.get(key);
    if (!sample) this.#samples.set(key, (sample = { labels, value: 0 }));
    return sample;
  }
}

export function createTally(): Tally {
  const families = new Map<string, CollectedOptions>();
  const made = new Map<string, Values | BucketCounts>();
  const settlers = new Map<string, () => void | Promise<void>>();
  const values = (name: string, help: string, type: 'counter' | 'gauge'): Values => {
    const known = made.get(name);
    if (known instanceof Values) return known;
    const fresh = new Values(name);
    made.set(name, fresh);
    families.set(name, { name, help, type, samples: () => fresh.samples() });
    return fresh;
  };
  return {
    counter: ({ name, help }) => values(name, help, 'counter'),
    gauge: ({ name, help }) => values(name, help, 'gauge'),
    histogram: ({ name, help, buckets }) => {
      const known = made.get(name);
      if (known instanceof BucketCounts) return known;
      const fresh = new BucketCounts(name, buckets);
      made.set(name, fresh);
      families.set(name, { name, help, type: 'histogram', samples: () => fresh.samples() });
      return fresh;
    },
    collected: (options) => void families.set(options.name, options),
    beforeText: (owner, settle) => void settlers.set(owner, settle),
    families: async () => {
      await Promise.all([...settlers.values()].map(async (settle) => settle()));
      return [...families.values()].map(({ name, help, type, addsUp, samples }) => ({
        name,
        help,
        type,
        addsUp: addsUp ?? type !== 'gauge',
        samples: [...samples()],
      }));
    },
  };
}

/** The families of several tallies as one: counts are summed, levels are summed or the highest stands. */
export function sumOf(tallies: Iterable<readonly Family[]>): readonly Family[] {
  const sums = new Map<string, { readonly family: Family; readonly samples: Map<string, { sample: Sample }> }>();
  for (const families of tallies) {
    for (const family of families) {
      let sum = sums.get(family.name);
      if (!sum) sums.set(family.name, (sum = { family, samples: new Map() }));
      for (const sample of family.samples) {
        const key = `${sample.name}\n${labelKey(sample.labels)}`;
        const known = sum.samples.get(key);
        if (!known) sum.samples.set(key, { sample });
        else known.sample = { ...sample, value: together(known.sample.value, sample.value, family.addsUp) };
      }
    }
  }
  return [...sums.values()].map(({ family, samples }) => ({
    ...family,
    samples: [...samples.values()].map(({ sample }) => sample),
  }));
}

function together(a: number, b: number, addsUp: boolean): number {
  return addsUp ? a + b : Math.max(a, b);
}
