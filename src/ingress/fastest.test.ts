import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../system/clock.ts';
import { RoundRobin } from './balance.ts';
import { Fastest } from './fastest.ts';
import { Deadlines } from './http/deadlines.ts';
import { EndpointPool } from './http/upstream.ts';

function world(count: number) {
  const deadlines = new Deadlines(systemClock, 1000);
  onTestFinished(() => deadlines.stop());
  const dial = () => {
    throw new Error('nothing is dialled here');
  };
  const times = { idleMs: 1000, maxIdle: 1, maxAgeMs: 1000, maxRequests: 1 };
  const pools = Array.from({ length: count }, (_, i) => new EndpointPool(`10.0.0.${i}`, 80, dial, deadlines, times));
  const turn = new RoundRobin(pools, 0);
  const now = { ms: 1_000_000 };
  let seed = 1;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  return { pools, turn, now, fastest: new Fastest(turn, random, () => now.ms) };
}

/** How often each is picked, when each takes so long to answer. */
function picks({ pools, now, fastest }: ReturnType<typeof world>, latencies: readonly number[], rounds: number) {
  const counts = latencies.map(() => 0);
  for (let i = 0; i < rounds; i++) {
    const picked = fastest.pick();
    const index = picked ? pools.indexOf(picked) : -1;
    const ms = latencies[index] ?? 0;
    counts[index] = (counts[index] ?? 0) + 1;
    now.ms += 50;
    if (picked) fastest.answered(picked, ms);
  }
  return counts;
}

test('of two endpoints the one that answers sooner gets nearly all, of three the slowest nearly nothing', () => {
  const [slow = 0, fast = 0] = picks(world(2), [500, 5], 200);
  expect(slow).toBeLessThan(20);
  expect(fast).toBeGreaterThan(180);
  const [a = 0, b = 0, c = 0] = picks(world(3), [5, 5, 500], 300);
  expect(c).toBeLessThan(30);
  expect(Math.min(a, b)).toBeGreaterThan(50);
});

test('an endpoint that was slow is asked again when that is long ago', () => {
  const all = world(2);
  picks(all, [500, 5], 50);
  all.now.ms += 120_000;
  expect(picks(all, [1, 100], 200)[0]).toBeGreaterThan(100);
});

test('endpoints that were tried are passed over, and without any left there is none', () => {
  const { pools, fastest } = world(3);
  const [one, two, three] = pools;
  if (!one || !two || !three) throw new Error('three endpoints');
  expect(fastest.pick([one, three])).toBe(two);
  expect(fastest.pick(pools)).toBeUndefined();
});
