import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Cidr } from '../../lib/cidr.ts';
import { buildRecords, type BuiltRecords } from './build.ts';
import { formatMessage, type ManifestOptions, type SourceDocument } from './document.ts';
import { parseYamlDocuments } from './yaml-documents.ts';
import { cidr } from '../../../test/support/values.ts';

function cidrs(...texts: string[]): readonly Cidr[] {
  return texts.map(cidr);
}

function build(text: string, options: Partial<ManifestOptions> = {}): BuiltRecords {
  const { documents, errors } = parseYamlDocuments('all.yaml', text);
  expect(errors).toEqual([]);
  return buildRecords(documents, options);
}

const errorsOf = (built: BuiltRecords): readonly string[] => built.errors.map(formatMessage);

interface Named {
  readonly name: string;
  readonly spec: object;
  readonly file?: string;
}

function services(list: readonly Named[], options: Partial<ManifestOptions> = {}): BuiltRecords {
  const documents = list.map(({ name, spec, file }, index): SourceDocument => ({
    file: file ?? 'all.yaml',
    line: index + 1,
    object: { apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } },
  }));
  return buildRecords(documents, options);
}

const addressOf = (built: BuiltRecords, name: string): string | undefined =>
  built.entries.services.get(`default/${name}`)?.clusterIPs[0];

test('a document that is no object, names no kind, or an unknown version, is an error at its line; others count', () => {
  const built = build(
    [
      'apiVersion: v1',
      'kind: Namespace',
      'metadata: {name: shop}',
      '---',
      'just text',
      '---',
      'metadata: {name: x}',
      '---',
      'apiVersion: v2',
      'kind: Service',
      'metadata: {name: x}',
      '---',
      'apiVersion: apps/v1',
      'kind: Deployment',
      'metadata: {name: x}',
      '---',
      '# only a comment',
    ].join('\n'),
  );
  expect(errorsOf(built)).toEqual([
    'all.yaml:5: not a Kubernetes object: a document must be a map with apiVersion and kind',
    'all.yaml:7: not a Kubernetes object: kind is missing',
    'all.yaml:9: Service: apiVersion v2 is not known here: write v1',
  ]);
  expect(built.ignored.map(formatMessage)).toEqual([
    'all.yaml:14: Deployment of apps/v1 is not read: nothing here needs it',
  ]);
  expect([...built.entries.namespaces.keys()]).toEqual(['default', 'shop']);
});

test('an error names the line of its field, in a list too', () => {
  const built = build(
    [
      'apiVersion: v1',
      'kind: List',
      'items:',
      '- apiVersion: v1',
      '  kind: Service',
      '  metadata: {name: a}',
      '  spec:',
      '    ports:',
      '    - {name: a, port: 80}',
      '    - name: b',
      '      port: 0',
      '- apiVersion: v1',
      '  kind: Namespace',
      '  metadata: {name: shop}',
    ].join('\n'),
  );
  expect(errorsOf(built)).toEqual([
    'all.yaml:11: Service default/a: spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive',
  ]);
  expect(built.entries.namespaces.has('shop')).toBe(true);
});

test('an object that stands twice counts once, and both places are named', () => {
  const built = services([
    { name: 'a', spec: { ports: [{ port: 1 }] } },
    { name: 'a', spec: { ports: [{ port: 2 }] }, file: 'b.yaml' },
  ]);
  expect(errorsOf(built)).toEqual([
    'b.yaml:2: Service default/a stands at all.yaml:1 already, and that one counts: remove one',
  ]);
  expect(built.entries.services.get('default/a')?.ports[0]?.port).toBe(1);
});

test('an object that was good and is refused now stays as it was', () => {
  const document = (port: number): SourceDocument => ({
    file: 'a.yaml',
    line: 1,
    object: { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec: { ports: [{ port }] } },
  });
  const before = buildRecords([document(80)]);
  const after = buildRecords([document(70_000)], {}, before.accepted);
  expect(after.errors).toHaveLength(1);
  expect(after.entries.services.get('default/a')?.ports[0]?.port).toBe(80);
  expect(buildRecords([], {}, after.accepted).entries.services.size).toBe(0);
});

test('what names no address gets one of the range, dual stack where asked for, headless and ExternalName none', () => {
  const built = services(
    [
      { name: 'plain', spec: {} },
      { name: 'dual', spec: { ipFamilyPolicy: 'PreferDualStack' } },
      { name: 'six', spec: { ipFamilies: ['IPv6'] } },
      { name: 'half', spec: { ipFamilyPolicy: 'RequireDualStack', clusterIP: '192.0.2.9' } },
      { name: 'headless', spec: { clusterIP: 'None' } },
      { name: 'out', spec: { type: 'ExternalName', externalName: 'example.com.' } },
    ],
    { clusterIPRanges: cidrs('172.30.0.0/16', 'fd00:10:96::/112') },
  );
  expect(built.errors).toEqual([]);
  const ips = (name: string) => built.entries.services.get(`default/${name}`)?.clusterIPs;
  expect(ips('plain')).toEqual([expect.stringMatching(/^172\.30\./)]);
  expect(ips('dual')).toEqual([expect.stringMatching(/^172\.30\./), expect.stringMatching(/^fd00:10:96::/)]);
  expect(ips('six')).toEqual([expect.stringMatching(/^fd00:10:96::/)]);
  expect(ips('half')).toEqual(['192.0.2.9', expect.stringMatching(/^fd00:10:96::/)]);
  expect(ips('headless')).toEqual([]);
  expect(ips('out')).toEqual([]);
  expect(built.entries.services.get('default/out')?.externalName).toBe('example.com');
});

test('RequireDualStack without a second range says which range to give', () => {
  const built = services([{ name: 'a', spec: { ipFamilyPolicy: 'RequireDualStack' } }]);
  expect(errorsOf(built)).toEqual([
    expect.stringContaining('give a range of IPv6 as well with --service-cluster-ip-range'),
  ]);
});

test('node ports are given where the type has them, the same to both protocols of a port', () => {
  const dns = [
    { name: 'udp', port: 53, protocol: 'UDP' },
    { name: 'tcp', port: 53 },
    { name: 'metrics', port: 9153 },
  ];
  const built = services([
    { name: 'np', spec: { type: 'NodePort', ports: dns } },
    { name: 'named', spec: { type: 'NodePort', ports: [{ ...dns[0] }, { ...dns[1], nodePort: 30_053 }] } },
    { name: 'lb', spec: { type: 'LoadBalancer', externalTrafficPolicy: 'Local' } },
    { name: 'none', spec: { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false } },
  ]);
  expect(built.errors).toEqual([]);
  const of = (name: string) => built.entries.services.get(`default/${name}`);
  const [udp, tcp, metrics] = of('np')?.ports ?? [];
  expect(udp?.nodePort).toBe(tcp?.nodePort);
  expect(metrics?.nodePort).not.toBe(udp?.nodePort);
  expect(of('named')?.ports.map(({ nodePort }) => nodePort)).toEqual([30_053, 30_053]);
  expect(of('lb')?.healthCheckNodePort).toBeGreaterThanOrEqual(30_000);
  expect(of('lb')?.healthCheckNodePort).not.toBe(of('lb')?.ports[0]?.nodePort);
  expect(of('none')?.ports[0]?.nodePort).toBeUndefined();
});

test('an address or port that two Services claim is an error that names both; the first keeps it', () => {
  const built = services([
    { name: 'a', spec: { clusterIP: '10.96.0.1', type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] } },
    { name: 'b', spec: { clusterIP: '10.96.0.1' }, file: 'b.yaml' },
    { name: 'c', spec: { type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }, file: 'c.yaml' },
    { name: 'd', spec: { type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] }, file: 'd.yaml' },
  ]);
  const whose = 'Service default/a (all.yaml:1) claims it; change one of them, or name none and have one chosen';
  expect(errorsOf(built)).toEqual([
    `b.yaml:2: Service default/b: spec.clusterIP: Invalid value: "10.96.0.1": provided IP is already allocated: ${whose}`,
    `c.yaml:3: Service default/c: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated: ${whose}`,
    'd.yaml:4: Service default/d: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767 (--service-node-port-range)',
  ]);
  expect([...built.entries.services.keys()]).toEqual(['default/a']);
});

test('a range that is full is said so, and neither its network nor its broadcast address is given', () => {
  const options = { clusterIPRanges: cidrs('10.0.0.0/30') };
  const built = services(
    ['a', 'b', 'c'].map((name) => ({ name, spec: {} })),
    options,
  );
  const given = [...built.entries.services.values()].flatMap(({ clusterIPs }) => clusterIPs);
  expect(given.sort()).toEqual(['10.0.0.1', '10.0.0.2']);
  expect(errorsOf(built)).toEqual([expect.stringContaining('give a larger one with --service-cluster-ip-range')]);
});

const nameArbitrary = fc.stringMatching(/^[a-z]{1,3}$/);

test('the choice of addresses and ports does not depend on the order of the files', () => {
  fc.assert(
    fc.property(fc.uniqueArray(nameArbitrary, { maxLength: 20 }), fc.nat(), (names, turn) => {
      const list = names.map((name): Named => ({ name, spec: { type: 'NodePort' } }));
      const at = names.length === 0 ? 0 : turn % names.length;
      // Small ranges, so that hashes collide.
      const options = { clusterIPRanges: cidrs('10.0.0.0/27'), nodePortRange: { from: 30_000, to: 30_031 } };
      const one = services(list, options).entries.services;
      const other = services([...list.slice(at), ...list.slice(0, at)].reverse(), options).entries.services;
      expect(new Map(other)).toEqual(new Map(one));
      const given = [...one.values()].map(({ clusterIPs }) => clusterIPs[0]);
      expect(new Set(given).size).toBe(names.length);
    }),
  );
});

test('in the default range an edit, an added and a removed Service leave the addresses of the others', () => {
  // Ten Services in 65,534 addresses: a common first choice is the only way to move one, and these names have none.
  const names = ['tea', 'coffee', 'redis', 'echo', 'web', 'api', 'db', 'queue', 'mail', 'search'];
  const all = services(names.map((name) => ({ name, spec: {} })));
  for (const gone of names) {
    const others = names.filter((name) => name !== gone);
    const fewer = services(others.map((name) => ({ name, spec: { ports: [{ port: 81 }] } })));
    for (const name of others) expect(addressOf(fewer, name)).toBe(addressOf(all, name));
  }
  expect(addressOf(all, 'tea')).toBe(addressOf(services([{ name: 'tea', spec: {} }]), 'tea'));
});

test('an explicit claim wins over a choice, whichever stands first', () => {
  const chosen = addressOf(services([{ name: 'a', spec: {} }]), 'a');
  const built = services([
    { name: 'a', spec: {} },
    { name: 'b', spec: { clusterIP: chosen } },
  ]);
  expect(built.errors).toEqual([]);
  expect(addressOf(built, 'b')).toBe(chosen);
  expect(addressOf(built, 'a')).not.toBe(chosen);
});

test('the own Node is made when no object describes it', () => {
  const options = { nodeName: 'node-a', nodeIPs: [] };
  expect(build('', options).entries.nodes.get('node-a')).toEqual({
    name: 'node-a',
    ips: [],
    zone: undefined,
    podCIDRs: [],
    leaving: false,
  });
  const text = 'apiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {topology.kubernetes.io/zone: z}}';
  expect(build(text, options).entries.nodes.get('node-a')?.zone).toBe('z');
});

test('a list as the API server answers it, whose items name no kind, is read', () => {
  const text = JSON.stringify({ kind: 'NamespaceList', apiVersion: 'v1', items: [{ metadata: { name: 'shop' } }] });
  expect(build(text).entries.namespaces.has('shop')).toBe(true);
});

test('a document that expands without bound is refused, not expanded', () => {
  const lines = ['a: &a [x, x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 10; i++) {
    const before = String.fromCharCode(96 + i);
    const name = String.fromCharCode(97 + i);
    lines.push(`${name}: &${name} [${Array.from({ length: 10 }, () => `*${before}`).join(', ')}]`);
  }
  const { documents, errors } = parseYamlDocuments('bomb.yaml', lines.join('\n'));
  expect(documents).toEqual([]);
  expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('not valid YAML')]);
});
