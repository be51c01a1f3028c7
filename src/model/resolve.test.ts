import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PersistentMap } from '../lib/persistent-map.ts';
import { changesBetween } from './changes.ts';
import type { EndpointSliceRecord, Records, ServiceRecord, SliceEndpoint } from './records.ts';
import { resolve, type Resolution } from './resolve.ts';
import type { NodeIdentity, Snapshot } from './snapshot.ts';
import { cidr, ip, port } from '../../test/support/values.ts';
import { serviceRecord } from '../../test/support/records.ts';
import { EMPTY_RECORDS } from '../source/store.ts';

const NODE: NodeIdentity = { name: 'node-a', ips: [ip('192.168.0.2')], zone: 'zone-a', podCIDRs: [] };

function endpoint(over: Partial<SliceEndpoint> = {}): SliceEndpoint {
  return {
    ip: ip('10.0.0.1'),
    ready: true,
    serving: true,
    terminating: false,
    nodeName: 'node-a',
    zone: 'zone-a',
    hostname: undefined,
    podName: undefined,
    zoneHints: undefined,
    nodeHints: undefined,
    ...over,
  };
}

function slice(name: string, endpoints: readonly SliceEndpoint[]): EndpointSliceRecord {
  const ports = [{ name: 'http', protocol: 'TCP' as const, port: port(8080) }];
  return { namespace: 'shop', name: `${name}-1`, serviceName: name, family: 4, ports, endpoints };
}

const anyEndpoint = fc
  .record({
    ip: fc.constantFrom(ip('10.0.0.1'), ip('10.0.0.2'), ip('10.0.1.1')),
    ready: fc.boolean(),
    serving: fc.boolean(),
    terminating: fc.boolean(),
    nodeName: fc.constantFrom('node-a', 'node-b', undefined),
    zoneHints: fc.constantFrom(undefined, ['zone-a'], ['zone-b']),
    nodeHints: fc.constantFrom(undefined, ['node-a'], ['node-b']),
  })
  .map((over) => endpoint(over));

const anyService = fc
  .record({
    internalTrafficPolicy: fc.constantFrom('Cluster' as const, 'Local' as const),
    externalTrafficPolicy: fc.constantFrom('Cluster' as const, 'Local' as const),
    externalIPs: fc.constantFrom([], [ip('198.51.100.1')]),
    headless: fc.boolean(),
    proxyName: fc.constantFrom(undefined, 'other'),
  })
  .map((over) => ({ ...over, clusterIPs: over.headless ? [] : [ip('172.30.0.1')] }));

type Step = (records: Records) => Records;

const name = fc.constantFrom('a', 'b', 'c');
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(name, fc.option(anyService, { nil: undefined })).map(([key, over]): Step => {
    const record = over && serviceRecord({ ...over, name: key });
    return (records) => ({ ...records, services: records.services.with([[`shop/${key}`, record]]) });
  }),
  fc.tuple(name, fc.array(anyEndpoint, { maxLength: 4 })).map(([key, endpoints]): Step => {
    const slices = endpoints.length === 0 ? undefined : [slice(key, endpoints)];
    return (records) => ({ ...records, endpointSlices: records.endpointSlices.with([[`shop/${key}`, slices]]) });
  }),
);

/** Ports and members are made when they are read. */
function plain(snapshot: Snapshot) {
  const entries = [...snapshot.services.entries()];
  return Object.fromEntries(entries.map(([key, one]) => [key, { ...one, ports: one.ports, members: one.members }]));
}

describe('resolve', () => {
  test('increments equal a full resolution over any sequence of changes, of the node too', () => {
    const zone = fc.constantFrom('zone-a', 'zone-b', undefined);
    fc.assert(
      fc.property(fc.array(fc.tuple(step, zone), { maxLength: 12 }), (steps) => {
        let records = EMPTY_RECORDS;
        let last: Resolution | undefined;
        for (const [change, inZone] of steps) {
          records = change(records);
          const node = { ...NODE, zone: inZone };
          const full = resolve(records, node);
          last = resolve(records, node, last);
          expect(plain(last.snapshot)).toEqual(plain(full.snapshot));
          expect(last.snapshot.node).toEqual(node);
        }
      }),
    );
  });

  test('a change that no plane can see keeps the Snapshot itself', () => {
    const records = { ...EMPTY_RECORDS, services: PersistentMap.from([['shop/web', serviceRecord()]]) };
    const first = resolve(records, NODE);
    expect(resolve({ ...records }, { ...NODE }, first).snapshot).toBe(first.snapshot);
    const nodes = {
      ...records,
      nodes: PersistentMap.from([['x', { name: 'x', ips: [], zone: undefined, podCIDRs: [], leaving: false }]]),
    };
    expect(resolve(nodes, NODE, first).snapshot).toBe(first.snapshot);
  });

  test('a Service that did not change keeps its object, so that planes skip it', () => {
    const services = PersistentMap.from([
      ['shop/web', serviceRecord()],
      ['shop/api', serviceRecord({ name: 'api', clusterIPs: [ip('172.30.0.2')] })],
    ]);
    const first = resolve({ ...EMPTY_RECORDS, services }, NODE);
    const next = resolve(
      { ...EMPTY_RECORDS, services, endpointSlices: PersistentMap.from([['shop/api', [slice('api', [endpoint()])]]]) },
      NODE,
      first,
    );
    expect(next.snapshot.revision).toBe(first.snapshot.revision + 1);
    expect(next.snapshot.services.get('shop/web')).toBe(first.snapshot.services.get('shop/web'));
    expect(next.snapshot.services.get('shop/api')).not.toBe(first.snapshot.services.get('shop/api'));
  });

  test('source ranges count by family, and a /0 among them lets everybody in', () => {
    const rangesOf = (...ranges: string[]) => {
      const services = PersistentMap.from([['shop/web', serviceRecord({ sourceRanges: ranges.map(cidr) })]]);
      return resolve({ ...EMPTY_RECORDS, services }, NODE).snapshot.services.get('shop/web')?.ports[0]?.sourceRanges;
    };
    expect(rangesOf('10.0.0.0/8', 'fd00::/64')).toEqual(['10.0.0.0/8']);
    expect(rangesOf('fd00::/64')).toBeUndefined();
    expect(rangesOf('10.0.0.0/8', '0.0.0.0/0')).toBeUndefined();
    expect(rangesOf('10.0.0.0/8', '::/0')).toEqual(['10.0.0.0/8']);
  });
});

describe('changesBetween', () => {
  const web = (over: Partial<ServiceRecord>, endpoints: readonly SliceEndpoint[] = []): Snapshot =>
    resolve(
      {
        ...EMPTY_RECORDS,
        services: PersistentMap.from([['shop/web', serviceRecord(over)]]),
        endpointSlices: PersistentMap.from([['shop/web', [slice('web', endpoints)]]]),
      },
      NODE,
    ).snapshot;
  const nothing = resolve(EMPTY_RECORDS, NODE).snapshot;

  test('a ServicePort that comes or goes', () => {
    expect(changesBetween(nothing, web({})).map(({ kind, key }) => [kind, key])).toEqual([
      ['added', 'shop/web:http/TCP/IPv4'],
    ]);
    expect(changesBetween(web({}), nothing).map(({ kind }) => kind)).toEqual(['removed']);
    expect(changesBetween(nothing, nothing)).toEqual([]);
  });

  test('a Service that is given to another proxy loses its ports', () => {
    expect(changesBetween(web({}), web({ proxyName: 'other' })).map(({ kind }) => kind)).toEqual(['removed']);
  });

  test.each<[string, Partial<ServiceRecord>, readonly SliceEndpoint[], readonly string[]]>([
    ['an address', { externalIPs: [ip('198.51.100.1')] }, [], ['addresses']],
    ['affinity', { affinityTimeoutSeconds: 60 }, [], ['policies']],
    ['an endpoint', {}, [endpoint()], ['endpoints']],
    ['nothing', {}, [], []],
  ])('%s', (_what, over, endpoints, aspects) => {
    const changes = changesBetween(web({}), web(over, endpoints));
    expect(
      changes.flatMap((change): readonly string[] => (change.kind === 'changed' ? change.aspects : [change.kind])),
    ).toEqual(aspects);
  });
});
