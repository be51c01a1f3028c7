// How full the kernel's table of tracked flows is: when it is full, new connections are dropped.

import type { Metrics } from '../../observe/metrics.ts';
import { readProcNumber } from '../../system/proc.ts';

const FIGURES = [
  { name: 'fairlead_conntrack_entries', path: '/proc/sys/net/netfilter/nf_conntrack_count', help: 'Tracked flows.' },
  {
    name: 'fairlead_conntrack_entries_limit',
    path: '/proc/sys/net/netfilter/nf_conntrack_max',
    help: 'How many flows the kernel tracks at most; what would be more is dropped.',
  },
] as const;

/** Read when the metrics are asked for; no sample where the kernel tracks nothing. */
export function exposeOccupancy(metrics: Metrics, read: (path: string) => number | undefined = readProcNumber): void {
  for (const { name, path, help } of FIGURES) {
    metrics.collected({
      name,
      help,
      type: 'gauge',
      samples: () => {
        const value = read(path);
        return value === undefined ? [] : [{ name, labels: {}, value }];
      },
    });
  }
}
