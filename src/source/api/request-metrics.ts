// Requests to the API server, under the names, labels and buckets that every client of Kubernetes has: dashboards read them.

import type { Count, Distribution, Meters } from '../../observe/metrics.ts';

export interface RequestMetrics {
  /** Labels `code` (`<error>` where no answer came), `host`, `method`. */
  readonly total: Count;
  /** From the request to the head of its answer. Labels `host`, `verb`. */
  readonly durations: Distribution;
  /** Of requests with a body. Labels `host`, `verb`. */
  readonly sizes?: Distribution;
  /** Time that requests are held back before they are sent. Labels `host`, `verb`. */
  readonly held?: Distribution;
}

const DURATION_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];
const SIZE_BUCKETS = [64, 256, 512, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216];

export type RequestMetricsOf = (metrics: Meters) => RequestMetrics;

export function createRequestMetrics(metrics: Meters): RequestMetrics {
  return {
    total: metrics.counter({
      name: 'rest_client_requests_total',
      help: 'Requests to the API server, by status, method and host.',
      labels: ['code', 'host', 'method'],
    }),
    durations: metrics.histogram({
      name: 'rest_client_request_duration_seconds',
      help: 'Time from a request to the head of its answer.',
      labels: ['host', 'verb'],
      buckets: DURATION_BUCKETS,
    }),
    sizes: metrics.histogram({
      name: 'rest_client_request_size_bytes',
      help: 'Size of the bodies of requests.',
      labels: ['host', 'verb'],
      buckets: SIZE_BUCKETS,
    }),
  };
}

const COREDNS_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Under the names that CoreDNS has for them. */
export function createCoreDnsRequestMetrics(metrics: Meters): RequestMetrics {
  const histogram = (name: string, help: string): Distribution =>
    metrics.histogram({
      name: `coredns_kubernetes_rest_client_${name}_duration_seconds`,
      help,
      labels: ['verb', 'host'],
      buckets: COREDNS_BUCKETS,
    });
  return {
    total: metrics.counter({
      name: 'coredns_kubernetes_rest_client_requests_total',
      help: 'Requests to the API server, by status, method and host.',
      labels: ['code', 'method', 'host'],
    }),
    durations: histogram('request', 'Time from a request to the head of its answer.'),
    held: histogram('rate_limiter', 'Time that requests are held back before they are sent; none are here.'),
  };
}
