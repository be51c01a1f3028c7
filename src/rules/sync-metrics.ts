// What the sync loop counts, under kube-proxy's names where it has one: dashboards read them.

import type { IpFamily } from '../lib/ip.ts';
import type { Count, Distribution, Level, Metrics } from '../observe/metrics.ts';
import type { Owned, RulesMode, SyncOutcome } from './backend.ts';

export const FAMILY_LABELS: Readonly<Record<IpFamily, string>> = { 4: 'IPv4', 6: 'IPv6' };

/** As kube-proxy's: 0.001 · 2^k, fifteen of them. */
export const DURATION_BUCKETS: readonly number[] = Array.from({ length: 15 }, (_, k) => 0.001 * 2 ** k);

const FAMILY = ['ip_family'];
const FAMILIES = [4, 6] as const;

export class SyncMetrics {
  readonly #durations: Distribution;
  readonly #full: Distribution | undefined;
  readonly #partial: Distribution | undefined;
  readonly #timestamp: Level;
  readonly #queued: Level;
  readonly #failures: Count | undefined;
  readonly #repairs: Count;
  readonly #retries: Count;
  readonly #elements: Level;
  readonly #rules: Level;

  constructor(metrics: Metrics, mode: RulesMode) {
    const histogram = (name: string, help: string): Distribution =>
      metrics.histogram({ name: `kubeproxy_${name}`, help, labels: FAMILY, buckets: DURATION_BUCKETS });
    const inKernel = mode !== 'userspace';
    this.#durations = histogram('sync_proxy_rules_duration_seconds', 'How long one sync of the rules took.');
    this.#full = inKernel
      ? histogram(
          'sync_full_proxy_rules_duration_seconds',
          'How long a sync took that wrote everything anew or read it back.',
        )
      : undefined;
    this.#partial = inKernel
      ? histogram('sync_partial_proxy_rules_duration_seconds', 'How long a sync took that wrote what had changed.')
      : undefined;
    this.#timestamp = metrics.gauge({
      name: 'kubeproxy_sync_proxy_rules_last_timestamp_seconds',
      help: 'When the rules were last brought into force, in seconds since 1970.',
      labels: FAMILY,
    });
    this.#queued = metrics.gauge({
      name: 'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds',
      help: 'When a sync was last asked for, in seconds since 1970.',
      labels: FAMILY,
    });
    this.#failures =
      mode === 'nftables'
        ? metrics.counter({
            name: 'kubeproxy_sync_proxy_rules_nftables_sync_failures_total',
            help: 'Syncs that nftables refused.',
            labels: FAMILY,
          })
        : undefined;
    this.#repairs = metrics.counter({
      name: 'fairlead_rules_drift_repairs_total',
      help: 'Times that the rules were brought back after somebody else had changed them.',
    });
    this.#retries = metrics.counter({
      name: 'fairlead_rules_sync_retries_total',
      help: 'Syncs that were tried again after a failure, or for Services that were refused.',
    });
    this.#elements = metrics.gauge({
      name: 'fairlead_rules_elements',
      help: 'Elements of sets and maps that are ours in the kernel.',
      labels: FAMILY,
    });
    this.#rules = metrics.gauge({
      name: 'fairlead_rules_rules',
      help: 'Rules that are ours in the kernel.',
      labels: FAMILY,
    });
    for (const family of FAMILIES) this.#failures?.add(0, { ip_family: FAMILY_LABELS[family] });
  }

  queued(now: number): void {
    for (const family of FAMILIES) this.#queued.set(now / 1000, { ip_family: FAMILY_LABELS[family] });
  }

  repaired(): void {
    this.#repairs.add();
  }

  retried(): void {
    this.#retries.add();
  }

  record(outcome: SyncOutcome, seconds: number, now: number): void {
    const failed: readonly IpFamily[] = outcome.kind === 'failed' ? outcome.families : [];
    for (const family of FAMILIES) {
      const labels = { ip_family: FAMILY_LABELS[family] };
      this.#durations.observe(seconds, labels);
      if (outcome.kind === 'applied' && outcome.full === true) this.#full?.observe(seconds, labels);
      if (outcome.kind === 'applied' && outcome.full === false) this.#partial?.observe(seconds, labels);
      if (failed.includes(family)) this.#failures?.add(1, labels);
      else this.#timestamp.set(now / 1000, labels);
    }
    if (outcome.kind === 'applied') for (const { families } of outcome.rejected ?? []) this.#refused(families);
  }

  #refused(families: readonly IpFamily[]): void {
    for (const family of families) this.#failures?.add(1, { ip_family: FAMILY_LABELS[family] });
  }

  owned(owned: Owned): void {
    for (const family of FAMILIES) {
      const labels = { ip_family: FAMILY_LABELS[family] };
      this.#elements.set(owned.elements[family], labels);
      this.#rules.set(owned.rules[family], labels);
    }
  }
}
