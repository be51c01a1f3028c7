// What is counted of upstream servers, under the names that dashboards already read.

import type { Labels, Meters } from '../observe/metrics.ts';
import { rcodeName } from './wire/types.ts';

export interface ForwardMetrics {
  answered(to: string, rcode: number, seconds: number): void;
  connected(to: string, proto: string, reused: boolean): void;
  probeFailed(to: string): void;
  /** Every server was down. */
  allDown(): void;
}

const PROXY = 'forward';
const DURATION_BUCKETS = Array.from({ length: 16 }, (_, i) => 0.00025 * 2 ** i);

export function forwardMetrics(metrics: Meters): ForwardMetrics {
  const durations = metrics.histogram({
    name: 'coredns_proxy_request_duration_seconds',
    help: 'Time from a question to an upstream server to its answer.',
    labels: ['proxy_name', 'to', 'rcode'],
    buckets: DURATION_BUCKETS,
  });
  const byServer = ['proxy_name', 'to'];
  const counter = (name: string, help: string, labels: readonly string[]) =>
    metrics.counter({ name: `coredns_${name}`, help, labels });
  const failures = counter('proxy_healthcheck_failures_total', 'Probes of upstream servers that failed.', byServer);
  const reuse = [...byServer, 'proto'];
  const hits = counter('proxy_conn_cache_hits_total', 'Questions for which a connection was there.', reuse);
  const misses = counter('proxy_conn_cache_misses_total', 'Questions for which one was made.', reuse);
  const broken = counter('forward_healthcheck_broken_total', 'Questions that found every server down.', []);
  broken.add(0);
  const known = new Map<string, Labels>();
  const labelsOf = (to: string, rcode: number): Labels => {
    const key = `${rcode} ${to}`;
    const labels = known.get(key) ?? { proxy_name: PROXY, to, rcode: rcodeName(rcode) };
    known.set(key, labels);
    return labels;
  };
  return {
    answered: (to, rcode, seconds) => durations.observe(seconds, labelsOf(to, rcode)),
    connected: (to, proto, reused) => (reused ? hits : misses).add(1, { proxy_name: PROXY, to, proto }),
    probeFailed: (to) => failures.add(1, { proxy_name: PROXY, to }),
    allDown: () => broken.add(),
  };
}
