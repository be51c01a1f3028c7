// Whether the rules keep up with the cluster, as kube-proxy's /healthz and /livez tell load balancers and the kubelet.

import type { IpFamily } from '../../lib/ip.ts';

const FAMILIES: readonly IpFamily[] = [4, 6];
const FAMILY_NAMES: Readonly<Record<IpFamily, 'IPv4' | 'IPv6'>> = { 4: 'IPv4', 6: 'IPv6' };

export interface HealthAnswer {
  readonly status: 200 | 503;
  readonly body: string;
}

/**
 * A family is unhealthy when its oldest change has waited for twice the sync period. What arrives while a sync runs is not in that sync, and
 * goes on waiting. All times in milliseconds since 1970.
 */
export class ProxyHealth {
  #unhealthyAfterMs: number;
  readonly #pendingSince = new Map<IpFamily, number>();
  readonly #lastQueued = new Map<IpFamily, number>();
  readonly #lastUpdated = new Map<IpFamily, number>();

  /** As kube-proxy, healthy from the start: whether rules are in force yet is what `/readyz` says. */
  constructor(syncPeriodMs: number, now: number) {
    this.#unhealthyAfterMs = 2 * syncPeriodMs;
    for (const family of FAMILIES) this.#lastUpdated.set(family, now);
  }

  setSyncPeriod(syncPeriodMs: number): void {
    this.#unhealthyAfterMs = 2 * syncPeriodMs;
  }

  queued(family: IpFamily, now: number): void {
    if (!this.#pendingSince.has(family)) this.#pendingSince.set(family, now);
    this.#lastQueued.set(family, now);
  }

  updated(family: IpFamily, start: number, now: number): void {
    this.#lastUpdated.set(family, now);
    const queued = this.#lastQueued.get(family);
    // Which of the changes since then came first is not known; none came before.
    if (queued !== undefined && queued > start) this.#pendingSince.set(family, start);
    else this.#pendingSince.delete(family);
  }

  isHealthy(now: number): boolean {
    return FAMILIES.every((family) => this.#isFamilyHealthy(family, now));
  }

  /** `/livez`: the rules keep up. */
  livez(now: number): HealthAnswer {
    return this.#answer(now, undefined);
  }

  /** `/healthz`: the rules keep up, and the node is not about to leave (KEP-3836). A node that has not been seen is not eligible. */
  healthz(now: number, nodeEligible: boolean): HealthAnswer {
    return this.#answer(now, nodeEligible);
  }

  #isFamilyHealthy(family: IpFamily, now: number): boolean {
    const since = this.#pendingSince.get(family);
    return since === undefined || now - since < this.#unhealthyAfterMs;
  }

  #answer(now: number, nodeEligible: boolean | undefined): HealthAnswer {
    const healthy = this.isHealthy(now);
    const status = healthy && nodeEligible !== false ? 200 : 503;
    const last = Math.max(...this.#lastUpdated.values());
    const body = {
      lastUpdated: goTime(status === 200 ? now : last),
      currentTime: goTime(now),
      ...(nodeEligible === undefined ? {} : { nodeEligible }),
      healthy,
      status: Object.fromEntries(
        FAMILIES.map((family) => [
          FAMILY_NAMES[family],
          { lastUpdated: goTime(this.#lastUpdated.get(family) ?? 0), healthy: this.#isFamilyHealthy(family, now) },
        ]),
      ),
    };
    return { status, body: JSON.stringify(body) };
  }
}

/** RFC 3339 with a fraction without final zeros, as Go marshals a time. */
function goTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.?0*Z$/, 'Z');
}
