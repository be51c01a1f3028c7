// A histogram that counts in plain numbers, and takes what was observed many times in one step: prom-client's own takes one at a time.

import type { Distribution, Labels, Sample } from './metrics.ts';

interface Series {
  readonly labels: Labels;
  /** One for each bucket, and one for what is above them all. */
  readonly counts: number[];
  sum: number;
  total: number;
}

export class BucketCounts implements Distribution {
  readonly #name: string;
  readonly #bounds: readonly number[];
  readonly #series = new Map<string, Series>();
  /** Who observes often uses the same object for the same labels. */
  readonly #known = new WeakMap<Labels, Series>();

  /** `bounds` go up. */
  constructor(name: string, bounds: readonly number[]) {
    this.#name = name;
    this.#bounds = bounds;
  }

  observe(value: number, labels: Labels = {}, times = 1): void {
    const series = this.#known.get(labels) ?? this.#of(labels);
    let bucket = 0;
    while (bucket < this.#bounds.length && value > (this.#bounds[bucket] ?? Infinity)) bucket++;
    series.counts[bucket] = (series.counts[bucket] ?? 0) + times;
    series.sum += value * times;
    series.total += times;
  }

  #of(labels: Labels): Series {
    const key = labelKey(labels);
    let series = this.#series.get(key);
    if (!series) {
      series = { labels, counts: Array.from({ length: this.#bounds.length + 1 }, () => 0), sum: 0, total: 0 };
      this.#series.set(key, series);
    }
    this.#known.set(labels, series);
    return series;
  }

  /** As Prometheus has them: buckets with all that is below them, sum and count. */
  *samples(): Iterable<Sample> {
    for (const { labels, counts, sum, total } of this.#series.values()) {
      let below = 0;
      for (const [i, bound] of this.#bounds.entries()) {
        below += counts[i] ?? 0;
        yield { name: `${this.#name}_bucket`, labels: { le: String(bound), ...labels }, value: below };
      }
      yield { name: `${this.#name}_bucket`, labels: { le: '+Inf', ...labels }, value: total };
      yield { name: `${this.#name}_sum`, labels, value: sum };
      yield { name: `${this.#name}_count`, labels, value: total };
    }
  }
}

/** The same for the same labels and values, in whatever order. */
export function labelKey(labels: Labels): string {
  return Object.keys(labels)
    .sort()
    .map((name) => `${name}=${labels[name]}`)
    .join('\n');
}
