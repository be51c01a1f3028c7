import { expect, test } from 'vitest';
import type { Plane } from '../model/plane.ts';
import type { ServiceRecord } from '../model/records.ts';
import { silentLogger, type LogFields, type Logger } from '../observe/log.ts';
import { createMetrics } from '../observe/metrics.ts';
import { Store } from '../source/store.ts';
import { FakeClock } from '../system/clock-fake.ts';
import { Pipeline } from './pipeline.ts';
import { serviceRecord } from '../../test/support/records.ts';
import { ip } from '../../test/support/values.ts';

test('the log speaks at once of a first change, and of a stream of them once a second', async () => {
  const clock = new FakeClock();
  const store = new Store();
  const lines: LogFields[] = [];
  const log: Logger = { ...silentLogger, info: (_message, fields = {}) => void lines.push(fields) };
  const pipeline = new Pipeline({ store, kinds: [], nodeName: 'n', clock, log, metrics: createMetrics() });
  const told = (): readonly unknown[] =>
    lines.splice(0).map(({ services, changed, snapshots }) => [services, changed, snapshots]);
  pipeline.start();
  await clock.advance(0);
  expect(told()).toEqual([[0, 0, undefined]]);
  for (let i = 1; i <= 40; i++) {
    store.apply('services', `shop/s${i}`, service(`s${i}`, `10.96.0.${i}`));
    await clock.advance(20);
  }
  expect(told()).toEqual([]);
  await clock.advance(1000);
  expect(told()).toEqual([[40, 40, 40]]);
  await clock.advance(5000);
  store.apply('services', 'shop/s1', undefined);
  await clock.advance(0);
  expect(told()).toEqual([[39, 1, undefined]]);
  store.apply('services', 'shop/s2', undefined);
  await clock.advance(0);
  pipeline.stop();
  await clock.advance(5000);
  expect(told()).toEqual([]);
});

test('a plane that waits for complete Snapshots gets none before, and then the newest; others wait for nothing', async () => {
  const clock = new FakeClock();
  const store = new Store();
  const complete = Promise.withResolvers<void>();
  const told: number[] = [];
  const seen: number[] = [];
  const pipeline = new Pipeline({
    store,
    kinds: [],
    nodeName: 'n',
    clock,
    log: silentLogger,
    metrics: createMetrics(),
    onSnapshot: ({ services }) => void told.push(services.size),
    untilComplete: () => complete.promise,
  });
  const others: number[] = [];
  const planeOf = (list: number[]): Plane => ({
    name: 'rules',
    ready: true,
    update: ({ services }) => void list.push(services.size),
    state: () => ({}),
    stop: () => Promise.resolve(),
  });
  pipeline.add(planeOf(seen), 'complete');
  pipeline.add(planeOf(others), 'now');
  pipeline.start();
  await clock.advance(0);
  store.apply('services', 'shop/a', service('a', '10.96.0.1'));
  await clock.advance(0);
  expect([told, seen, others]).toEqual([[0, 1], [], [0, 1]]);
  complete.resolve();
  await clock.advance(0);
  expect(seen).toEqual([1]);
  store.apply('services', 'shop/b', service('b', '10.96.0.2'));
  await clock.advance(0);
  expect(seen).toEqual([1, 2]);
  pipeline.stop();
});

function service(name: string, address: string): ServiceRecord {
  return serviceRecord({ name, clusterIPs: [ip(address)], ports: [] });
}
