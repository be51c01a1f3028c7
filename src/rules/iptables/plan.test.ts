import { expect, test } from 'vitest';
import { CONFIG, NODE, clusterOf, type ServiceSketch } from '../../../test/rules/cluster.ts';
import { defaultRulesConfig, type RulesConfig } from '../config.ts';
import { endpointHash, servicePortHash, servicePortName } from './names.ts';
import { LARGE_CLUSTER_ENDPOINTS, Planner, linesIn } from './plan.ts';
import { renderIptables } from './render.ts';
import { cidr, ip, port } from '../../../test/support/values.ts';

const ALL: RulesConfig = { ...CONFIG, nodePortAddresses: { kind: 'all' } };
const WEB: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.41'], endpoints: ['10.180.0.1:80', '10.180.0.2:80'] };

function chainsOf(sketches: readonly ServiceSketch[], config = ALL): ReadonlyMap<string, string> {
  const changes = new Planner(config, { dropInvalid: true }).advance(clusterOf(sketches).snapshot);
  return new Map(changes.map(({ id, after }) => [id, after ?? '']));
}

test('names are those of kube-proxy', () => {
  const name = servicePortName('ns1/svc1', 'p80');
  expect(servicePortHash(name, 'TCP')).toBe('XPGD46QRK7WJZT7O');
  expect(endpointHash(name, 'TCP', ip('10.180.0.1'), 80)).toBe('SXIVWICOYRO3J4NJ');
  expect(servicePortHash(servicePortName('ns4/svc4', 'p80'), 'TCP')).toBe('4SW47YFZTEDKD3PK');
  expect(servicePortName('ns/svc', '')).toBe('ns/svc');
});

function counts(services: number, endpoints: number, more: Partial<ServiceSketch> = {}): readonly [number, number] {
  const sketches = Array.from({ length: services }, (_, i) => ({
    name: `s${i}`,
    clusterIPs: [`172.30.0.${i + 1}`],
    endpoints: Array.from({ length: endpoints }, (_, j) => `10.${i}.0.${j + 1}:80`),
    ...more,
    ...(more.nodePort === undefined ? {} : { nodePort: more.nodePort + i }),
    ...(more.externalIPs === undefined ? {} : { externalIPs: [`198.51.100.${i + 1}`] }),
    ...(more.loadBalancerIPs === undefined ? {} : { loadBalancerIPs: [`203.0.113.${i + 1}`] }),
  }));
  const totals = { filter: 0, nat: 0 };
  for (const [id, text] of chainsOf(sketches)) {
    if (id.startsWith('4/filter/')) totals.filter += linesIn(text);
    if (id.startsWith('4/nat/')) totals.nat += linesIn(text);
  }
  // The rule that guards loopback stands in kubelet's chain.
  return [totals.filter + 1, totals.nat];
}

test.for([
  [0, 0, 4, 5],
  [1, 0, 5, 5],
  [1, 1, 4, 10],
  [1, 2, 4, 13],
  [1, 10, 4, 37],
  [10, 0, 14, 5],
  [10, 1, 4, 55],
  [10, 10, 4, 325],
] as const)(
  '%i Services × %i endpoints are %i filter rules and %i nat rules, as kube-proxy has',
  ([s, e, filter, nat]) => {
    expect(counts(s, e)).toEqual([filter, nat]);
  },
);

test.for([
  [1, 0, 8, 5],
  [1, 1, 5, 17],
  [10, 10, 14, 395],
] as const)(
  'with a load balancer, an external IP and a source range, %i × %i are %i filter rules and %i nat rules: kube-proxy has one more a NodePort, which only counts packets',
  ([s, e, filter, nat]) => {
    const more = { nodePort: 30_000, externalIPs: [''], loadBalancerIPs: [''], sourceRanges: ['1.2.3.0/28'] };
    expect(counts(s, e, more)).toEqual([filter, nat]);
  },
);

test('the chains of a Service read as people know them', () => {
  const text = renderIptables(clusterOf([{ ...WEB, affinitySeconds: 10_800, nodePort: 30_001 }]).snapshot, ALL);
  const hash = servicePortHash('default/web:p', 'TCP');
  const one = endpointHash('default/web:p', 'TCP', ip('10.180.0.1'), 80);
  const two = endpointHash('default/web:p', 'TCP', ip('10.180.0.2'), 80);
  const recent = '--mask 255.255.255.255 --rsource';
  const four = text.slice(0, text.indexOf('# iptables-restore, IPv6'));
  const lines = (chain: string): readonly string[] =>
    four.split('\n').filter((line) => line.startsWith(`-A ${chain} `));
  expect(lines(`KUBE-SVC-${hash}`)).toEqual([
    `-A KUBE-SVC-${hash} ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "default/web:p cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ`,
    `-A KUBE-SVC-${hash} -m comment --comment "default/web:p -> 10.180.0.1:80" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-${one} ${recent} -j KUBE-SEP-${one}`,
    `-A KUBE-SVC-${hash} -m comment --comment "default/web:p -> 10.180.0.2:80" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-${two} ${recent} -j KUBE-SEP-${two}`,
    `-A KUBE-SVC-${hash} -m comment --comment "default/web:p -> 10.180.0.1:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-${one}`,
    `-A KUBE-SVC-${hash} -m comment --comment "default/web:p -> 10.180.0.2:80" -j KUBE-SEP-${two}`,
  ]);
  expect(lines(`KUBE-SEP-${one}`)).toEqual([
    `-A KUBE-SEP-${one} -s 10.180.0.1/32 -m comment --comment "default/web:p" -j KUBE-MARK-MASQ`,
    `-A KUBE-SEP-${one} -p tcp -m comment --comment "default/web:p" -m recent --set --name KUBE-SEP-${one} ${recent} -m tcp -j DNAT --to-destination 10.180.0.1:80`,
  ]);
  expect(lines('KUBE-NODEPORTS')).toEqual([
    `-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web:p" -m tcp --dport 30001 -j KUBE-EXT-${hash}`,
  ]);
  expect(lines('KUBE-SERVICES')).toEqual([
    `-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "default/web:p cluster IP" -m tcp --dport 80 -j KUBE-SVC-${hash}`,
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
  ]);
  expect(renderIptables(clusterOf([{ ...WEB, affinitySeconds: 10_800, nodePort: 30_001 }]).snapshot, ALL)).toBe(text);
});

test('jumps are put on top in the order that kube-proxy gives them', () => {
  const text = renderIptables(clusterOf([]).snapshot, ALL);
  const four = text.slice(0, text.indexOf('*nat'));
  const top = (chain: string): readonly string[] =>
    [...four.matchAll(/^-I (\S+) .*-j (\S+)$/gm)]
      .filter((match) => match[1] === chain)
      .map((match) => match[2] ?? '')
      .reverse();
  expect(top('INPUT')).toEqual(['KUBE-FIREWALL', 'KUBE-PROXY-FIREWALL', 'KUBE-NODEPORTS', 'KUBE-EXTERNAL-SERVICES']);
  expect(top('FORWARD')).toEqual(['KUBE-PROXY-FIREWALL', 'KUBE-FORWARD', 'KUBE-SERVICES', 'KUBE-EXTERNAL-SERVICES']);
  // The last is ours: what the node itself sends to an external address without endpoints is refused, too.
  expect(top('OUTPUT')).toEqual(['KUBE-FIREWALL', 'KUBE-PROXY-FIREWALL', 'KUBE-SERVICES', 'KUBE-EXTERNAL-SERVICES']);
});

test.for([
  ['all, loopback too', { kind: 'all' }, true, ['-m addrtype --dst-type LOCAL']],
  ['all but loopback', { kind: 'all' }, false, ['! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL']],
  ['the primary one', { kind: 'primary' }, true, ['-d 192.168.0.2/32']],
  [
    'a range',
    { kind: 'cidrs', cidrs: [cidr('192.168.7.0/24')] },
    true,
    ['-d 192.168.7.0/24 -m addrtype --dst-type LOCAL'],
  ],
  ['everything of the family', { kind: 'cidrs', cidrs: [cidr('0.0.0.0/0')] }, true, ['-m addrtype --dst-type LOCAL']],
  [
    'a family of which nothing is said',
    { kind: 'cidrs', cidrs: [cidr('fd00::/8')] },
    true,
    ['-m addrtype --dst-type LOCAL'],
  ],
  ['loopback alone without its switch', { kind: 'cidrs', cidrs: [cidr('127.0.0.0/8')] }, false, []],
] as const)('NodePorts answer on %s', ([, nodePortAddresses, localhostNodePorts, wanted]) => {
  const config: RulesConfig = { ...defaultRulesConfig, nodePortAddresses, localhostNodePorts };
  const text = chainsOf([], config).get('4/nat/KUBE-SERVICES') ?? '';
  const matches = text.split('\n').filter((line) => line !== '');
  const strip = (line: string): string =>
    line
      .replace('-A KUBE-SERVICES ', '')
      .replace(/-m comment --comment "[^"]*" /, '')
      .replace(/ ?-j KUBE-NODEPORTS$/, '');
  expect(matches.map(strip)).toEqual(wanted);
});

test('a change of one endpoint touches the chains of that Service and no others', () => {
  const other = { ...WEB, name: 'other', clusterIPs: ['172.30.0.42'], endpoints: ['10.180.0.3:80'] };
  const planner = new Planner(ALL, { dropInvalid: true });
  const first = clusterOf([WEB, other]);
  planner.advance(first.snapshot);
  const second = clusterOf([{ ...WEB, endpoints: ['10.180.0.1:80', '10.180.0.9:80'] }, other], first);
  const names = planner.advance(second.snapshot).map(({ id, before, after }) => {
    const what = before === undefined ? '+' : after === undefined ? '-' : '=';
    return `${what}${id}`;
  });
  const sep = (address: string): string => `4/nat/KUBE-SEP-${endpointHash('default/web:p', 'TCP', ip(address), 80)}`;
  expect(names.sort()).toEqual(
    [
      `=4/nat/KUBE-SVC-${servicePortHash('default/web:p', 'TCP')}`,
      `-${sep('10.180.0.2')}`,
      `+${sep('10.180.0.9')}`,
    ].sort(),
  );
  expect(planner.advance(second.snapshot)).toEqual([]);
});

test('Services stand in the order of their names, whatever order they come in', () => {
  const names = ['c', 'a', 'b'].map((name, i) => ({ ...WEB, name, clusterIPs: [`172.30.0.${i + 1}`] }));
  const planner = new Planner(ALL, { dropInvalid: true });
  let last = clusterOf(names.slice(0, 1));
  planner.advance(last.snapshot);
  let text = '';
  for (const count of [2, 3]) {
    last = clusterOf(names.slice(0, count), last);
    text = planner.advance(last.snapshot).find(({ id }) => id === '4/nat/KUBE-SERVICES')?.after ?? '';
  }
  expect([...text.matchAll(/default\/(.)/g)].map((match) => match[1])).toEqual(['a', 'b', 'c']);
});

test('of two Services that claim an external IP the first by name has it, until it goes', () => {
  const claim = { externalIPs: ['198.51.100.1'] };
  const a = { ...WEB, ...claim, name: 'a', clusterIPs: ['172.30.0.1'], endpoints: [] };
  const b = { ...WEB, ...claim, name: 'b', clusterIPs: ['172.30.0.2'] };
  const planner = new Planner(ALL, { dropInvalid: true });
  const both = clusterOf([b, a]);
  const text = planner
    .advance(both.snapshot)
    .map(({ after }) => after)
    .join('');
  expect(text).toContain('-d 198.51.100.1/32 -p tcp -m comment --comment "default/a:p has no endpoints"');
  expect(text).not.toContain('"default/b:p external IP"');
  const after = planner
    .advance(clusterOf([b], both).snapshot)
    .map((change) => change.after)
    .join('');
  expect(after).toContain('-d 198.51.100.1/32 -p tcp -m comment --comment "default/b:p external IP"');
});

test('in a large cluster rules of endpoints have no comments, and what stands is not written anew for it', () => {
  const many = Array.from({ length: LARGE_CLUSTER_ENDPOINTS }, (_, i) => `10.9.${i >> 8}.${i & 255}:80`);
  const planner = new Planner(ALL, { dropInvalid: true });
  const small = clusterOf([WEB]);
  planner.advance(small.snapshot);
  const large = clusterOf([WEB, { ...WEB, name: 'x', clusterIPs: ['172.30.0.7'], endpoints: many }], small);
  const changes = planner.advance(large.snapshot);
  const text = changes.map(({ after }) => after).join('');
  expect(text).toContain('-j DNAT --to-destination 10.9.0.0:80');
  expect(text).not.toMatch(/KUBE-SEP-.*--comment/);
  expect(text).toContain('"default/x:p cluster IP"');
  expect(changes.map(({ id }) => id)).not.toContain(`4/nat/KUBE-SVC-${servicePortHash('default/web:p', 'TCP')}`);
});

test('where the node is inside a source range, the load balancer address itself is let through', () => {
  const sketch = { ...WEB, nodePort: 30_001, loadBalancerIPs: ['203.0.113.9'], sourceRanges: ['192.168.0.0/16'] };
  const firewall = `KUBE-FW-${servicePortHash('default/web:p', 'TCP')}`;
  const lines = (node = NODE): readonly string[] => {
    const { snapshot } = clusterOf([sketch], undefined, node);
    const changes = new Planner(ALL, { dropInvalid: true }).advance(snapshot);
    const text = changes.find(({ id }) => id === `4/nat/${firewall}`)?.after ?? '';
    return [...text.matchAll(/ -s (\S+)/g)].map((match) => match[1] ?? '');
  };
  expect(lines()).toEqual(['192.168.0.0/16', '203.0.113.9/32']);
  expect(lines({ ...NODE, ips: [ip('172.16.0.1')] })).toEqual(['192.168.0.0/16']);
});

test('a health check node port is let in', () => {
  const { snapshot } = clusterOf([{ ...WEB, nodePort: 30_001, loadBalancerIPs: ['203.0.113.9'], external: 'Local' }]);
  const service = snapshot.services.get('default/web');
  if (!service) throw new Error('no Service');
  const ports = service.ports.map((each) => ({ ...each, healthCheckNodePort: port(32_000) }));
  const services = snapshot.services.with([['default/web', { ...service, members: service.members, ports }]]);
  const changes = new Planner(ALL, { dropInvalid: true }).advance({ ...snapshot, services });
  expect(changes.find(({ id }) => id === '4/filter/KUBE-NODEPORTS')?.after).toBe(
    '-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web:p health check node port" -m tcp --dport 32000 -j ACCEPT\n',
  );
});
