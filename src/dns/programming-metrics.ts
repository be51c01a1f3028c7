// How long a change of endpoints takes until names are answered by it: the SLI `dns_programming_duration` of Kubernetes.

import type { EndpointSliceRecord } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Meters } from '../observe/metrics.ts';

/** A millisecond to 17 minutes. */
const BUCKETS = Array.from({ length: 20 }, (_, i) => 0.001 * 2 ** i);

export interface ProgrammingMetrics {
  /** To be called when names are answered as the Snapshot says. `now` in milliseconds since 1970. */
  inForce(snapshot: Snapshot, now: number): void;
}

/** By the annotation `endpoints.kubernetes.io/last-change-trigger-time` of EndpointSlices. */
export function createProgrammingMetrics(metrics: Meters): ProgrammingMetrics {
  const durations = metrics.histogram({
    name: 'coredns_kubernetes_dns_programming_duration_seconds',
    help: 'Time from the change of a Pod or Service until names are answered by it.',
    labels: ['service_kind'],
    buckets: BUCKETS,
  });
  let seen: Snapshot | undefined;
  return {
    inForce: (snapshot, now) => {
      const before = seen;
      seen = snapshot;
      // What was there before this process came is not its own to answer for.
      if (!before) return;
      for (const change of snapshot.services.differences(before.services)) {
        const { before: was, after } = change;
        if (!after || was?.slices === after.slices) continue;
        const old = new Set<EndpointSliceRecord>(was?.slices);
        const kind = after.record.headless ? 'headless_with_selector' : 'cluster_ip';
        for (const slice of after.slices) {
          const at = old.has(slice) ? undefined : slice.lastChangeTriggerTime;
          if (at !== undefined) durations.observe(Math.max(0, now - at) / 1000, { service_kind: kind });
        }
      }
    },
  };
}
