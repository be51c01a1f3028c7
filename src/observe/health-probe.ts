// CoreDNS' look at its own `/health`, each second: how long the process takes to answer is how busy it is.

import { messageOf } from '../lib/message-of.ts';
import type { Clock } from '../system/clock.ts';
import { createHttpClient, type HttpClient } from '../system/http-client.ts';
import type { Logger } from './log.ts';
import type { Meters } from './metrics.ts';

export interface HealthProbeOptions {
  /** Such as `http://127.0.0.1:8080`, as it is at the time; undefined where there is no such endpoint. */
  readonly server: () => string | undefined;
  readonly clock: Clock;
  readonly metrics: Meters;
  readonly log: Logger;
  readonly stopped: AbortSignal;
}

const EACH_MS = 1000;
const PATIENCE_MS = 3000;
const SLOW_MS = 1000;
/** 0.25 ms × 10ⁿ. */
const BUCKETS = [0.000_25, 0.0025, 0.025, 0.25, 2.5];

/** Resolves once it is stopped. Never rejects. */
export async function probeHealth({ server, clock, metrics, log, stopped }: HealthProbeOptions): Promise<void> {
  const durations = metrics.histogram({
    name: 'coredns_health_request_duration_seconds',
    help: 'Time that a request of our own for /health took.',
    buckets: BUCKETS,
  });
  const failures = metrics.counter({
    name: 'coredns_health_request_failures_total',
    help: 'Requests of our own for /health that were not answered.',
  });
  failures.add(0);
  let client: { readonly to: string; readonly http: HttpClient } | undefined;
  while (!stopped.aborted) {
    await clock.sleep(EACH_MS, stopped);
    const to = server();
    if (stopped.aborted || to === undefined) continue;
    if (client?.to !== to) {
      client?.http.close();
      client = { to, http: createHttpClient({ server: to }) };
    }
    const start = clock.monotonic();
    const failure = await failureOf(client.http, stopped);
    if (stopped.aborted) break;
    const ms = clock.monotonic() - start;
    durations.observe(ms / 1000);
    if (failure !== undefined) failures.add();
    if (failure !== undefined) log.warn(`${to}/health does not answer: ${failure}`);
    else if (ms > SLOW_MS)
      log.warn(`${to}/health took ${Math.round(ms)} ms to answer: this process has too much to do`);
  }
  client?.http.close();
}

async function failureOf(http: HttpClient, signal: AbortSignal): Promise<string | undefined> {
  try {
    const response = await http.request({ path: '/health', headersTimeoutMs: PATIENCE_MS, signal });
    await response.text();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
