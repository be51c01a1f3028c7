// `/metrics` of a running `fairlead dns` with many plugins: every family that dashboards of CoreDNS read, with its type and labels.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { dig } from '../dns/dig.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { freePort } from '../support/free-port.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
let api: TestApiServer;
let running: FairleadProcess | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-dns-metrics-'));
  api = await startTestApiServer();
});

afterEach(async () => {
  await running?.close();
  await api.stop();
  rmSync(folder, { recursive: true });
});

const SERVER = ['server', 'zone', 'view'];
const CACHE = ['server', 'zones', 'view'];
const PROXY = ['proxy_name', 'to'];

/** Families by type, with the labels of their samples. */
const FAMILIES: Readonly<Record<'counter' | 'gauge' | 'histogram', Readonly<Record<string, readonly string[]>>>> = {
  counter: {
    panics_total: [],
    dns_requests_total: [...SERVER, 'proto', 'family', 'type'],
    dns_do_requests_total: SERVER,
    dns_responses_total: [...SERVER, 'rcode', 'plugin'],
    dns_https_responses_total: ['server', 'status'],
    cache_hits_total: [...CACHE, 'type'],
    cache_evictions_total: [...CACHE, 'type'],
    cache_requests_total: CACHE,
    cache_misses_total: CACHE,
    cache_prefetch_total: CACHE,
    cache_drops_total: CACHE,
    cache_served_stale_total: CACHE,
    forward_healthcheck_broken_total: [],
    forward_max_concurrent_rejects_total: [],
    proxy_healthcheck_failures_total: PROXY,
    proxy_conn_cache_hits_total: [...PROXY, 'proto'],
    proxy_conn_cache_misses_total: [...PROXY, 'proto'],
    kubernetes_rest_client_requests_total: ['code', 'method', 'host'],
    health_request_failures_total: [],
    reload_failed_total: [],
    autopath_success_total: ['server'],
    dns64_requests_translated_total: ['server'],
    template_matches_total: [...SERVER, 'class', 'type'],
    template_template_failures_total: [...SERVER, 'class', 'type', 'section', 'template'],
    template_rr_failures_total: [...SERVER, 'class', 'type', 'section', 'template'],
    acl_blocked_requests_total: SERVER,
    acl_filtered_requests_total: SERVER,
    acl_dropped_requests_total: SERVER,
    acl_allowed_requests_total: ['server', 'view'],
    local_localhost_requests_total: [],
  },
  gauge: {
    build_info: ['version', 'revision', 'goversion'],
    plugin_enabled: [...SERVER, 'name'],
    cache_entries: [...CACHE, 'type'],
    reload_version_info: ['hash', 'value'],
    hosts_entries: ['hostsfile'],
    hosts_reload_timestamp_seconds: [],
  },
  histogram: {
    dns_request_duration_seconds: SERVER,
    dns_request_size_bytes: [...SERVER, 'proto'],
    dns_response_size_bytes: [...SERVER, 'proto'],
    proxy_request_duration_seconds: [...PROXY, 'rcode'],
    kubernetes_dns_programming_duration_seconds: ['service_kind'],
    kubernetes_rest_client_request_duration_seconds: ['verb', 'host'],
    kubernetes_rest_client_rate_limiter_duration_seconds: ['verb', 'host'],
    health_request_duration_seconds: [],
  },
};

/** What this run has no occasion to count: no more than their types is held here. */
const UNCOUNTED = [
  'dns_https_responses_total',
  'cache_prefetch_total',
  'cache_served_stale_total',
  'proxy_healthcheck_failures_total',
  'proxy_conn_cache_hits_total',
  'proxy_conn_cache_misses_total',
  'autopath_success_total',
  'dns64_requests_translated_total',
  'template_template_failures_total',
  'template_rr_failures_total',
  'acl_dropped_requests_total',
  'reload_version_info',
  'proxy_request_duration_seconds',
];

const BUCKETS: Readonly<Record<string, readonly number[]>> = {
  dns_request_duration_seconds: Array.from({ length: 16 }, (_, i) => 0.00025 * 2 ** i),
  dns_request_size_bytes: [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000],
  kubernetes_dns_programming_duration_seconds: Array.from({ length: 20 }, (_, i) => 0.001 * 2 ** i),
  kubernetes_rest_client_request_duration_seconds: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  health_request_duration_seconds: [0.000_25, 0.0025, 0.025, 0.25, 2.5],
};

const SERVICE = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'shop', name: 'web' },
  spec: { type: 'ClusterIP', clusterIP: '10.96.0.7', clusterIPs: ['10.96.0.7'], ports: [{ name: 'http', port: 80 }] },
};
const slice = (address: string) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: {
    namespace: 'shop',
    name: 'web-1',
    labels: { 'kubernetes.io/service-name': 'web' },
    annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': new Date().toISOString() },
  },
  addressType: 'IPv4',
  endpoints: [{ addresses: [address], conditions: { ready: true } }],
  ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
});

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

function samplesOf(text: string): readonly Sample[] {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = ''] = /^([a-z0-9_]+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (name === undefined) return [];
    const pairs = [...labels.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', value = '']) => [
      key,
      value,
    ]);
    return [{ name, labels: Object.fromEntries(pairs) as Record<string, string> }];
  });
}

test('every family of CoreDNS is there, with its type, labels and buckets', async () => {
  const [dns, health, metrics] = [await freePort(), await freePort(), await freePort()];
  api.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  api.apply(SERVICE);
  api.apply(slice('10.244.0.1'));
  const path = join(folder, 'Corefile');
  writeFileSync(
    path,
    `.:${dns} {
  bind 127.0.0.1
  errors
  health 127.0.0.1:${health}
  prometheus 127.0.0.1:${metrics}
  cache 30
  acl blocked.test {
    block
  }
  acl filtered.test {
    filter
  }
  acl {
    allow
  }
  dns64
  local
  hosts ${join(folder, 'none')} {
    192.0.2.1 a.hosts.test
    fallthrough
  }
  template IN TXT t.test {
    answer "{{ .Name }} 1 IN TXT ok"
  }
  autopath @kubernetes
  kubernetes cluster.local {
    endpoint ${api.url}
    pods verified
  }
  forward . 127.0.0.1:9
}
`,
  );
  running = new FairleadProcess(['dns', '-conf', path, '--workers', '1']);
  const read = (): Promise<string> =>
    fetch(`http://127.0.0.1:${metrics}/metrics`).then(
      (answer) => answer.text(),
      () => '',
    );
  const server = { address: '127.0.0.1', port: dns };
  const why = (): string => running?.stderr ?? '';
  await until(async () => (await dig(server, 'web.shop.svc.cluster.local')).status === 'NOERROR', 30_000, why);
  for (const [name, type] of [
    ['a.hosts.test', 'A'],
    ['a.hosts.test', 'A'],
    ['x.t.test', 'TXT'],
    ['x.localhost', 'A'],
    ['x.blocked.test', 'A'],
    ['x.filtered.test', 'A'],
  ] as const)
    await dig(server, '+dnssec', name, type);
  api.apply(slice('10.244.0.2'));
  const text = await until(
    async () => {
      const now = await read();
      const has = (name: string): boolean => new RegExp(`^coredns_${name}_count.* [1-9]`, 'm').test(now);
      return has('health_request_duration_seconds') && has('kubernetes_dns_programming_duration_seconds') && now;
    },
    30_000,
    why,
  );
  const samples = samplesOf(text);
  const unseen: string[] = [];
  for (const [type, families] of Object.entries(FAMILIES)) {
    for (const [short, labels] of Object.entries(families)) {
      const name = `coredns_${short}`;
      expect(text).toContain(`# TYPE ${name} ${type}\n`);
      const own = samples.filter((sample) => sample.name === (type === 'histogram' ? `${name}_count` : name));
      if (own.length === 0) unseen.push(short);
      for (const sample of own)
        expect([name, Object.keys(sample.labels).toSorted()]).toEqual([name, labels.toSorted()]);
    }
  }
  expect(unseen).toEqual(UNCOUNTED);
  for (const [short, buckets] of Object.entries(BUCKETS)) {
    const found = samples.filter(({ name }) => name === `coredns_${short}_bucket`).map(({ labels }) => labels['le']);
    expect([...new Set(found)].map(Number).filter(Number.isFinite)).toEqual(buckets);
  }
  const shown = samples.filter(({ name }) => name === 'coredns_plugin_enabled').map(({ labels }) => labels['name']);
  expect([...new Set(shown)].toSorted((a = '', b = '') => (a < b ? -1 : 1))).toEqual([
    'acl',
    'autopath',
    'cache',
    'dns64',
    'errors',
    'forward',
    'hosts',
    'kubernetes',
    'local',
    'prometheus',
    'template',
  ]);
  const known = new Set(Object.values(FAMILIES).flatMap((families) => Object.keys(families)));
  const others = [...text.matchAll(/^# TYPE coredns_(\S+)/gm)]
    .map(([, name]) => name)
    .filter((name) => !known.has(name ?? ''));
  expect(others).toEqual([]);
});
