import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusterOf } from '../../test/rules/cluster.ts';
import { PersistentMap } from '../lib/persistent-map.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { createLogger, silentLogger, type Logger } from '../observe/log.ts';
import { createMetrics, type Metrics } from '../observe/metrics.ts';
import { FakeClock } from '../system/clock-fake.ts';
import type { RulesBackend, SyncOutcome } from './backend.ts';
import { defaultRulesConfig } from './config.ts';
import { SyncLoop, type SyncLoopOptions, type SyncObserver } from './sync.ts';

const EMPTY = clusterOf([]).snapshot;

function snapshot(revision: number): Snapshot {
  return { ...EMPTY, revision };
}

/** A backend without a sync. */
const idle: Omit<RulesBackend, 'sync'> = {
  mode: 'nftables',
  configure: () => {},
  cleanup: async () => ({ removed: [], problems: [] }),
  stop: async () => {},
  state: () => ({}),
};

function quiet(clock: FakeClock): Omit<SyncLoopOptions, 'backend' | 'minSyncPeriodMs'> {
  return { clock, random: () => 1, log: silentLogger, metrics: createMetrics() };
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

test('no change waits longer than the period, counted from the first that waits, nor than the sync under way', async () => {
  const steps = fc.record({ pause: fc.integer({ min: 0, max: 150 }), changes: fc.integer({ min: 1, max: 5 }) });
  const worlds = fc.record({
    period: fc.constantFrom(50, 100, 1000),
    syncMs: fc.constantFrom(0, 5, 80, 400),
    steps: fc.array(steps, { minLength: 1, maxLength: 40 }),
  });
  await fc.assert(
    fc.asyncProperty(worlds, async ({ period, syncMs, steps: all }) => {
      const clock = new FakeClock();
      const starts: { readonly at: number; readonly revision: number }[] = [];
      const backend: RulesBackend = {
        ...idle,
        sync: async ({ revision }) => {
          starts.push({ at: clock.monotonic(), revision });
          await clock.sleep(syncMs);
          return { kind: 'applied', counts: {} };
        },
      };
      const loop = new SyncLoop({ ...quiet(clock), backend, minSyncPeriodMs: period });
      const asked: number[] = [];
      for (const { pause, changes } of all) {
        for (let i = 0; i < changes; i++) {
          asked.push(clock.monotonic());
          loop.update(snapshot(asked.length));
        }
        await clock.advance(pause);
      }
      await clock.advance(period + 2 * syncMs + 1);
      for (const [index, at] of asked.entries()) {
        const start = starts.find(({ revision }) => revision > index);
        expect(start?.at).toBeLessThanOrEqual(at + Math.max(period, syncMs));
      }
      for (const [index, { at }] of starts.entries()) {
        expect(at).toBeGreaterThanOrEqual((starts[index - 1]?.at ?? Number.NEGATIVE_INFINITY) + period);
      }
    }),
    { numRuns: 200 },
  );
});

test('without a period asked for, a change in a stream waits a quarter of a second at most, and the sync under way', async () => {
  const syncMs = 60;
  const clock = new FakeClock();
  const starts: { readonly at: number; readonly revision: number }[] = [];
  const backend: RulesBackend = {
    ...idle,
    sync: async ({ revision }) => {
      starts.push({ at: clock.monotonic(), revision });
      await clock.sleep(syncMs);
      return { kind: 'applied', counts: {} };
    },
  };
  const loop = new SyncLoop({ ...quiet(clock), backend, minSyncPeriodMs: defaultRulesConfig.minSyncPeriodMs });
  const asked: number[] = [];
  for (let i = 1; i <= 2000; i++) {
    asked.push(clock.monotonic());
    loop.update(snapshot(i));
    await clock.advance(5);
  }
  await clock.advance(1000);
  for (const [index, at] of asked.entries()) {
    const start = starts.find(({ revision }) => revision > index);
    expect(start?.at).toBeLessThanOrEqual(at + syncMs + 250);
  }
});

test('a failed sync is tried again at once, and does not wait for a long period', async () => {
  const { clock, loop, begun } = bench(
    0,
    (nth) => (nth === 1 ? { kind: 'failed', reason: 'no', families: [4] } : { kind: 'applied', counts: {} }),
    30_000,
  );
  loop.update(snapshot(1));
  await clock.advance(201);
  expect(begun).toEqual([1, 1]);
  expect(loop.problem).toBeUndefined();
});

test('a failed sync loses nothing: what waited for it is counted, and flows are seen to, once it is in force', async () => {
  const { clock, loop, metrics, told } = bench(0, (nth) =>
    nth < 3 ? { kind: 'failed', reason: 'no', families: [4, 6] } : { kind: 'applied', counts: {} },
  );
  await clock.advance(10);
  const cluster = clusterOf([{ name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]).snapshot;
  const changed = PersistentMap.from(
    [...cluster.services.entries()].map(([key, service]) => {
      const slices = service.slices.map((slice) => ({ ...slice, lastChangeTriggerTime: clock.now() }));
      return [key, { ...service, ports: service.ports, members: service.members, slices }] as const;
    }),
  );
  loop.update({ ...cluster, revision: 1, services: changed });
  await clock.advance(100);
  // Meanwhile something else changes; the failed one's trigger time must not be forgotten over it.
  loop.update({ ...cluster, revision: 2, services: changed.with([['default/none', undefined]]) });
  expect(told.filter((line) => line.startsWith('applied'))).toEqual([]);
  await clock.advance(2000);
  expect(told.filter((line) => line.startsWith('applied'))).toEqual(['applied 2']);
  const text = await metrics.text();
  expect(text).toContain('kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1');
  expect(text).toContain('kubeproxy_sync_proxy_rules_endpoint_changes_pending 0');
});

test('changes are taken while a sync is under way, however long that takes', async () => {
  const { clock, loop, begun } = bench(60_000);
  loop.update(snapshot(1));
  await clock.advance(1);
  for (let revision = 2; revision <= 500; revision++) loop.update(snapshot(revision));
  expect(begun).toEqual([1]);
  await clock.advance(60_001);
  expect(begun).toEqual([1, 500]);
});

test('a change does not wait for the repair of what somebody undoes again and again', async () => {
  const clock = new FakeClock();
  const begun: (readonly [number, number])[] = [];
  let drift: (what: string) => void = () => undefined;
  const backend: RulesBackend = {
    ...idle,
    watch: (onDrift) => (drift = onDrift),
    sync: async ({ revision }) => {
      begun.push([revision, clock.monotonic()]);
      await clock.sleep(20);
      // As soon as it is written, it is undone.
      drift('somebody else');
      return { kind: 'applied', counts: {} };
    },
  };
  const loop = new SyncLoop({ ...quiet(clock), backend, minSyncPeriodMs: 100 });
  loop.update(snapshot(1));
  await clock.advance(60_000);
  // In the middle of a repair, after which the next is seconds away.
  const before = begun.length;
  while (begun.length === before) await clock.advance(10);
  const asked = clock.monotonic();
  loop.update(snapshot(2));
  await clock.advance(200);
  const [, at = Number.POSITIVE_INFINITY] = begun.find(([revision]) => revision === 2) ?? [];
  expect(at - asked).toBeLessThanOrEqual(100);
});
