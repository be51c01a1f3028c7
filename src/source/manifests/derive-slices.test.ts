import { expect, test } from 'vitest';
import type { EndpointSliceRecord, SliceEndpoint } from '../../model/records.ts';
import { buildRecords, type BuiltRecords } from './build.ts';
import type { SourceDocument } from './document.ts';

interface Given {
  readonly service?: object;
  readonly pods: readonly {
    readonly name: string;
    readonly spec?: object;
    readonly status?: object;
    readonly meta?: object;
  }[];
  readonly more?: readonly object[];
}

function build({ service, pods, more }: Given): BuiltRecords {
  const objects: object[] = [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace: 'shop' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }], ...service },
    },
    ...pods.map(({ name, spec, status, meta }) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'shop', labels: { app: 'web' }, ...meta },
      spec: { nodeName: 'n1', ...spec },
      status: { podIP: '10.0.0.1', ...status },
    })),
    { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'z1' } } },
    ...(more ?? []),
  ];
  const built = buildRecords(objects.map((object, index): SourceDocument => ({ file: 'f', line: index + 1, object })));
  expect(built.errors).toEqual([]);
  return built;
}

function slicesOf(given: Given): readonly EndpointSliceRecord[] {
  return [...build(given).entries.endpointSlices.values()];
}

const conditions = (status: string): object => ({ conditions: [{ type: 'Ready', status }] });
const state = ({ ready, serving, terminating }: SliceEndpoint): string =>
  [ready && 'ready', serving && 'serving', terminating && 'terminating'].filter(Boolean).join(' ');
const deleted = { deletionTimestamp: '2026-01-01T00:00:00Z' };

test('a Pod becomes an endpoint with its node, zone and name', () => {
  expect(slicesOf({ pods: [{ name: 'web-1' }] })).toEqual([
    {
      namespace: 'shop',
      name: 'web-ipv4',
      serviceName: 'web',
      family: 4,
      ports: [{ name: '', protocol: 'TCP', port: 8080 }],
      endpoints: [
        {
          ip: '10.0.0.1',
          ready: true,
          serving: true,
          terminating: false,
          nodeName: 'n1',
          zone: 'z1',
          hostname: undefined,
          podName: 'web-1',
          zoneHints: undefined,
          nodeHints: undefined,
        },
      ],
    },
  ]);
});

test.each<[string, Given, readonly string[]]>([
  ['no conditions and no phase', { pods: [{ name: 'a' }] }, ['ready serving']],
  ['no conditions, Running', { pods: [{ name: 'a', status: { phase: 'Running' } }] }, ['ready serving']],
  ['no conditions, Pending', { pods: [{ name: 'a', status: { phase: 'Pending' } }] }, ['']],
  ['Ready is True', { pods: [{ name: 'a', status: conditions('True') }] }, ['ready serving']],
  ['Ready is False', { pods: [{ name: 'a', status: conditions('False') }] }, ['']],
  [
    'Ready, being deleted',
    { pods: [{ name: 'a', meta: deleted, status: conditions('True') }] },
    ['serving terminating'],
  ],
  ['not Ready, being deleted', { pods: [{ name: 'a', meta: deleted, status: conditions('False') }] }, ['terminating']],
  [
    'not Ready, but the Service publishes it',
    { service: { publishNotReadyAddresses: true }, pods: [{ name: 'a', status: conditions('False') }] },
    ['ready'],
  ],
  [
    'being deleted, but the Service publishes it',
    { service: { publishNotReadyAddresses: true }, pods: [{ name: 'a', meta: deleted }] },
    ['ready serving terminating'],
  ],
  ['Succeeded', { pods: [{ name: 'a', status: { phase: 'Succeeded' } }] }, []],
  ['no address yet', { pods: [{ name: 'a', status: { podIP: '' } }] }, []],
  ['another label', { pods: [{ name: 'a', meta: { labels: { app: 'other' } } }] }, []],
  ['another namespace', { pods: [{ name: 'a', meta: { namespace: 'other' } }] }, []],
])('%s', (_title, given, states) => {
  expect(slicesOf(given).flatMap(({ endpoints }) => endpoints.map(state))).toEqual(states);
});

const port = (name: string, containerPort: number, protocol = 'TCP'): object => ({ name, containerPort, protocol });

test('a named target port is looked up in each Pod, by protocol, sidecars included', () => {
  const slices = slicesOf({
    service: {
      ports: [
        { name: 'http', port: 80, targetPort: 'http' },
        { name: 'dns', port: 53, protocol: 'UDP', targetPort: 'dns' },
      ],
    },
    pods: [
      { name: 'a', spec: { containers: [{ ports: [port('http', 8080), port('dns', 53)] }] } },
      { name: 'b', spec: { containers: [{ ports: [port('http', 8080)] }] }, status: { podIP: '10.0.0.2' } },
      {
        name: 'c',
        spec: {
          containers: [{ ports: [port('dns', 1053, 'UDP')] }],
          initContainers: [{ restartPolicy: 'Always', ports: [port('http', 9090)] }, { ports: [port('http', 1)] }],
        },
        status: { podIP: '10.0.0.3' },
      },
    ],
  });
  expect(
    slices.map(({ name, ports, endpoints }) => [
      name,
      ports.map((p) => `${p.name}:${p.port}`),
      endpoints.map(({ ip }) => ip),
    ]),
  ).toEqual([
    // The first two have no UDP port of that name, so they serve HTTP alone.
    ['web-ipv4', ['http:8080'], ['10.0.0.1', '10.0.0.2']],
    ['web-ipv4-2', ['http:9090', 'dns:1053'], ['10.0.0.3']],
  ]);
});

test('a hostname is taken over when the subdomain is that of the Service', () => {
  const hostnames = (subdomain: string) =>
    slicesOf({
      service: { clusterIP: 'None' },
      pods: [{ name: 'a', spec: { hostname: 'db-0', subdomain } }],
    }).flatMap(({ endpoints }) => endpoints.map(({ hostname }) => hostname));
  expect(hostnames('web')).toEqual(['db-0']);
  expect(hostnames('other')).toEqual([undefined]);
});

test.each([
  ['PreferClose', ['z1'], undefined],
  ['PreferSameZone', ['z1'], undefined],
  ['PreferSameNode', ['z1'], ['n1']],
])('trafficDistribution %s gives its hints to ready endpoints', (trafficDistribution, zoneHints, nodeHints) => {
  const pods = [{ name: 'a' }, { name: 'b', status: { podIP: '10.0.0.2', ...conditions('False') } }];
  const endpoints = slicesOf({ service: { trafficDistribution }, pods }).flatMap((slice) => slice.endpoints);
  expect(endpoints.map((endpoint) => [endpoint.zoneHints, endpoint.nodeHints])).toEqual([
    [zoneHints, nodeHints],
    [undefined, undefined],
  ]);
});

test('each family of the Service has slices of its own', () => {
  const podIPs = [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }];
  const families = (spec: object): readonly number[] =>
    slicesOf({ service: spec, pods: [{ name: 'a', status: { podIPs } }] }).map(({ family }) => family);
  expect(families({})).toEqual([4]);
  expect(families({ clusterIPs: ['10.96.0.1', 'fd00:10::1'] })).toEqual([4, 6]);
  expect(families({ clusterIP: 'None', ipFamilies: ['IPv6'] })).toEqual([6]);
});

const sliceObject = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-abc', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 1 }],
  endpoints: [{ addresses: ['192.0.2.1'] }],
};
const endpointsObject = {
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: 'web', namespace: 'shop' },
  subsets: [{ addresses: [{ ip: '192.0.2.2' }], notReadyAddresses: [{ ip: '192.0.2.3' }], ports: [{ port: 2 }] }],
};

const ipsOf = (given: Given): readonly string[] =>
  slicesOf(given).flatMap(({ endpoints }) => endpoints.map((endpoint) => `${endpoint.ip} ${state(endpoint)}`));

test('EndpointSlice objects of a Service stand before its Pods, with a notice', () => {
  const built = build({ pods: [{ name: 'a' }], more: [sliceObject] });
  expect([...built.entries.endpointSlices.keys()]).toEqual(['shop/web-abc']);
  expect(built.notices.map(({ message }) => message)).toEqual([
    'Service shop/web: its EndpointSlice objects (f:4) stand; its selector is not used',
  ]);
});

test('a thousand Services whose EndpointSlice objects stand are told of in one line', () => {
  const pair = (name: string): object[] => [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: 'shop' },
      spec: { selector: { app: name }, ports: [{ port: 80 }] },
    },
    {
      ...sliceObject,
      metadata: { name: `${name}-1`, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
    },
  ];
  const built = build({ pods: [], more: Array.from({ length: 1000 }, (_, i) => pair(`s${i}`)).flat() });
  expect(built.notices.map(({ line, message }) => [line, message])).toEqual([
    [
      3,
      'Service shop/s0: it and 999 other Services have EndpointSlice objects: these stand, and no selector of theirs is used',
    ],
  ]);
});

test('Endpoints objects are converted for a Service without selector, unless it has slices', () => {
  const service = { selector: undefined };
  const pods: Given['pods'] = [];
  expect(ipsOf({ service, pods, more: [endpointsObject] })).toEqual(['192.0.2.2 ready serving', '192.0.2.3 ']);
  expect(ipsOf({ service, pods, more: [endpointsObject, sliceObject] })).toEqual(['192.0.2.1 ready serving']);
  expect(ipsOf({ pods: [{ name: 'a' }], more: [endpointsObject] })).toEqual(['10.0.0.1 ready serving']);
});
