// The sync loop: many Snapshots in, as few syncs as can be out. One sync at a time; what arrives meanwhile is one more
// sync with the newest Snapshot; a failure is tried again with a growing delay and loses nothing, since a backend is
// always given the whole newest Snapshot.

import { backoffDelay } from '../lib/backoff.ts';
import type { IpFamily } from '../lib/ip.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Count, Distribution, Level, Metrics } from '../observe/metrics.ts';
import type { Clock, Timer } from '../system/clock.ts';
import type { Rejection, RulesBackend, SyncOutcome } from './backend.ts';

export interface SyncLoopOptions {
  readonly backend: RulesBackend;
  readonly minSyncPeriodMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told of each Snapshot that has come into force. */
  readonly onApplied?: (snapshot: Snapshot) => void;
}

const RETRY = { initial: 200, max: 15_000 };
/** Somebody who undoes our repairs at once is not answered more often than this. */
const REPAIR = { initial: 200, max: 5000 };
const REPAIRS_COUNT_MS = 10_000;
const FAMILY_LABELS: Readonly<Record<IpFamily, string>> = { 4: 'IPv4', 6: 'IPv6' };
/** As kube-proxy's: 0.001 · 2^k, fifteen of them. */
const DURATION_BUCKETS = Array.from({ length: 15 }, (_, k) => 0.001 * 2 ** k);

export class SyncLoop {
  readonly #options: SyncLoopOptions;
  readonly #metrics: SyncMetrics;
  #wanted: Snapshot | undefined;
  #applied: Snapshot | undefined;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #failures = 0;
  #lastStart: number | undefined;
  #stopped = false;
  #problem: string | undefined;
  #drift: string | undefined;
  #repairs = 0;
  #lastRepair = Number.NEGATIVE_INFINITY;

  constructor(options: SyncLoopOptions) {
    this.#options = options;
    this.#metrics = new SyncMetrics(options.metrics, options.backend.mode);
    options.backend.watch?.((what) => this.#drifted(what));
  }

  /** Whether a Snapshot has ever been brought into force. */
  get ready(): boolean {
    return this.#applied !== undefined;
  }

  /** What the last sync failed on; undefined when it did not. */
  get problem(): string | undefined {
    return this.#problem;
  }

  get appliedRevision(): number | undefined {
    return this.#applied?.revision;
  }

  update(snapshot: Snapshot): void {
    this.#wanted = snapshot;
    this.#schedule(this.#untilNextStart());
  }

  #drifted(what: string): void {
    if (this.#stopped || this.#drift !== undefined) return;
    this.#drift = what;
    const { clock, random, log } = this.#options;
    if (clock.monotonic() - this.#lastRepair > REPAIRS_COUNT_MS) this.#repairs = 0;
    if (this.#repairs === 0) log.warn(`repairing the rules: ${what}`);
    else log.debug(`repairing the rules: ${what}`, { repairs: this.#repairs });
    this.#schedule(this.#repairs === 0 ? 0 : backoffDelay(REPAIR, this.#repairs, random()));
  }

  /** Starts no further sync and resolves when the one under way has ended. Never rejects. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /** A change after a quiet time is brought into force at once; those of a burst share the next sync. */
  #untilNextStart(): number {
    const { clock, minSyncPeriodMs } = this.#options;
    return this.#lastStart === undefined ? 0 : Math.max(0, this.#lastStart + minSyncPeriodMs - clock.monotonic());
  }

  #schedule(delay: number): void {
    // A timer that is set stays: counted from the first change, so that a stream of changes cannot put off the sync.
    if (this.#timer || this.#running || this.#stopped) return;
    this.#timer = this.#options.clock.after(delay, () => {
      this.#timer = undefined;
      this.#running = this.#run().finally(() => {
        this.#running = undefined;
        if (this.#problem !== undefined) {
          this.#schedule(backoffDelay(RETRY, this.#failures, this.#options.random()));
        } else if (this.#drift !== undefined) {
          this.#schedule(backoffDelay(REPAIR, this.#repairs, this.#options.random()));
        } else if (this.#wanted !== this.#applied) {
          this.#schedule(this.#untilNextStart());
        }
      });
    });
  }

  async #run(): Promise<void> {
    const { backend, clock, log } = this.#options;
    const snapshot = this.#wanted;
    if (!snapshot) return;
    const start = clock.monotonic();
    this.#lastStart = start;
    const drift = this.#drift;
    this.#drift = undefined;
    const outcome = await syncOnce(backend, snapshot);
    const seconds = (clock.monotonic() - start) / 1000;
    this.#metrics.record(outcome, seconds, clock.now());
    if (outcome.kind === 'failed') {
      this.#failures++;
      this.#problem = outcome.reason;
      this.#drift ??= drift;
      log.error(`sync failed, trying again: ${outcome.reason}`);
      return;
    }
    const first = this.#applied === undefined;
    if (drift !== undefined) {
      this.#repairs++;
      this.#lastRepair = clock.monotonic();
      this.#metrics.repaired();
    }
    const fields = { revision: snapshot.revision, ...outcome.counts, ms: Math.round(seconds * 1000) };
    if (outcome.rejected && outcome.rejected.length > 0) {
      this.#rejected(outcome.rejected, fields);
      this.#inForce(snapshot);
      return;
    }
    if (this.#problem !== undefined) log.info('rules in force again', { ...fields, failures: this.#failures });
    else if (first || Object.keys(outcome.counts).length > 0) log.info('rules in force', fields);
    else log.debug('rules unchanged', fields);
    this.#failures = 0;
    this.#problem = undefined;
    this.#inForce(snapshot);
  }

  #inForce(snapshot: Snapshot): void {
    this.#applied = snapshot;
    this.#options.onApplied?.(snapshot);
  }

  /** All others are in force; these are tried again and again, and told of once. */
  #rejected(rejected: readonly Rejection[], fields: Readonly<Record<string, number>>): void {
    const { log } = this.#options;
    this.#failures++;
    const problem = rejected.map(({ service, reason }) => `Service ${service}: ${reason}`).join('; ');
    if (problem === this.#problem) log.debug('rules in force, but for what is still refused', fields);
    else {
      log.info('rules in force, but for what is refused', fields);
      for (const { service, reason } of rejected) log.error(`Service ${service} is left out, trying again: ${reason}`);
    }
    this.#problem = problem;
  }
}

/** A backend that throws has a bug; the loop goes on all the same, and says what it was. */
async function syncOnce(backend: RulesBackend, snapshot: Snapshot): Promise<SyncOutcome> {
  try {
    return await backend.sync(snapshot);
  } catch (error) {
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { kind: 'failed', reason, families: [4, 6] };
  }
}

class SyncMetrics {
  readonly #durations: Distribution;
  readonly #timestamp: Level;
  readonly #failures: Count | undefined;
  readonly #repairs: Count;

  constructor(metrics: Metrics, mode: string) {
    const labels = ['ip_family'];
    this.#durations = metrics.histogram({
      name: 'kubeproxy_sync_proxy_rules_duration_seconds',
      help: 'How long one sync of the rules took.',
      labels,
      buckets: DURATION_BUCKETS,
    });
    this.#timestamp = metrics.gauge({
      name: 'kubeproxy_sync_proxy_rules_last_timestamp_seconds',
      help: 'When the rules were last brought into force, in seconds since 1970.',
      labels,
    });
    this.#repairs = metrics.counter({
      name: 'fairlead_rules_drift_repairs_total',
      help: 'Times that the rules were brought back after somebody else had changed them.',
    });
    this.#failures =
      mode === 'nftables'
        ? metrics.counter({
            name: 'kubeproxy_sync_proxy_rules_nftables_sync_failures_total',
            help: 'Syncs that nftables refused.',
            labels,
          })
        : undefined;
    for (const label of Object.values(FAMILY_LABELS)) this.#failures?.add(0, { ip_family: label });
  }

  repaired(): void {
    this.#repairs.add();
  }

  record(outcome: SyncOutcome, seconds: number, now: number): void {
    const failed: readonly IpFamily[] = outcome.kind === 'failed' ? outcome.families : [];
    for (const family of [4, 6] as const) {
      const labels = { ip_family: FAMILY_LABELS[family] };
      this.#durations.observe(seconds, labels);
      if (failed.includes(family)) this.#failures?.add(1, labels);
      else this.#timestamp.set(now / 1000, labels);
    }
  }
}
