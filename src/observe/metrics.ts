// Metrics by prom-client, behind the few verbs that the planes need. One registry per process, made by the
// composition root and passed down.

import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;

export interface Count {
  add(amount?: number, labels?: Labels): void;
}

export interface Level {
  set(value: number, labels?: Labels): void;
}

export interface Distribution {
  observe(value: number, labels?: Labels): void;
}

export interface MetricOptions {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

export interface Metrics {
  counter(options: MetricOptions): Count;
  gauge(options: MetricOptions): Level;
  histogram(options: MetricOptions & { readonly buckets: readonly number[] }): Distribution;
  /** The Prometheus text format. */
  text(): Promise<string>;
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const base = (options: MetricOptions) => ({
    name: options.name,
    help: options.help,
    labelNames: [...(options.labels ?? [])],
    registers: [registry],
  });
  return {
    counter: (options) => {
      const counter = new Counter(base(options));
      return { add: (amount = 1, labels = {}) => counter.inc(labels, amount) };
    },
    gauge: (options) => {
      const gauge = new Gauge(base(options));
      return { set: (value, labels = {}) => gauge.set(labels, value) };
    },
    histogram: (options) => {
      const histogram = new Histogram({ ...base(options), buckets: [...options.buckets] });
      return { observe: (value, labels = {}) => histogram.observe(labels, value) };
    },
    text: () => registry.metrics(),
  };
}
