// What is counted of a Corefile that changes.

import type { Meters } from '../observe/metrics.ts';

export interface ReloadMetrics {
  /** A Corefile that was read again: taken, with its hash, or refused. */
  reloaded(hash: string | undefined): void;
}

export function createReloadMetrics(metrics: Meters): ReloadMetrics {
  const failures = metrics.counter({
    name: 'coredns_reload_failed_total',
    help: 'Corefiles that were read again and refused.',
  });
  const name = 'coredns_reload_version_info';
  let inForce: string | undefined;
  // One alone: that of before is no longer in force.
  metrics.collected({
    name,
    help: 'The Corefile that is in force, by its hash.',
    type: 'gauge',
    samples: () => (inForce === undefined ? [] : [{ name, labels: { hash: 'sha512', value: inForce }, value: 1 }]),
  });
  // Scrapers expect counters without labels to be there from the start.
  failures.add(0);
  return {
    reloaded: (hash) => {
      if (hash === undefined) failures.add();
      else inForce = hash;
    },
  };
}
