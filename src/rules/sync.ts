// The sync loop: many Snapshots in, as few syncs as can be out. One sync at a time; what arrives meanwhile is one more
// sync with the newest Snapshot; a failure is tried again with a growing delay and loses nothing, since a backend is
// always given the whole newest Snapshot.

import { backoffDelay } from '../lib/backoff.ts';
import type { IpFamily } from '../lib/ip.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Clock, Timer } from '../system/clock.ts';
import type { Rejection, RulesBackend, SyncOutcome } from './backend.ts';
import { defaultRulesConfig, type RulesConfig } from './config.ts';
import { ChangeMetrics } from './change-metrics.ts';
import { SyncMetrics } from './sync-metrics.ts';

export interface SyncLoopOptions {
  readonly backend: RulesBackend;
  readonly minSyncPeriodMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told what the loop does, for the probes and for whoever follows what is in force. */
  readonly observer?: SyncObserver;
}

export interface SyncObserver {
  /** A change waits from now on. Times are of `clock.now()`. */
  queued(family: IpFamily, now: number): void;
  /** What waited before `start` is in force now. */
  updated(family: IpFamily, start: number, now: number): void;
  /** The Snapshot is in force, in both families. */
  applied(snapshot: Snapshot): void;
}

const RETRY = { initial: 200, max: 15_000 };
const FAMILIES: readonly IpFamily[] = [4, 6];
/** Somebody who undoes our repairs at once is not answered more often than this. */
const REPAIR = { initial: 200, max: 5000 };
const REPAIRS_COUNT_MS = 10_000;

/**
 * Under a stream of changes the syncs take this share of the time at most, after so much work done at once and with pauses of this
 * length at most: 4,000 changes in 20 s would be 700 syncs otherwise, and each starts a program. Holds while nobody asks for a period.
 */
const PACE = { share: 0.1, creditMs: 500, longestMs: 250 };
/** A first load is no stream: no sync counts for more than this. */
const COUNTED_MS = 100;

export class SyncLoop {
  readonly #options: SyncLoopOptions;
  readonly #metrics: SyncMetrics;
  readonly #changes: ChangeMetrics;
  #wanted: Snapshot | undefined;
  #applied: Snapshot | undefined;
  #timer: Timer | undefined;
  #due = 0;
  /** The Snapshot of the last sync, whatever became of it. */
  #tried: Snapshot | undefined;
  #running: Promise<void> | undefined;
  #failures = 0;
  #lastStart: number | undefined;
  #stopped = false;
  #minSyncPeriodMs: number;
  /** Milliseconds spent on syncs of late, and when that was counted. */
  #spent = 0;
  #spentAt = 0;
  /** Not given to the backend yet. */
  #nextConfig: RulesConfig | undefined;
  #problem: string | undefined;
  /** The Services that were refused last. */
  #leftOut: ReadonlySet<string> = new Set();
  #drift: string | undefined;
  #repairs = 0;
  #lastRepair = Number.NEGATIVE_INFINITY;

  constructor(options: SyncLoopOptions) {
    this.#options = options;
    this.#minSyncPeriodMs = options.minSyncPeriodMs;
    this.#metrics = new SyncMetrics(options.metrics, options.backend.mode);
    this.#changes = new ChangeMetrics(options.metrics, options.clock.now());
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
    this.#noteQueued();
    this.#changes.queued(snapshot);
    this.#metrics.queued(this.#options.clock.now());
    this.#schedule(this.#untilNextStart());
  }

  /** Works by another configuration: the backend is given it between two syncs, and the next one brings it into force. */
  configure(config: RulesConfig): void {
    this.#minSyncPeriodMs = config.minSyncPeriodMs;
    this.#nextConfig = config;
    if (!this.#wanted) return;
    this.#noteQueued();
    this.#schedule(this.#problem === undefined ? 0 : this.#untilNextStart());
  }

  #drifted(what: string): void {
    if (this.#stopped || this.#drift !== undefined) return;
    this.#drift = what;
    this.#metrics.queued(this.#options.clock.now());
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
    const { clock } = this.#options;
    // While something is refused, a change is a reason to try again, but no reason to try without a pause.
    const pause = this.#problem === undefined ? this.#minSyncPeriodMs : Math.max(this.#minSyncPeriodMs, RETRY.initial);
    const now = clock.monotonic();
    return this.#lastStart === undefined ? 0 : Math.max(0, this.#lastStart + pause - now, this.#pace(now));
  }

  /** How long to wait for the work of late; nothing where a period was asked for, which is kept to the letter. */
  #pace(now: number): number {
    this.#spent = Math.max(0, this.#spent - (now - this.#spentAt) * PACE.share);
    this.#spentAt = now;
    if (this.#minSyncPeriodMs > defaultRulesConfig.minSyncPeriodMs || this.#spent <= PACE.creditMs) return 0;
    return Math.min(PACE.longestMs, (this.#spent - PACE.creditMs) / PACE.share);
  }

  #schedule(delay: number): void {
    if (this.#running || this.#stopped) return;
    // A timer that is due sooner stays: counted from the first change, so that a stream of changes cannot put off the sync.
    const due = this.#options.clock.monotonic() + delay;
    if (this.#timer && this.#due <= due) return;
    this.#timer?.cancel();
    this.#due = due;
    this.#timer = this.#options.clock.after(delay, () => {
      this.#timer = undefined;
      this.#running = this.#run().finally(() => {
        this.#running = undefined;
        if (this.#problem !== undefined) {
          this.#schedule(backoffDelay(RETRY, this.#failures, this.#options.random()));
        } else if (this.#drift !== undefined) {
          this.#schedule(backoffDelay(REPAIR, this.#repairs, this.#options.random()));
        }
        // A change waits neither for a retry nor for a repair that somebody undoes again and again.
        if (this.#wanted !== this.#tried || this.#nextConfig) this.#schedule(this.#untilNextStart());
      });
    });
  }

  async #run(): Promise<void> {
    const { backend, clock, log } = this.#options;
    const snapshot = this.#wanted;
    if (!snapshot) return;
    const start = clock.monotonic();
    this.#lastStart = start;
    this.#tried = snapshot;
    if (this.#nextConfig) backend.configure(this.#nextConfig);
    this.#nextConfig = undefined;
    const startedAt = clock.now();
    const drift = this.#drift;
    this.#drift = undefined;
    if (this.#failures > 0) this.#metrics.retried();
    const outcome = await syncOnce(backend, snapshot);
    const seconds = (clock.monotonic() - start) / 1000;
    this.#spent += Math.min(COUNTED_MS, seconds * 1000);
    this.#metrics.record(outcome, seconds, clock.now());
    this.#noteUpdated(outcome, startedAt);
    const owned = backend.owned?.();
    if (owned) this.#metrics.owned(owned);
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
    this.#leftOut = new Set();
    this.#inForce(snapshot);
  }

  #inForce(snapshot: Snapshot): void {
    this.#applied = snapshot;
    this.#changes.applied(snapshot, this.#options.clock.now());
    this.#options.observer?.applied(snapshot);
  }

  #noteQueued(): void {
    const { observer, clock } = this.#options;
    for (const family of FAMILIES) observer?.queued(family, clock.now());
  }

  #noteUpdated(outcome: SyncOutcome, start: number): void {
    const { observer, clock } = this.#options;
    for (const family of FAMILIES) {
      if (outcome.kind === 'failed' && outcome.families.includes(family)) continue;
      observer?.updated(family, start, clock.now());
    }
  }

  /** All others are in force; these are tried again and again, and told of once. */
  #rejected(rejected: readonly Rejection[], fields: Readonly<Record<string, number>>): void {
    const { log } = this.#options;
    this.#failures++;
    // The same refusal is told in other words when more or less is written with it.
    const fresh = rejected.filter(({ service }) => !this.#leftOut.has(service));
    if (fresh.length === 0) log.debug('rules in force, but for what is still refused', fields);
    else {
      log.info('rules in force, but for what is refused', fields);
      for (const { service, reason } of fresh) log.error(`Service ${service} is left out, trying again: ${reason}`);
    }
    this.#leftOut = new Set(rejected.map(({ service }) => service));
    this.#problem = rejected.map(({ service, reason }) => `Service ${service}: ${reason}`).join('; ');
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
