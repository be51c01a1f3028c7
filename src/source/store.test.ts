import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { EndpointSliceRecord, NamespaceRecord } from '../model/records.ts';
import { Store } from './store.ts';

const slice = (name: string, serviceName: string, hostname?: string): EndpointSliceRecord => ({
  namespace: 'shop',
  name,
  serviceName,
  family: 4,
  ports: [],
  endpoints:
    hostname === undefined
      ? []
      : [
          {
            ip: '10.0.0.1' as never,
            ready: true,
            serving: true,
            terminating: false,
            nodeName: undefined,
            zone: undefined,
            hostname,
            podName: undefined,
            zoneHints: undefined,
            nodeHints: undefined,
          },
        ],
});

test('a relist with equal records changes nothing and tells nobody', () => {
  const store = new Store();
  store.replace('endpointSlices', [['shop/a', slice('a', 'web', 'h')]]);
  const before = store.records;
  let calls = 0;
  store.onChange(() => calls++);
  store.replace('endpointSlices', [['shop/a', slice('a', 'web', 'h')]]);
  store.apply('endpointSlices', 'shop/a', slice('a', 'web', 'h'));
  expect(store.records).toBe(before);
  expect(calls).toBe(0);
});

test('a slice that moves to another Service leaves the first', () => {
  const store = new Store();
  store.apply('endpointSlices', 'shop/b', slice('b', 'web'));
  store.apply('endpointSlices', 'shop/a', slice('a', 'web'));
  expect(store.records.endpointSlices.get('shop/web')?.map(({ name }) => name)).toEqual(['a', 'b']);
  store.apply('endpointSlices', 'shop/a', slice('a', 'api'));
  expect(store.records.endpointSlices.get('shop/web')?.map(({ name }) => name)).toEqual(['b']);
  expect(store.records.endpointSlices.get('shop/api')?.map(({ name }) => name)).toEqual(['a']);
  store.apply('endpointSlices', 'shop/b', undefined);
  expect(store.records.endpointSlices.has('shop/web')).toBe(false);
});

test('a batch is told once, and a value taken before it stays as it was', () => {
  const store = new Store();
  const before = store.records;
  let calls = 0;
  const stop = store.onChange(() => calls++);
  store.batch(() => {
    store.apply('namespaces', 'a', { name: 'a' });
    store.apply('namespaces', 'b', { name: 'b' });
  });
  expect(calls).toBe(1);
  expect(before.namespaces.size).toBe(0);
  stop();
  store.apply('namespaces', 'c', { name: 'c' });
  expect(calls).toBe(1);
});

test('a kind is synced by its first whole reading, or when it is said to be', async () => {
  const store = new Store();
  const order: string[] = [];
  const waiting = [
    store.synced('services').then(() => order.push('services')),
    store.synced('pods').then(() => order.push('pods')),
  ];
  store.apply('services', 'shop/web', undefined);
  expect(store.isSynced('services')).toBe(false);
  store.replace('services', []);
  store.markSynced('pods');
  await Promise.all(waiting);
  await store.synced('pods');
  expect(order).toEqual(['services', 'pods']);
});

test('any sequence of changes gives what one replacement by the outcome gives', () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd');
  const change = fc.record({
    key,
    service: fc.option(fc.constantFrom('web', 'api'), { nil: undefined }),
    relist: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const store = new Store();
      const plain = new Map<string, EndpointSliceRecord>();
      const names = new Map<string, NamespaceRecord>();
      for (const { key, service, relist } of changes) {
        const record = service === undefined ? undefined : slice(key, service);
        if (record) plain.set(`shop/${key}`, record);
        else plain.delete(`shop/${key}`);
        names.set(key, { name: key });
        if (relist) store.replace('endpointSlices', plain);
        else store.apply('endpointSlices', `shop/${key}`, record);
        store.apply('namespaces', key, { name: key });
      }
      const rebuilt = new Store();
      rebuilt.replace('endpointSlices', plain);
      rebuilt.replace('namespaces', names);
      expect(new Map(store.records.endpointSlices.entries())).toEqual(
        new Map(rebuilt.records.endpointSlices.entries()),
      );
      expect(new Map(store.records.namespaces.entries())).toEqual(names);
    }),
  );
});
