// The names, types, labels and buckets that dashboards for kube-proxy read, and what is ours.

import { expect, test } from 'vitest';
import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { FakeNft } from '../../src/rules/nftables/fake.ts';
import { NftablesBackend } from '../../src/rules/nftables/apply.ts';
import { planeOf } from '../../src/rules/plane.ts';
import { FakeClock } from '../../src/system/clock-fake.ts';
import { CONFIG, clusterOf, type ServiceSketch } from './cluster.ts';

const SECONDS = Array.from({ length: 15 }, (_, k) => 0.001 * 2 ** k);
const PROGRAMMING = [
  0.25,
  0.5,
  ...Array.from({ length: 59 }, (_, i) => i + 1),
  ...Array.from({ length: 12 }, (_, i) => 60 + 5 * i),
  ...Array.from({ length: 7 }, (_, i) => 120 + 30 * i),
];

/** Name, type, labels in order, and buckets without the last, which holds everything. */
type Described = readonly [string, string, readonly string[], (readonly number[])?];

/** kube-proxy v1.36's for nftables, from its metrics.go; behind them those that it does not have. */
const TABLE: readonly (readonly [
  string,
  'histogram' | 'gauge' | 'counter',
  readonly string[],
  (readonly number[])?,
])[] = [
  ['kubeproxy_sync_proxy_rules_duration_seconds', 'histogram', ['ip_family'], SECONDS],
  ['kubeproxy_sync_full_proxy_rules_duration_seconds', 'histogram', ['ip_family'], SECONDS],
  ['kubeproxy_sync_partial_proxy_rules_duration_seconds', 'histogram', ['ip_family'], SECONDS],
  ['kubeproxy_sync_proxy_rules_last_timestamp_seconds', 'gauge', ['ip_family']],
  ['kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds', 'gauge', ['ip_family']],
  ['kubeproxy_network_programming_duration_seconds', 'histogram', ['ip_family'], PROGRAMMING],
  ['kubeproxy_sync_proxy_rules_endpoint_changes_pending', 'gauge', []],
  ['kubeproxy_sync_proxy_rules_endpoint_changes_total', 'counter', []],
  ['kubeproxy_sync_proxy_rules_service_changes_pending', 'gauge', []],
  ['kubeproxy_sync_proxy_rules_service_changes_total', 'counter', []],
  ['kubeproxy_sync_proxy_rules_no_local_endpoints_total', 'gauge', ['ip_family', 'traffic_policy']],
  ['kubeproxy_sync_proxy_rules_nftables_sync_failures_total', 'counter', ['ip_family']],
  ['kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total', 'counter', ['ip_family']],
  ['kubeproxy_conntrack_reconciler_sync_duration_seconds', 'histogram', ['ip_family'], SECONDS],
  ['kubeproxy_conntrack_reconciler_deleted_entries_total', 'counter', ['ip_family']],
  ['fairlead_rules_elements', 'gauge', ['ip_family']],
  ['fairlead_rules_rules', 'gauge', ['ip_family']],
  ['fairlead_rules_sync_retries_total', 'counter', []],
  ['fairlead_rules_drift_repairs_total', 'counter', []],
];

const UDP: ServiceSketch = {
  name: 'dns',
  clusterIPs: ['172.30.0.10', 'fd00:10:96::a'],
  protocol: 'UDP',
  endpoints: ['10.0.0.1:53', '[fd00:10::1]:53'],
};
const LOCAL: ServiceSketch = {
  name: 'local',
  clusterIPs: ['172.30.0.11'],
  nodePort: 30_080,
  internal: 'Local',
  external: 'Local',
  endpoints: ['10.0.0.1:80@node-b'],
};

/** The slices of every Service say that they changed at that time. */
function changedAt(snapshot: Snapshot, revision: number, at: number | undefined): Snapshot {
  const services = PersistentMap.from(
    [...snapshot.services.entries()].map(([key, service]) => {
      const slices = service.slices.map((slice) => ({ ...slice, lastChangeTriggerTime: at }));
      return [key, { ...service, ports: service.ports, members: service.members, slices }] as const;
    }),
  );
  return { ...snapshot, revision, services };
}

function rig(nft = new FakeNft()) {
  const clock = new FakeClock();
  const metrics = createMetrics();
  const exec = {
    run: async (...[file, args, options]: Parameters<FakeNft['run']>) =>
      file === 'conntrack'
        ? { exitCode: 0, stdout: '', stderr: '', notFound: false, timedOut: false }
        : nft.run(file, args, options),
  };
  const options = {
    mode: 'nftables',
    config: CONFIG,
    exec,
    clock,
    random: () => 1,
    log: silentLogger,
    metrics,
  } as const;
  const plane = planeOf(new NftablesBackend(options), { ...options, removeOnStop: false });
  return { clock, metrics, plane, nft };
}

/** What a scrape tells of the metrics that are not Node's own. A metric without a series has no labels to tell. */
function describe(text: string): readonly Described[] {
  const byName = (a: Described, b: Described): number => (a[0] < b[0] ? -1 : 1);
  return [...text.matchAll(/^# TYPE ((?:kubeproxy|fairlead)_\S+) (\S+)$/gm)]
    .map(([, name = '', type = '']): Described => {
      const labels = new Set<string>();
      const bounds = new Set<number>();
      for (const line of text.split('\n')) {
        if (!new RegExp(`^${name}(_bucket)?[{ ]`).test(line)) continue;
        for (const [, label = '', value = ''] of line.matchAll(/([a-z_]+)="([^"]*)"/g)) {
          if (label !== 'le') labels.add(label);
          else if (value !== '+Inf') bounds.add(Number(value));
        }
      }
      const sorted = [...labels].sort((a, b) => (a < b ? -1 : 1));
      return type === 'histogram' ? [name, type, sorted, [...bounds]] : [name, type, sorted];
    })
    .sort(byName);
}

function valueOf(text: string, series: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

test('every metric has the name, type, labels and buckets of the table, and there is none besides', async () => {
  const { clock, metrics, plane } = rig();
  plane.update(changedAt(clusterOf([UDP, LOCAL]).snapshot, 1, clock.now() + 1));
  await clock.advance(10);
  plane.update({ ...clusterOf([UDP]).snapshot, revision: 2 });
  await clock.advance(200);
  const text = await metrics.text();
  // The table of flows is there or not as the machine has it.
  const found = describe(text).filter(([name]) => !name.startsWith('fairlead_conntrack_entries'));
  expect(found).toEqual([...TABLE].sort(([a], [b]) => (a < b ? -1 : 1)));
  await plane.stop();
});

test('the time from the change of a slice to the kernel is observed once for each slice, but for changes before the start', async () => {
  const { clock, metrics, plane } = rig();
  const start = clock.now();
  const { snapshot } = clusterOf([UDP]);
  const count = async (): Promise<number | undefined> =>
    valueOf(await metrics.text(), 'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"}');
  plane.update(changedAt(snapshot, 1, start - 1000));
  await clock.advance(500);
  expect(await count()).toBeUndefined();
  const changed = changedAt(snapshot, 2, clock.now() - 400);
  plane.update(changed);
  await clock.advance(100);
  expect(await count()).toBe(1);
  expect(
    valueOf(await metrics.text(), 'kubeproxy_network_programming_duration_seconds_bucket{le="0.5",ip_family="IPv6"}'),
  ).toBe(1);
  plane.update({ ...changed, revision: 3 });
  plane.update(changedAt(snapshot, 4, undefined));
  await clock.advance(100);
  expect(await count()).toBe(1);
  await plane.stop();
});

test('changes wait until they are in force, through failures', async () => {
  const { clock, metrics, plane, nft } = rig();
  plane.update({ ...clusterOf([UDP]).snapshot, revision: 1 });
  await clock.advance(100);
  nft.failure = 'Cannot allocate memory';
  plane.update({ ...clusterOf([UDP, LOCAL]).snapshot, revision: 2 });
  await clock.advance(500);
  let text = await metrics.text();
  expect(valueOf(text, 'kubeproxy_sync_proxy_rules_service_changes_pending')).toBeGreaterThanOrEqual(1);
  expect(valueOf(text, 'kubeproxy_sync_proxy_rules_endpoint_changes_pending')).toBeGreaterThanOrEqual(1);
  nft.failure = undefined;
  await clock.advance(2000);
  text = await metrics.text();
  expect(valueOf(text, 'kubeproxy_sync_proxy_rules_service_changes_pending')).toBe(0);
  expect(valueOf(text, 'kubeproxy_sync_proxy_rules_endpoint_changes_pending')).toBe(0);
  expect(valueOf(text, 'fairlead_rules_sync_retries_total')).toBeGreaterThanOrEqual(1);
  const local = 'kubeproxy_sync_proxy_rules_no_local_endpoints_total';
  expect(valueOf(text, `${local}{traffic_policy="internal",ip_family="IPv4"}`)).toBe(1);
  expect(valueOf(text, `${local}{traffic_policy="external",ip_family="IPv4"}`)).toBe(1);
  expect(valueOf(text, `${local}{traffic_policy="internal",ip_family="IPv6"}`)).toBe(0);
  await plane.stop();
});

test('what is ours in the kernel is counted as it is', async () => {
  const { clock, metrics, plane, nft } = rig();
  for (const [index, services] of [[UDP], [UDP, LOCAL], [LOCAL]].entries()) {
    plane.update({ ...clusterOf(services).snapshot, revision: index + 1 });
    await clock.advance(100);
    const text = await metrics.text();
    for (const [ip, family] of [
      ['ip', 'IPv4'],
      ['ip6', 'IPv6'],
    ] as const) {
      const table = nft.ruleset.get(ip);
      const rules = [...(table?.chains.values() ?? [])].reduce((sum, chain) => sum + chain.rules.length, 0);
      // The verdict for each chain that picks is written with the chain, and is no element of the plan.
      const elements = [...(table?.containers ?? [])]
        .filter(([name]) => !name.endsWith('chains'))
        .reduce((sum, [, container]) => sum + container.elements.size, 0);
      expect(rules).toBeGreaterThan(0);
      expect(elements).toBeGreaterThan(0);
      expect(valueOf(text, `fairlead_rules_rules{ip_family="${family}"}`)).toBe(rules);
      expect(valueOf(text, `fairlead_rules_elements{ip_family="${family}"}`)).toBe(elements);
    }
  }
  await plane.stop();
});
