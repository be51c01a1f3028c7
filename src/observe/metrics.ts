// Metrics by prom-client, behind the few verbs that the planes need. One registry per process, made by the
// composition root and passed down.

import { Counter, Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import { BucketCounts } from './bucket-counts.ts';

export type Labels = Readonly<Record<string, string>>;

export interface Count {
  add(amount?: number, labels?: Labels): void;
}

export interface Level {
  set(value: number, labels?: Labels): void;
}

export interface Distribution {
  /** `times`: what was seen so often; once by default. */
  observe(value: number, labels?: Labels, times?: number): void;
}

export interface MetricOptions {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

export interface Sample {
  /** The metric's name, or that of a histogram's `_bucket`, `_sum` or `_count`. */
  readonly name: string;
  readonly labels: Labels;
  readonly value: number;
}

export interface CollectedOptions {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Whether levels of several worker threads make one sum; else the highest stands for all. Counts always add up. */
  readonly addsUp?: boolean;
  readonly samples: () => Iterable<Sample>;
}

/** What a part of the program counts with. */
export interface Meters {
  counter(options: MetricOptions): Count;
  gauge(options: MetricOptions): Level;
  histogram(options: MetricOptions & { readonly buckets: readonly number[] }): Distribution;
  /** A metric that its owner counts in its own way and gives when it is asked for: for what is counted on a hot path. */
  collected(options: CollectedOptions): void;
  /** Called before the metrics are given, for an owner that counts in batches or elsewhere. The last one of a name is called. */
  beforeText(owner: string, settle: () => void | Promise<void>): void;
}

export interface Metrics extends Meters {
  /** The Prometheus text format. */
  text(): Promise<string>;
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/**
 * A registry of its own. Asking twice for a metric gives the one that is there (a plane that is started again goes on counting);
 * for `collected`, the last owner gives the samples.
 */
export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counters = new Map<string, Count>();
  const gauges = new Map<string, Level>();
  const histograms = new Map<string, Distribution>();
  const samplers = new Map<string, CollectedOptions['samples']>();
  const settlers = new Map<string, () => void | Promise<void>>();
  const base = (options: MetricOptions) => ({
    name: options.name,
    help: options.help,
    labelNames: [...(options.labels ?? [])],
    registers: [registry],
  });
  const collected = ({ name, help, type, samples }: CollectedOptions): void => {
    const isNew = !samplers.has(name);
    samplers.set(name, samples);
    if (!isNew) return;
    const get = () => {
      const values = [...(samplers.get(name)?.() ?? [])].map((sample) => ({
        metricName: sample.name,
        labels: sample.labels,
        value: sample.value,
      }));
      return Promise.resolve({ name, help, type, values, aggregator: 'sum' });
    };
    // prom-client reads `name` and `get()` of a metric, nothing else.
    registry.registerMetric({ name, get } as unknown as Counter);
  };
  return {
    counter: (options) =>
      once(counters, options.name, () => {
        const counter = new Counter(base(options));
        return { add: (amount = 1, labels = {}) => counter.inc(labels, amount) };
      }),
    gauge: (options) =>
      once(gauges, options.name, () => {
        const gauge = new Gauge(base(options));
        return { set: (value, labels = {}) => gauge.set(labels, value) };
      }),
    histogram: ({ name, help, buckets }) =>
      once(histograms, name, () => {
        const counts = new BucketCounts(name, buckets);
        collected({ name, help, type: 'histogram', samples: () => counts.samples() });
        return counts;
      }),
    collected,
    beforeText: (owner, settle) => void settlers.set(owner, settle),
    text: async () => {
      await Promise.all([...settlers.values()].map(async (settle) => settle()));
      return registry.metrics();
    },
  };
}

function once<T>(made: Map<string, T>, name: string, make: () => T): T {
  const known = made.get(name);
  if (known !== undefined) return known;
  const metric = make();
  made.set(name, metric);
  return metric;
}
