import { array, assert, constantFrom, nat, property, record } from 'fast-check';
import { expect, test } from 'vitest';
import { createLimitMemory, LimitState } from './limit-state.ts';

/** nginx' limit_req with nodelay, in plain words. */
class Naive {
  readonly #excess = new Map<string, { readonly excess: number; readonly at: number }>();

  take(key: string, perMs: number, burst: number, now: number): boolean {
    const before = this.#excess.get(key);
    const excess = before ? Math.max(0, before.excess - (now - before.at) * perMs + 1) : 0;
    if (excess > burst + 1e-6) return false;
    this.#excess.set(key, { excess, at: now });
    return true;
  }
}

test('threads that share the memory limit as one, request by request', () => {
  const request = record({
    thread: nat(2),
    key: constantFrom('a', 'b', 'c'),
    after: constantFrom(0, 1, 10, 250, 1000, 5000, 60_000),
  });
  assert(
    property(array(request, { maxLength: 60 }), constantFrom(1, 2, 10), (requests, rate) => {
      const memory = createLimitMemory(3);
      const threads = [0, 1, 2].map((index) => new LimitState(memory, index));
      const naive = new Naive();
      let now = 1_000_000;
      for (const { thread, key, after } of requests) {
        now += after;
        const expected = naive.take(key, rate / 1000, rate * 5, now);
        expect(threads[thread]?.take(key, rate / 1000, rate * 5, now)).toBe(expected);
      }
    }),
    { numRuns: 50 },
  );
});

test('a clock that is set back does not lock a client out', () => {
  const limits = new LimitState();
  expect(limits.take('a', 1 / 1000, 5, 10_000_000)).toBe(true);
  expect(limits.take('a', 1 / 1000, 5, 1_000)).toBe(true);
});

test('requests under way are counted over all threads, and each leaves once', () => {
  const memory = createLimitMemory(2);
  const [one, two] = [new LimitState(memory, 0), new LimitState(memory, 1)];
  const first = one.enter('a', 2);
  expect(two.enter('a', 2)).toBeDefined();
  expect(one.enter('a', 2)).toBeUndefined();
  expect(two.enter('b', 2)).toBeDefined();
  first?.();
  first?.();
  expect(two.enter('a', 2)).toBeDefined();
  expect(one.enter('a', 2)).toBeUndefined();
});

test('what a thread that died had under way, and its lock, hold nobody up', () => {
  const memory = createLimitMemory(2);
  const [dead, alive] = [new LimitState(memory, 0), new LimitState(memory, 1)];
  for (let i = 0; i < 3; i++) expect(dead.enter('a', 3)).toBeDefined();
  expect(alive.enter('a', 3)).toBeUndefined();
  // It holds the lock: the first two words of the memory say so.
  new Int32Array(memory).set([1, 1]);
  alive.forget(0);
  for (let i = 0; i < 3; i++) expect(alive.enter('a', 3)).toBeDefined();
  expect(alive.enter('a', 3)).toBeUndefined();
});

test('more clients than there is room for forget the idlest, and none is let through or shut out by another', () => {
  const limits = new LimitState();
  let refused = 0;
  for (let i = 0; i < 100_000; i++) if (!limits.take(`client ${i}`, 1 / 1000, 1, 1_000_000 + i)) refused++;
  expect(refused).toBe(0);
  // The last few are still known: their second request fits into the burst, the third does not.
  expect(limits.take('client 99999', 1 / 1000, 1, 1_100_000)).toBe(true);
  expect(limits.take('client 99999', 1 / 1000, 1, 1_100_000)).toBe(false);
});
