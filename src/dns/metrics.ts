// What is counted, under the names and labels of the DNS server that dashboards already read.

import { hostPort, isUnspecified } from '../lib/ip.ts';
import type { Labels, Meters } from '../observe/metrics.ts';
import type { Transport } from './handler.ts';
import type { ListenAddress } from './listener.ts';
import { rcodeName, RR, typeName } from './wire/types.ts';

const SIZE_BUCKETS = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];
const DURATION_BUCKETS = Array.from({ length: 16 }, (_, i) => 0.00025 * 2 ** i);

/** Types with a label of their own; the others are `other`. */
const WITHOUT_LABEL: ReadonlySet<number> = new Set([RR.OPT, RR.HINFO, RR.NAPTR, RR.DNAME, RR.SSHFP, RR.TLSA, RR.CAA]);
const LABELLED_TYPES: ReadonlySet<number> = new Set(Object.values(RR).filter((type) => !WITHOUT_LABEL.has(type)));

const SERVER = ['server', 'zone', 'view'];

/** The label of the server that listens there. */
export function serverLabel({ address, port, scheme = 'dns' }: ListenAddress): string {
  return isUnspecified(address) ? `${scheme}://:${port}` : `${scheme}://${hostPort(address, port)}`;
}

/** The counters of one program; `forServer` gives those of one listening address. */
export interface DnsMetrics {
  forServer(server: string): ServerMetrics;
  /** Calls `settle` before the metrics are given. */
  beforeText(settle: () => void): void;
  panicked(): void;
  /** A request over HTTPS that got that status. */
  httpsAnswered(server: string, status: number): void;
  forwardRejected(): void;
}

export interface ServerMetrics {
  /** One answered query, or `times` of them. `by` is the handler that answered, empty when the packet never reached one. */
  record(query: RecordedQuery, times?: number): void;
}

export interface RecordedQuery {
  /** The zone of the server block, or `dropped` for what reached none. */
  readonly zone: string;
  /** Of the server block; empty without one. */
  readonly view: string;
  readonly type: number;
  readonly transport: Transport;
  readonly ipv6: boolean;
  readonly rcode: number;
  readonly by: string;
  readonly dnssecOk: boolean;
  /** Bytes of the query and of the answer. */
  readonly size: number;
  readonly answerSize: number;
  readonly seconds: number;
}

export function createDnsMetrics(metrics: Meters): DnsMetrics {
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
  const sizes = { labels: [...SERVER, 'proto'], buckets: SIZE_BUCKETS };
  const requestSizes = metrics.histogram({
    ...sizes,
    name: 'coredns_dns_request_size_bytes',
    help: 'Size of the requests.',
  });
  const responseSizes = metrics.histogram({
    ...sizes,
    name: 'coredns_dns_response_size_bytes',
    help: 'Size of the responses.',
  });
  const dnssecRequests = metrics.counter({
    name: 'coredns_dns_do_requests_total',
    help: 'DNS requests with the DO bit set.',
    labels: SERVER,
  });
  const httpsResponses = metrics.counter({
    name: 'coredns_dns_https_responses_total',
    help: 'Responses over HTTPS by status.',
    labels: ['server', 'status'],
  });
  // Queries are counted here, and handed on when the metrics are asked for.
  let counted: QueryKind[] = [];
  const settleCounts = (): void => {
    for (const kind of counted) {
      requests.add(kind.times, kind.asked);
      responses.add(kind.times, kind.told);
      kind.times = 0;
    }
    counted = [];
  };
  metrics.beforeText('dns', settleCounts);
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
      const zones = new Map<string, ZoneCounts>();
      return {
        record: (query, times = 1) => {
          const { zone, view, dnssecOk, transport, size, answerSize, seconds } = query;
          const at = remember(zones, view === '' ? zone : `${zone} ${view}`, () => zoneCounts({ server, zone, view }));
          const kind = kindOf(at, query);
          if (kind.times === 0) counted.push(kind);
          kind.times += times;
          duration.observe(seconds, at.zone, times);
          const sized = transport === 'tcp' ? at.tcp : at.udp;
          requestSizes.observe(size, sized, times);
          responseSizes.observe(answerSize, sized, times);
          if (dnssecOk) dnssecRequests.add(times, at.zone);
        },
      };
    },
    beforeText: (settle) =>
      metrics.beforeText('dns', () => {
        settle();
        settleCounts();
      }),
    panicked: () => panics.add(),
    httpsAnswered: (server, status) => httpsResponses.add(1, { server, status: String(status) }),
    forwardRejected: () => rejects.add(),
  };
}

/** Queries that have all labels in common. */
interface QueryKind {
  readonly asked: Labels;
  readonly told: Labels;
  times: number;
}

/** What is counted of one zone. Label objects are made once for each combination in use: a query allocates none. */
interface ZoneCounts {
  readonly zone: Labels;
  readonly udp: Labels;
  readonly tcp: Labels;
  readonly kinds: Map<string, Map<number, QueryKind>>;
}

function zoneCounts(labels: Labels): ZoneCounts {
  const byTransport = { udp: { ...labels, proto: 'udp' }, tcp: { ...labels, proto: 'tcp' } };
  return { zone: labels, ...byTransport, kinds: new Map() };
}

function kindOf({ zone, kinds }: ZoneCounts, { type, transport, ipv6, rcode, by }: RecordedQuery): QueryKind {
  const labelled = LABELLED_TYPES.has(type) ? type : 0;
  const byNumbers = remember(kinds, by, () => new Map<number, QueryKind>());
  const key = (((labelled << 2) | (transport === 'tcp' ? 2 : 0) | (ipv6 ? 1 : 0)) << 12) | rcode;
  return remember(byNumbers, key, () => ({
    asked: {
      ...zone,
      proto: transport,
      family: ipv6 ? '2' : '1',
      type: labelled === 0 ? 'other' : typeName(labelled),
    },
    told: { ...zone, rcode: rcodeName(rcode), plugin: by },
    times: 0,
  }));
}

function remember<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
