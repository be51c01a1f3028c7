// The metrics of userspace mode as a whole; those of each Service port are in traffic.ts.

import type { Count, Level, Metrics } from '../../observe/metrics.ts';

export interface ListenerGauges {
  readonly listeners: Level;
  readonly unbound: Level;
}

export interface UserspaceMetrics extends ListenerGauges {
  readonly connections: Level;
  readonly flows: Level;
  /** By `protocol`. */
  readonly failures: Count;
  readonly evictions: Count;
}

export function userspaceMetrics(metrics: Metrics): UserspaceMetrics {
  return {
    listeners: metrics.gauge({
      name: 'fairlead_userspace_listeners',
      help: 'Service addresses on which the userspace rules listen.',
    }),
    unbound: metrics.gauge({
      name: 'fairlead_userspace_unbound_addresses',
      help: 'Service addresses that this machine does not let the userspace rules bind.',
    }),
    connections: metrics.gauge({
      name: 'fairlead_userspace_connections',
      help: 'TCP connections that the userspace rules carry now.',
    }),
    flows: metrics.gauge({
      name: 'fairlead_userspace_flows',
      help: 'UDP flows that the userspace rules carry now.',
    }),
    failures: metrics.counter({
      name: 'fairlead_userspace_endpoint_failures_total',
      help: 'Endpoints that refused, could not be reached, or let another be faster, when a client was to be given one.',
      labels: ['protocol'],
    }),
    evictions: metrics.counter({
      name: 'fairlead_userspace_flows_evicted_total',
      help: 'UDP flows that were ended before their time, as others needed their place.',
    }),
  };
}
