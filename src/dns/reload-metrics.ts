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
  const version = metrics.gauge({
    name: 'coredns_reload_version_info',
    help: 'The Corefile that is in force, by its hash.',
    labels: ['hash', 'value'],
  });
  // Scrapers expect counters without labels to be there from the start.
  failures.add(0);
  return {
    reloaded: (hash) => {
      if (hash === undefined) failures.add();
      else version.set(1, { hash: 'sha512', value: hash });
    },
  };
}
