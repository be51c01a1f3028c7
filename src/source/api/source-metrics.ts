import type { Count, Metrics } from '../../observe/metrics.ts';

export interface SourceMetrics {
  /** Labels `kind`, `result` (`listed`, or what failed). */
  readonly lists: Count;
  /** Labels `kind`, `result` (`ended`, or what failed). */
  readonly watches: Count;
  /** Labels `kind`, `type`. */
  readonly events: Count;
  /** Label `kind`. */
  readonly leftOut: Count;
}

export function createSourceMetrics(metrics: Metrics): SourceMetrics {
  return {
    lists: metrics.counter({
      name: 'fairlead_source_lists_total',
      help: 'Lists of a kind read from the API server.',
      labels: ['kind', 'result'],
    }),
    watches: metrics.counter({
      name: 'fairlead_source_watches_total',
      help: 'Watches of a kind that have ended.',
      labels: ['kind', 'result'],
    }),
    events: metrics.counter({
      name: 'fairlead_source_events_total',
      help: 'Events that watches of a kind brought.',
      labels: ['kind', 'type'],
    }),
    leftOut: metrics.counter({
      name: 'fairlead_source_unparsable_total',
      help: 'Addresses, ranges, ports and other fields of objects that could not be read and were left out.',
      labels: ['kind'],
    }),
  };
}
