import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Endpoint } from '../../model/snapshot.ts';
import { Balancer, endpointKey } from './balance.ts';
import { endpoint, ip } from '../../../test/support/values.ts';

const NONE: ReadonlySet<string> = new Set();
const CLIENT = ip('10.0.0.9');

function endpoints(count: number): readonly Endpoint[] {
  return Array.from({ length: count }, (_, i) => endpoint(`10.0.0.${i + 1}:80`));
}

test('every endpoint gets its turn, wherever the round begins', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (n, start) => {
        const balancer = new Balancer(start);
        const all = endpoints(n);
        const picked = new Set(all.map(() => balancer.pick(all, CLIENT, NONE, 0)));
        expect(picked.size).toBe(n);
      },
    ),
  );
});

test('a connection tries each endpoint once and then has none left', () => {
  const balancer = new Balancer(0.5);
  const all = endpoints(5);
  const tried = new Set<string>();
  for (let i = 0; i < 5; i++) {
    const endpoint = balancer.pick(all, CLIENT, tried, 0);
    expect(endpoint && tried.has(endpointKey(endpoint))).toBe(false);
    if (endpoint) tried.add(endpointKey(endpoint));
  }
  expect(balancer.pick(all, CLIENT, tried, 0)).toBeUndefined();
  expect(balancer.pick([], CLIENT, NONE, 0)).toBeUndefined();
});

test('of two endpoints each is the first choice of every other connection, also where the first is always in vain', () => {
  const balancer = new Balancer(0);
  const all = endpoints(2);
  const [dead, live] = all;
  const choices = Array.from({ length: 6 }, () => {
    const first = balancer.pick(all, CLIENT, NONE, 0);
    return first === dead ? [first, balancer.pick(all, CLIENT, new Set(['10.0.0.1:80']), 0)] : [first];
  });
  expect(choices).toEqual([[dead, live], [live], [dead, live], [live], [dead, live], [live]]);
});

test('affinity holds for its timeout, counted from the last connection', () => {
  const balancer = new Balancer(0);
  const all = endpoints(3);
  balancer.update(10, new Set(all.map(endpointKey)));
  const first = balancer.pick(all, CLIENT, NONE, 0);
  expect(balancer.pick(all, CLIENT, NONE, 9_999)).toBe(first);
  expect(balancer.pick(all, CLIENT, NONE, 19_998)).toBe(first);
  expect(balancer.pick(all, CLIENT, NONE, 29_998)).not.toBe(first);
});

test('an endpoint that left has lost its clients when it comes back', () => {
  const balancer = new Balancer(0);
  const all = endpoints(2);
  const [first, second] = all;
  balancer.update(1000, new Set(all.map(endpointKey)));
  expect(balancer.pick(all, CLIENT, NONE, 0)).toBe(first);
  balancer.update(1000, new Set(all.slice(1).map(endpointKey)));
  balancer.update(1000, new Set(all.map(endpointKey)));
  expect(balancer.pick(all, CLIENT, NONE, 1)).toBe(second);
});

test('an endpoint that failed a client is forgotten for it, and affinity that is taken back is forgotten for all', () => {
  const balancer = new Balancer(0);
  const all = endpoints(2);
  const [first, second] = all;
  balancer.update(1000, new Set(all.map(endpointKey)));
  expect(balancer.pick(all, CLIENT, NONE, 0)).toBe(first);
  balancer.forget(CLIENT, '10.0.0.1:80');
  expect(balancer.pick(all, CLIENT, NONE, 0)).toBe(second);
  expect(balancer.clients).toBe(1);
  balancer.update(undefined, new Set(all.map(endpointKey)));
  expect(balancer.clients).toBe(0);
});

test('the clients remembered are bounded, the oldest goes', () => {
  const balancer = new Balancer(0);
  const all = endpoints(2);
  balancer.update(1000, new Set(all.map(endpointKey)));
  for (let i = 0; i < 20_000; i++) balancer.pick(all, ip(`10.1.${i >> 8}.${i & 255}`), NONE, 0);
  expect(balancer.clients).toBe(16_384);
});
