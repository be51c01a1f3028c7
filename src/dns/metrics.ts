// What is counted, under the names and labels of the DNS server that dashboards already read.

import type { Labels, Metrics } from '../observe/metrics.ts';
import type { Transport } from './handler.ts';
import { rcodeName, RR, typeName } from './wire/types.ts';

const DURATION_BUCKETS = Array.from({ length: 16 }, (_, i) => 0.00025 * 2 ** i);

/** Types with a label of their own; the others are `other`. */
const LABELLED_TYPES: ReadonlySet<number> = new Set(
  Object.values(RR).filter((type) => type !== RR.OPT && type !== RR.HINFO),
);

const SERVER = ['server', 'zone', 'view'];

/** The counters of one program; `forServer` gives those of one listening address. */
export interface DnsMetrics {
  forServer(server: string): ServerMetrics;
  panicked(): void;
  forwardRejected(): void;
}

export interface ServerMetrics {
  /** One answered query. `by` is the handler that answered, empty when the packet never reached one. */
  record(query: RecordedQuery): void;
}

interface RecordedQuery {
  readonly type: number;
  readonly transport: Transport;
  readonly ipv6: boolean;
  readonly rcode: number;
  readonly by: string;
  readonly seconds: number;
}

export function createDnsMetrics(metrics: Metrics): DnsMetrics {
  const requests = metrics.counter({
    name: 'coredns_dns_requests_total',
    help: 'DNS requests by zone, protocol, family and type.',
    labels: [...SERVER, 'proto', 'family', 'type'],
  });
  const responses = metrics.counter({
    name: 'coredns_dns_responses_total',
    help: 'DNS responses by zone, code and the handler that answered.',
    labels: [...SERVER, 'rcode', 'plugin'],
  });
  const duration = metrics.histogram({
    name: 'coredns_dns_request_duration_seconds',
    help: 'Time from a request to its response.',
    labels: SERVER,
    buckets: DURATION_BUCKETS,
  });
  const panics = metrics.counter({ name: 'coredns_panics_total', help: 'Unexpected errors while answering.' });
  const rejects = metrics.counter({
    name: 'coredns_forward_max_concurrent_rejects_total',
    help: 'Queries refused because too many waited for upstream servers.',
  });
  // Scrapers expect counters without labels to be there from the start.
  panics.add(0);
  rejects.add(0);
  return {
    forServer: (server) => {
      // Label objects are made once for each combination in use: a query allocates none.
      const requestLabels = new Map<number, Labels>();
      const responseLabels = new Map<string, Map<number, Labels>>();
      const zoned = { true: labelsOf(server, '.'), false: labelsOf(server, 'dropped') };
      return {
        record: ({ type, transport, ipv6, rcode, by, seconds }) => {
          const zone = zoned[by === '' ? 'false' : 'true'];
          const labelled = LABELLED_TYPES.has(type) ? type : 0;
          const key = (labelled << 3) | (transport === 'tcp' ? 4 : 0) | (ipv6 ? 2 : 0) | (by === '' ? 1 : 0);
          const asked = remember(requestLabels, key, () => ({
            ...zone,
            proto: transport,
            family: ipv6 ? '2' : '1',
            type: labelled === 0 ? 'other' : typeName(labelled),
          }));
          const byRcode = remember(responseLabels, by, () => new Map<number, Labels>());
          const told = remember(byRcode, rcode, () => ({ ...zone, rcode: rcodeName(rcode), plugin: by }));
          requests.add(1, asked);
          responses.add(1, told);
          duration.observe(seconds, zone);
        },
      };
    },
    panicked: () => panics.add(),
    forwardRejected: () => rejects.add(),
  };
}

function labelsOf(server: string, zone: string): Labels {
  return { server, zone, view: '' };
}

function remember<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
