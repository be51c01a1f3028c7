// What of the cluster's changes is in force: how many wait, and how long each took from the change itself to the kernel.

import type { IpFamily } from '../lib/ip.ts';
import type { EndpointSliceRecord } from '../model/records.ts';
import type { ResolvedService, Snapshot } from '../model/snapshot.ts';
import type { Count, Distribution, Level, Metrics } from '../observe/metrics.ts';
import { carriedPorts } from './intent.ts';
import { FAMILY_LABELS } from './sync-metrics.ts';

/** As kube-proxy's: 0.25 and 0.5, each second to a minute, each 5 to two, each 30 to five. */
export const PROGRAMMING_BUCKETS: readonly number[] = [
  0.25,
  0.5,
  ...range(1, 59, 1),
  ...range(60, 115, 5),
  ...range(120, 300, 30),
];

function range(from: number, to: number, step: number): readonly number[] {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);
}

interface Batch {
  readonly revision: number;
  readonly services: number;
  readonly slices: number;
  /** When the changes of slices happened, in milliseconds since 1970. */
  readonly triggers: readonly { readonly family: IpFamily; readonly at: number }[];
}

const POLICIES = ['internal', 'external'] as const;
type Policy = (typeof POLICIES)[number];

export class ChangeMetrics {
  readonly #programming: Distribution;
  readonly #servicesPending: Level;
  readonly #servicesTotal: Count;
  readonly #slicesPending: Level;
  readonly #slicesTotal: Count;
  readonly #noLocal: Level;
  /** Changes from before this process are not its own to answer for. */
  readonly #startedAt: number;
  #seen: Snapshot | undefined;
  #applied: Snapshot | undefined;
  #waiting: readonly Batch[] = [];
  readonly #withoutLocal: Record<Policy, Record<IpFamily, number>> = {
    internal: { 4: 0, 6: 0 },
    external: { 4: 0, 6: 0 },
  };

  constructor(metrics: Metrics, startedAt: number) {
    this.#startedAt = startedAt;
    this.#programming = metrics.histogram({
      name: 'kubeproxy_network_programming_duration_seconds',
      help: 'Time from the change of an EndpointSlice (annotation endpoints.kubernetes.io/last-change-trigger-time) until the rules are in force.',
      labels: ['ip_family'],
      buckets: PROGRAMMING_BUCKETS,
    });
    const waiting = (what: string, words: string): readonly [Level, Count] => [
      metrics.gauge({
        name: `kubeproxy_sync_proxy_rules_${what}_changes_pending`,
        help: `Changes of ${words} that are not in force yet.`,
      }),
      metrics.counter({
        name: `kubeproxy_sync_proxy_rules_${what}_changes_total`,
        help: `Changes of ${words} seen.`,
      }),
    ];
    [this.#servicesPending, this.#servicesTotal] = waiting('service', 'Services');
    [this.#slicesPending, this.#slicesTotal] = waiting('endpoint', 'EndpointSlices');
    this.#noLocal = metrics.gauge({
      name: 'kubeproxy_sync_proxy_rules_no_local_endpoints_total',
      help: 'Service ports with a traffic policy Local that have endpoints, but none on this node.',
      labels: ['traffic_policy', 'ip_family'],
    });
    this.#report();
  }

  /** To be called with each Snapshot that is to be brought into force. */
  queued(snapshot: Snapshot): void {
    let services = 0;
    let slices = 0;
    const triggers: { family: IpFamily; at: number }[] = [];
    for (const { before, after } of changesOf(this.#seen, snapshot)) {
      if (before?.record !== after?.record) services++;
      const old = new Map(before?.slices.map((slice) => [slice.name, slice]));
      for (const slice of after?.slices ?? []) {
        const was = old.get(slice.name);
        old.delete(slice.name);
        if (was === slice) continue;
        slices++;
        const at = triggerOf(slice);
        if (at !== undefined && at !== triggerOf(was) && at >= this.#startedAt)
          triggers.push({ family: slice.family, at });
      }
      slices += old.size;
    }
    this.#seen = snapshot;
    this.#servicesTotal.add(services);
    this.#slicesTotal.add(slices);
    this.#waiting = [...this.#waiting, { revision: snapshot.revision, services, slices, triggers }];
    this.#report();
  }

  /** To be called when the Snapshot is in force: all that was queued up to it is. `now` in milliseconds since 1970. */
  applied(snapshot: Snapshot, now: number): void {
    for (const { revision, triggers } of this.#waiting) {
      if (revision > snapshot.revision) continue;
      for (const { family, at } of triggers) {
        this.#programming.observe(Math.max(0, now - at) / 1000, { ip_family: FAMILY_LABELS[family] });
      }
    }
    this.#waiting = this.#waiting.filter(({ revision }) => revision > snapshot.revision);
    for (const { before, after } of changesOf(this.#applied, snapshot)) {
      this.#countWithoutLocal(before, -1);
      this.#countWithoutLocal(after, 1);
    }
    this.#applied = snapshot;
    this.#report();
  }

  #countWithoutLocal(service: ResolvedService | undefined, by: 1 | -1): void {
    for (const port of carriedPorts(service)) {
      const empty = port.hasEndpoints && port.local.kind === 'used' && port.local.endpoints.length === 0;
      if (!empty) continue;
      if (port.internalTrafficPolicy === 'Local') this.#withoutLocal.internal[port.family] += by;
      if (port.externalTrafficPolicy === 'Local' && port.externallyReachable) {
        this.#withoutLocal.external[port.family] += by;
      }
    }
  }

  #report(): void {
    this.#servicesPending.set(this.#waiting.reduce((sum, { services }) => sum + services, 0));
    this.#slicesPending.set(this.#waiting.reduce((sum, { slices }) => sum + slices, 0));
    for (const policy of POLICIES) {
      for (const family of [4, 6] as const) {
        const labels = { traffic_policy: policy, ip_family: FAMILY_LABELS[family] };
        this.#noLocal.set(this.#withoutLocal[policy][family], labels);
      }
    }
  }
}

interface ServiceChange {
  readonly before: ResolvedService | undefined;
  readonly after: ResolvedService | undefined;
}

function changesOf(before: Snapshot | undefined, after: Snapshot): Iterable<ServiceChange> {
  if (before) return after.services.differences(before.services);
  return [...after.services.values()].map((service) => ({ before: undefined, after: service }));
}

function triggerOf(slice: EndpointSliceRecord | undefined): number | undefined {
  return slice?.lastChangeTriggerTime;
}
