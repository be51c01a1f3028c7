import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../test/rules/arbitrary.ts';
import { CONFIG, clusterOf, type ServiceSketch } from '../../test/rules/cluster.ts';
import { defaultRulesConfig, type DetectLocal } from './config.ts';
import { explainPacket } from './explain-packet.ts';
import { nodeViewOf } from './node-view.ts';
import { FrontendIndex, judge, type Packet, type Verdict } from './packet.ts';
import { cidr, ip, port } from '../../test/support/values.ts';

const four = [
  '10.0.0.1',
  '10.9.9.9',
  '192.168.0.2',
  '203.0.113.2',
  '198.51.100.9',
  '198.51.100.1',
  '172.30.0.1',
  '172.30.0.2',
  '172.30.0.3',
  '127.0.0.1',
];
const six = ['fd00:10::1', 'fd00:192:168::2', '2001:db8:5::9', 'fd00:10:96::1', 'fd00:10:96::2', '2001:db8:5::1'];
const pair = (addresses: readonly string[]) => fc.tuple(fc.constantFrom(...addresses), fc.constantFrom(...addresses));
const packets: fc.Arbitrary<Packet> = fc.oneof(pair(four), pair(six)).chain(([source, destination]) =>
  fc.record({
    source: fc.constant(ip(source)),
    destination: fc.constant(ip(destination)),
    protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
    inputInterface: fc.constantFrom(undefined, 'cbr0', 'veth7'),
    port: fc.constantFrom(80, 81, 30_001, 30_002, 30_003).map(port),
  }),
);
const configs = fc.record({
  detectLocal: fc.constantFrom<DetectLocal>(
    { kind: 'none' },
    { kind: 'cidrs', cidrs: [cidr('10.0.0.0/8')] },
    { kind: 'cidrs', cidrs: [cidr('10.0.0.0/8'), cidr('fd00:10::/64')] },
    { kind: 'bridge', interface: 'cbr0' },
    { kind: 'interface-prefix', prefix: 'veth' },
  ),
  masqueradeAll: fc.boolean(),
  nodePortAddresses: fc.constantFrom({ kind: 'primary' as const }, { kind: 'all' as const }),
});

/** How the last step has to read. */
function lastSays(verdict: Verdict): RegExp {
  switch (verdict.kind) {
    case 'drop':
      return /^DROP|dropped/;
    case 'reject':
      return /REJECT/;
    case 'untouched':
      return /no rule/;
    case 'forward':
      return verdict.targets.some(({ masquerade }) => masquerade) ? /^(yes: |only when )/ : /^no: /;
  }
}

test('the steps end in the verdict that the rules are held to', () => {
  const run = (
    sketches: Parameters<typeof clusterOf>[0],
    packet: Packet,
    partial: Partial<typeof CONFIG>,
    mode: 'nftables' | 'ipvs' | 'userspace',
  ) => {
    const snapshot = { ...clusterOf(sketches).snapshot, serviceCIDRs: [cidr('172.30.0.0/16')] };
    const view = nodeViewOf(snapshot, { ...defaultRulesConfig, ...partial }, [], mode);
    const index = new FrontendIndex(snapshot);
    const { verdict, steps } = explainPacket(packet, index, view);
    expect(verdict).toEqual(judge(packet, index, view));
    const names = steps.map(({ step }) => step);
    expect(names.slice(0, 2)).toEqual(['source', 'destination']);
    expect(names.includes('masquerade')).toBe(verdict.kind === 'forward');
    expect(steps.at(-1)?.says).toMatch(lastSays(verdict));
  };
  fc.assert(
    fc.property(
      clusters,
      packets,
      configs,
      fc.constantFrom('nftables' as const, 'ipvs' as const, 'userspace' as const),
      run,
    ),
    {
      numRuns: 500,
    },
  );
});

const web = {
  name: 'web',
  clusterIPs: ['172.30.0.1'],
  nodePort: 30_001,
  endpoints: ['10.0.0.1:8080', '10.0.0.3:8080@node-b'],
};
function told(sketch: ServiceSketch, source: string, destination: string, number: number): readonly string[] {
  const snapshot = { ...clusterOf([sketch]).snapshot, serviceCIDRs: [cidr('172.30.0.0/16')] };
  const packet = { source: ip(source), destination: ip(destination), protocol: 'TCP' as const, port: port(number) };
  const view = nodeViewOf(snapshot, CONFIG, [], 'nftables');
  return explainPacket(packet, new FrontendIndex(snapshot), view).steps.map(({ step, says }) => `${step}: ${says}`);
}

test('a NodePort under policy Cluster', () => {
  expect(told(web, '203.0.113.2', '192.168.0.2', 30_001)).toEqual([
    "source: 203.0.113.2 is neither an address of this node nor known as a Pod's (Pods are in 10.0.0.0/8, fd00:10::/64)",
    'destination: 192.168.0.2:30001/TCP is the NodePort of default/web:p',
    'policy: externalTrafficPolicy Cluster: every endpoint that may be used from here, wherever it runs',
    'endpoints: forwarded to one of 2 endpoints',
    'masquerade: yes: externalTrafficPolicy Cluster hides the client, so that the answer comes back by this node',
  ]);
});

test('a Pod that may reach itself', () => {
  expect(told(web, '10.0.0.1', '172.30.0.1', 80).at(-1)).toBe(
    'masquerade: only when 10.0.0.1 is chosen: a Pod that reaches itself would drop its own address as the source',
  );
});

test('policy Local without a local endpoint', () => {
  const remote = { ...web, external: 'Local' as const, endpoints: ['10.0.0.3:8080@node-b'] };
  expect(told(remote, '203.0.113.2', '192.168.0.2', 30_001).at(-1)).toBe(
    'endpoints: DROP: there are endpoints, but policy Local finds none on this node',
  );
  expect(told(remote, '10.0.0.9', '192.168.0.2', 30_001)).toContain(
    'masquerade: no: Pods reach each other as they are',
  );
});

test('an address for Services that none has', () => {
  expect(told(web, '10.0.0.9', '172.30.9.9', 80).at(-1)).toBe(
    'destination: 172.30.9.9:80/TCP is in a range of Service addresses, and no Service has it: it is dropped',
  );
});
