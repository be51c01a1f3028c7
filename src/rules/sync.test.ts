import { expect, test } from 'vitest';
import { clusterOf } from '../../test/rules/cluster.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { createLogger, type Logger } from '../observe/log.ts';
import { createMetrics, type Metrics } from '../observe/metrics.ts';
import { FakeClock } from '../system/clock-fake.ts';
import type { RulesBackend, SyncOutcome } from './backend.ts';
import { defaultRulesConfig } from './config.ts';
import { SyncLoop, type SyncObserver } from './sync.ts';

const EMPTY = clusterOf([]).snapshot;

function snapshot(revision: number): Snapshot {
  return { ...EMPTY, revision };
}

interface Bench {
  readonly clock: FakeClock;
  readonly loop: SyncLoop;
  readonly metrics: Metrics;
  /** Revisions in the order in which syncs began. */
  readonly begun: number[];
  readonly lines: string[];
  /** `minSyncPeriodMs` of each configuration that the backend was given. */
  readonly configured: number[];
  /** What the observer was told. */
  readonly told: string[];
}

/** A loop over a backend that takes `syncMs` and ends as `outcome` says for the n-th sync. */
function bench(
  syncMs: number,
  outcome: (nth: number) => SyncOutcome = () => ({ kind: 'applied', counts: {} }),
  minSyncPeriodMs = 100,
): Bench {
  const clock = new FakeClock();
  const metrics = createMetrics();
  const begun: number[] = [];
  const configured: number[] = [];
  const told: string[] = [];
  const lines: string[] = [];
  const log: Logger = createLogger({ format: 'text', verbosity: 0, write: (line) => lines.push(line), now: () => 0 });
  const backend: RulesBackend = {
    mode: 'nftables',
    sync: async ({ revision }) => {
      begun.push(revision);
      if (syncMs > 0) await clock.sleep(syncMs);
      return outcome(begun.length);
    },
    configure: ({ minSyncPeriodMs }) => void configured.push(minSyncPeriodMs),
    cleanup: async () => ({ removed: [], problems: [] }),
    stop: async () => {},
    state: () => ({}),
  };
  const observer: SyncObserver = {
    queued: (family, now) => void told.push(`queued ${family} ${now}`),
    updated: (family, start, now) => void told.push(`updated ${family} ${start} ${now}`),
    applied: ({ revision }) => void told.push(`applied ${revision}`),
  };
  const loop = new SyncLoop({ backend, minSyncPeriodMs, clock, random: () => 1, log, metrics, observer });
  return { clock, loop, metrics, begun, lines, configured, told };
}

test('the first change is brought into force at once, a burst behind it in one more sync with the newest', async () => {
  const { clock, loop, begun } = bench(10);
  loop.update(snapshot(1));
  await clock.advance(5);
  for (const revision of [2, 3, 4]) loop.update(snapshot(revision));
  expect(loop.ready).toBe(false);
  await clock.advance(90);
  expect(loop.ready).toBe(true);
  expect(begun).toEqual([1]);
  await clock.advance(10);
  expect(begun).toEqual([1, 4]);
  await clock.advance(1000);
  expect(begun).toEqual([1, 4]);
  expect(loop.appliedRevision).toBe(4);
});

test('a stream of changes does not put off the sync', async () => {
  const { clock, loop, begun } = bench(0);
  for (let revision = 1; revision <= 50; revision++) {
    loop.update(snapshot(revision));
    await clock.advance(10);
  }
  expect(begun.length).toBeGreaterThanOrEqual(5);
  expect(begun.length).toBeLessThanOrEqual(6);
});

/** 200 changes a second for 20 s, each sync taking 20 ms. */
async function stream(minSyncPeriodMs: number): Promise<Bench> {
  const world = bench(20, undefined, minSyncPeriodMs);
  for (let revision = 1; revision <= 4000; revision++) {
    world.loop.update(snapshot(revision));
    await world.clock.advance(5);
  }
  return world;
}

test('4,000 changes in 20 s are a hundred syncs, not 700, and the last is in force a quarter of a second later', async () => {
  const { begun, clock, loop } = await stream(defaultRulesConfig.minSyncPeriodMs);
  expect(begun.length).toBeGreaterThan(80);
  expect(begun.length).toBeLessThan(140);
  await clock.advance(300);
  expect(loop.appliedRevision).toBe(4000);
  // And a change after a quiet time does not wait.
  await clock.advance(10_000);
  loop.update(snapshot(4001));
  await clock.advance(25);
  expect(loop.appliedRevision).toBe(4001);
});

test('a period that was asked for is kept, stream or not', async () => {
  const { begun } = await stream(50);
  expect(begun.length).toBeGreaterThan(380);
});

test('a failure is tried again with a growing delay and the newest Snapshot, and counted', async () => {
  const { clock, loop, begun, metrics, lines } = bench(0, (nth) =>
    nth < 4 ? { kind: 'failed', reason: 'no memory', families: [4] } : { kind: 'applied', counts: { added: 1 } },
  );
  loop.update(snapshot(1));
  await clock.advance(1);
  expect(loop.problem).toBe('no memory');
  loop.update(snapshot(2));
  await clock.advance(150);
  expect(begun).toEqual([1]);
  await clock.advance(50);
  expect(begun).toEqual([1, 2]);
  await clock.advance(400);
  expect(begun).toEqual([1, 2, 2]);
  await clock.advance(800);
  expect(begun).toEqual([1, 2, 2, 2]);
  expect(loop.problem).toBeUndefined();
  expect(loop.appliedRevision).toBe(2);
  const text = await metrics.text();
  expect(text).toContain('kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 3');
  expect(text).toContain('kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"} 0');
  expect(text).toContain('kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 4');
  expect(text).toContain('kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.4');
  expect(lines.at(-1)).toContain('rules in force again revision=2 added=1');
});

test('a backend that throws does not end the loop', async () => {
  const { clock, loop, begun } = bench(0, (nth) => {
    if (nth === 1) throw new Error('a bug');
    return { kind: 'applied', counts: {} };
  });
  loop.update(snapshot(1));
  await clock.advance(1);
  expect(loop.problem).toContain('a bug');
  await clock.advance(1000);
  expect(begun).toEqual([1, 1]);
  expect(loop.ready).toBe(true);
});

test('stopping waits for the sync under way and begins no other', async () => {
  const { clock, loop, begun } = bench(500);
  loop.update(snapshot(1));
  await clock.advance(1);
  loop.update(snapshot(2));
  let stopped = false;
  const stopping = loop.stop().then(() => (stopped = true));
  await clock.advance(100);
  expect(stopped).toBe(false);
  await clock.advance(500);
  await stopping;
  loop.update(snapshot(3));
  await clock.advance(1000);
  expect(begun).toEqual([1]);
});

test('a new configuration reaches the backend between two syncs, and is brought into force at once', async () => {
  const { clock, loop, begun, configured } = bench(10);
  loop.update(snapshot(1));
  await clock.advance(5);
  loop.configure({ ...defaultRulesConfig, minSyncPeriodMs: 7 });
  expect(configured).toEqual([]);
  await clock.advance(200);
  expect(configured).toEqual([7]);
  expect(begun).toEqual([1, 1]);
  loop.configure({ ...defaultRulesConfig, minSyncPeriodMs: 8 });
  await clock.advance(11);
  expect(configured).toEqual([7, 8]);
  expect(begun).toEqual([1, 1, 1]);
});

test('the observer hears what waits, what is in force, and of a family that is not', async () => {
  const { clock, loop, told } = bench(10, (nth) =>
    nth === 1 ? { kind: 'failed', reason: 'no', families: [6] } : { kind: 'applied', counts: {} },
  );
  const t0 = clock.now();
  loop.update(snapshot(1));
  await clock.advance(11);
  expect(told).toEqual([`queued 4 ${t0}`, `queued 6 ${t0}`, `updated 4 ${t0} ${t0 + 10}`]);
  await clock.advance(1000);
  expect(told.slice(3).map((line) => line.split(' ').slice(0, 2).join(' '))).toEqual([
    'updated 4',
    'updated 6',
    'applied 1',
  ]);
});

test('a Service that is refused is told of once and tried again, while the rest is in force', async () => {
  const rejected = [{ service: 'default/bad', families: [4] as const, reason: 'Invalid argument' }];
  const { clock, loop, begun, lines } = bench(0, (nth) =>
    nth < 4 ? { kind: 'applied', counts: {}, rejected } : { kind: 'applied', counts: { added: 1 } },
  );
  loop.update(snapshot(1));
  await clock.advance(1);
  expect(loop.ready).toBe(true);
  expect(loop.problem).toBe('Service default/bad: Invalid argument');
  await clock.advance(2000);
  expect(begun).toEqual([1, 1, 1, 1]);
  expect(loop.problem).toBeUndefined();
  expect(lines.filter((line) => line.includes('default/bad'))).toHaveLength(1);
});

test('what somebody else changed is repaired at once, and less often the oftener it happens', async () => {
  let drift: (what: string) => void = () => undefined;
  const clock = new FakeClock();
  const begun: number[] = [];
  const metrics = createMetrics();
  const backend: RulesBackend = {
    mode: 'nftables',
    watch: (onDrift) => (drift = onDrift),
    sync: async () => {
      begun.push(clock.monotonic());
      return { kind: 'applied', counts: {} };
    },
    configure: () => {},
    cleanup: async () => ({ removed: [], problems: [] }),
    stop: async () => {},
    state: () => ({}),
  };
  const log = createLogger({ format: 'text', verbosity: 0, write: () => undefined, now: () => 0 });
  const loop = new SyncLoop({ backend, minSyncPeriodMs: 100, clock, random: () => 1, log, metrics });
  loop.update(snapshot(1));
  await clock.advance(1);
  for (let i = 0; i < 200; i++) {
    drift('somebody else');
    await clock.advance(100);
  }
  expect((begun[1] ?? 0) - (begun[0] ?? 0)).toBeLessThan(150);
  expect(begun.length).toBeGreaterThan(4);
  expect(begun.length).toBeLessThan(15);
  expect(await metrics.text()).toContain(`fairlead_rules_drift_repairs_total ${begun.length - 1}`);
});

test('while a Service is refused, the changes of others do not wait for the retry of that one', async () => {
  const rejected = [{ service: 'default/bad', families: [4] as const, reason: 'Invalid argument' }];
  const { clock, loop, begun } = bench(0, () => ({ kind: 'applied', counts: {}, rejected }));
  loop.update(snapshot(1));
  await clock.advance(60_000);
  const before = begun.length;
  await clock.advance(1000);
  loop.update(snapshot(2));
  await clock.advance(1);
  expect(begun.slice(before)).toEqual([2]);
  loop.update(snapshot(3));
  await clock.advance(150);
  expect(begun.slice(before)).toEqual([2]);
  await clock.advance(60);
  expect(begun.slice(before)).toEqual([2, 3]);
});
