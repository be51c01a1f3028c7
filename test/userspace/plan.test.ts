import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { cluster, type ServiceSpec } from './world.ts';
import {
  ListenerTable,
  diffListeners,
  listenersOf,
  nodePortAddresses,
  planListeners,
  type Listener,
} from '../../src/rules/userspace/plan.ts';
import { cidr, ip } from '../support/values.ts';

const NODE_IP = ip('192.168.0.2');
const LOOPBACK = [ip('127.0.0.1'), ip('::1')];

function keys(service: Partial<ServiceSpec>): readonly string[] {
  const spec = { name: 'web', ip: '127.96.0.1', port: 80, endpoints: [{ ip: '127.0.1.1', port: 8080 }], ...service };
  return [...planListeners(cluster([spec]).snapshot, LOOPBACK).keys()];
}

test('a Service listens on its ClusterIP, external IPs, load balancer VIPs, and its NodePort', () => {
  const service = {
    nodePort: 30080,
    externalIPs: [ip('198.51.100.1')],
    loadBalancerIPs: [
      { ip: ip('198.51.100.2'), vip: true },
      { ip: ip('198.51.100.3'), vip: false },
    ],
  };
  expect(keys(service)).toEqual([
    'TCP 127.0.0.1:30080',
    'TCP 127.96.0.1:80',
    'TCP 198.51.100.1:80',
    'TCP 198.51.100.2:80',
  ]);
});

test('nothing listens for a Service without endpoints, for SCTP, and for TCP that every source is dropped from', () => {
  const elsewhere = [{ ip: '127.0.1.1', port: 8080, node: 'node-b' }];
  expect(keys({ endpoints: [] })).toEqual([]);
  expect(keys({ protocol: 'SCTP' })).toEqual([]);
  expect(keys({ internalTrafficPolicy: 'Local', endpoints: elsewhere })).toEqual([]);
  expect(keys({ internalTrafficPolicy: 'Local', endpoints: elsewhere, protocol: 'UDP' })).toEqual([
    'UDP 127.96.0.1:80',
  ]);
});

test('an external address under policy Local listens for the node itself even without local endpoints', () => {
  const elsewhere = [{ ip: '127.0.1.1', port: 8080, node: 'node-b' }];
  expect(keys({ externalTrafficPolicy: 'Local', nodePort: 30080, endpoints: elsewhere })).toContain(
    'TCP 127.0.0.1:30080',
  );
});

test('NodePorts answer on the node addresses that this machine has, and on loopback', () => {
  const own = [...LOOPBACK, ip('10.1.1.1'), ip('fd00::5'), NODE_IP];
  expect(nodePortAddresses({ kind: 'primary' }, [NODE_IP, ip('203.0.113.9')], own)).toEqual([...LOOPBACK, NODE_IP]);
  expect(nodePortAddresses({ kind: 'all' }, [NODE_IP], own)).toEqual(own);
  expect(nodePortAddresses({ kind: 'cidrs', cidrs: [cidr('10.0.0.0/8')] }, [NODE_IP], own)).toEqual([
    ip('::1'),
    ip('10.1.1.1'),
    ip('fd00::5'),
  ]);
});

// Few names, addresses and ports, so that Services often claim the same listener.
const spec: fc.Arbitrary<ServiceSpec> = fc.record({
  name: fc.constantFrom('a', 'b', 'c', 'd'),
  ip: fc.constantFrom('127.96.0.1', '127.96.0.2'),
  port: fc.constantFrom(80, 443),
  protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
  endpoints: fc.array(fc.constant({ ip: '127.0.1.1', port: 8080 }), { maxLength: 1 }),
  externalIPs: fc.subarray([ip('127.96.0.2'), ip('127.0.0.1')]),
});
const specs = fc.uniqueArray(
  fc.tuple(spec, fc.option(fc.constantFrom(80, 30080), { nil: undefined })).map(([base, nodePort]): ServiceSpec => {
    return nodePort === undefined ? base : { ...base, nodePort };
  }),
  { selector: ({ name }) => name, maxLength: 4 },
);

test('the table kept up with changes equals the plan of each Snapshot, and its changes lead from one to the next', () => {
  fc.assert(
    fc.property(fc.array(specs, { maxLength: 6 }), (history) => {
      const table = new ListenerTable();
      const bound = new Map<string, Listener>();
      let previous = cluster([]);
      for (const services of history) {
        const next = cluster(services, previous);
        const changes = table.change(next.snapshot.services.differences(previous.snapshot.services), LOOPBACK);
        for (const key of changes.close) expect(bound.delete(key)).toBe(true);
        for (const listener of changes.open) {
          expect(bound.has(listener.key)).toBe(false);
          bound.set(listener.key, listener);
        }
        for (const listener of changes.change) {
          expect(bound.has(listener.key)).toBe(true);
          bound.set(listener.key, listener);
        }
        const planned = planListeners(next.snapshot, LOOPBACK);
        expect(new Map(table.listeners())).toEqual(planned);
        expect(bound).toEqual(planned);
        previous = next;
      }
    }),
    { numRuns: 200 },
  );
});

test('the difference of two plans, applied to the first, gives the second', () => {
  fc.assert(
    fc.property(specs, specs, (first, second) => {
      const before = planListeners(cluster(first).snapshot, LOOPBACK);
      const after = planListeners(cluster(second).snapshot, LOOPBACK);
      const { open, change, close } = diffListeners(before, after);
      const result = new Map(before);
      for (const key of close) result.delete(key);
      for (const listener of [...open, ...change]) result.set(listener.key, listener);
      expect(result).toEqual(after);
      expect(diffListeners(after, after)).toEqual({ open: [], change: [], close: [] });
    }),
  );
});

test('a Service that nobody carries here has no listener', () => {
  const [service] = cluster([
    { name: 'web', ip: '127.96.0.1', port: 80, endpoints: [{ ip: '127.0.1.1', port: 80 }], proxyName: 'other' },
  ]).snapshot.services.values();
  expect(listenersOf(service, LOOPBACK)).toEqual([]);
});
