// What is counted, under the names and labels of the DNS server that dashboards already read.

import { hostPort, isUnspecified, type Ip } from '../lib/ip.ts';
import type { Labels, Metrics } from '../observe/metrics.ts';
import type { Transport } from './handler.ts';
import { rcodeName, RR, typeName } from './wire/types.ts';

const DURATION_BUCKETS = Array.from({ length: 16 }, (_, i) => 0.00025 * 2 ** i);

/** Types with a label of their own; the others are `other`. */
const WITHOUT_LABEL: ReadonlySet<number> = new Set([RR.OPT, RR.HINFO, RR.NAPTR, RR.DNAME, RR.SSHFP, RR.TLSA, RR.CAA]);
const LABELLED_TYPES: ReadonlySet<number> = new Set(Object.values(RR).filter((type) => !WITHOUT_LABEL.has(type)));

const SERVER = ['server', 'zone', 'view'];

/** The label of the server that listens there. */
export function serverLabel(address: Ip, port: number): string {
  return isUnspecified(address) ? `dns://:${port}` : `dns://${hostPort(address, port)}`;
}

/** The counters of one program; `forServer` gives those of one listening address. */
export interface DnsMetrics {
  forServer(server: string): ServerMetrics;
  panicked(): void;
  forwardRejected(): void;
  /** A question that a cache was asked: hit by kind, or missed. */
  cacheAsked(hit: 'success' | 'denial' | undefined): void;
  /** The stores whose sizes are shown; those of the newest configuration. */
  watchCache(
    stores: Readonly<Record<'success' | 'denial', { readonly size: number; readonly evictions: number }>>,
  ): void;
  /** A Corefile that was read again: taken, with its hash, or refused. */
  reloaded(hash: string | undefined): void;
}

export interface ServerMetrics {
  /** One answered query. `by` is the handler that answered, empty when the packet never reached one. */
  record(query: RecordedQuery): void;
}

interface RecordedQuery {
  /** The zone of the server block, or `dropped` for what reached none. */
  readonly zone: string;
  /** Of the server block; empty without one. */
  readonly view: string;
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
  const cacheLabels = ['server', 'zones', 'view'];
  const cacheRequests = metrics.counter({
    name: 'coredns_cache_requests_total',
    help: 'Questions that the cache was asked.',
    labels: cacheLabels,
  });
  const cacheHits = metrics.counter({
    name: 'coredns_cache_hits_total',
    help: 'Questions that the cache answered.',
    labels: [...cacheLabels, 'type'],
  });
  const cacheMisses = metrics.counter({
    name: 'coredns_cache_misses_total',
    help: 'Questions that the cache did not know the answer of.',
    labels: cacheLabels,
  });
  const reloadFailures = metrics.counter({
    name: 'coredns_reload_failed_total',
    help: 'Corefiles that were read again and refused.',
  });
  const reloadVersion = metrics.gauge({
    name: 'coredns_reload_version_info',
    help: 'The Corefile that is in force, by its hash.',
    labels: ['hash', 'value'],
  });
  let caches: Parameters<DnsMetrics['watchCache']>[0] | undefined;
  const cacheSamples = (name: string, of: 'size' | 'evictions') =>
    (caches ? (['success', 'denial'] as const) : []).map((type) => ({
      name,
      labels: { ...CACHE_LABELS, type },
      value: caches?.[type][of] ?? 0,
    }));
  metrics.collected({
    name: 'coredns_cache_entries',
    help: 'Answers in the cache.',
    type: 'gauge',
    samples: () => cacheSamples('coredns_cache_entries', 'size'),
  });
  metrics.collected({
    name: 'coredns_cache_evictions_total',
    help: 'Answers that left the cache for want of room.',
    type: 'counter',
    samples: () => cacheSamples('coredns_cache_evictions_total', 'evictions'),
  });
  reloadFailures.add(0);
  // Scrapers expect counters without labels to be there from the start.
  panics.add(0);
  rejects.add(0);
  return {
    forServer: (server) => {
      // Label objects are made once for each combination in use: a query allocates none.
      const zones = new Map<string, ZoneLabels>();
      return {
        record: ({ zone, view, type, transport, ipv6, rcode, by, seconds }) => {
          const at = remember(zones, view === '' ? zone : `${zone} ${view}`, () => zoneLabels({ server, zone, view }));
          const labelled = LABELLED_TYPES.has(type) ? type : 0;
          const key = (labelled << 2) | (transport === 'tcp' ? 2 : 0) | (ipv6 ? 1 : 0);
          const asked = remember(at.requests, key, () => ({
            ...at.zone,
            proto: transport,
            family: ipv6 ? '2' : '1',
            type: labelled === 0 ? 'other' : typeName(labelled),
          }));
          const byRcode = remember(at.responses, by, () => new Map<number, Labels>());
          const told = remember(byRcode, rcode, () => ({ ...at.zone, rcode: rcodeName(rcode), plugin: by }));
          requests.add(1, asked);
          responses.add(1, told);
          duration.observe(seconds, at.zone);
        },
      };
    },
    panicked: () => panics.add(),
    forwardRejected: () => rejects.add(),
    cacheAsked: (hit) => {
      cacheRequests.add(1, CACHE_LABELS);
      if (hit === undefined) cacheMisses.add(1, CACHE_LABELS);
      else cacheHits.add(1, { ...CACHE_LABELS, type: hit });
    },
    watchCache: (stores) => {
      caches = stores;
    },
    reloaded: (hash) => {
      if (hash === undefined) reloadFailures.add();
      else reloadVersion.set(1, { hash: 'sha512', value: hash });
    },
  };
}

/** One program has one cache in practice; its labels do not tell servers apart. */
const CACHE_LABELS: Labels = { server: 'dns://:53', zones: '.', view: '' };

interface ZoneLabels {
  readonly zone: Labels;
  readonly requests: Map<number, Labels>;
  readonly responses: Map<string, Map<number, Labels>>;
}

function zoneLabels(zone: Labels): ZoneLabels {
  return { zone, requests: new Map(), responses: new Map() };
}

function remember<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
