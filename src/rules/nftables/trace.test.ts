import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, NODE, cidr, clusterOf, ip, port } from '../../../test/rules/cluster.ts';
import { hostPort, isLoopback, type Ip } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { DetectLocal, NodePortAddresses, RulesConfig } from '../config.ts';
import { FrontendIndex, judge, type NodeView, type Packet } from '../packet.ts';
import type { FakeRuleset } from './fake.ts';
import { NftTextError } from './grammar.ts';
import { renderNftables } from './render.ts';
import { loadRuleset, trace } from './trace.ts';

const LOCAL = [...NODE.ips.map(String), '192.168.7.7'];
const SERVICE_CIDRS = [cidr('172.30.0.0/16'), cidr('172.30.0.0/24'), cidr('fd00:10:96::/112'), cidr('192.168.7.7/32')];
const isLocal = (address: Ip): boolean => isLoopback(address) || LOCAL.includes(address);

function viewOf(config: RulesConfig): NodeView {
  return {
    isLocal,
    isNodePortAddress: (address) => {
      if (isLoopback(address)) return false;
      switch (config.nodePortAddresses.kind) {
        case 'primary':
          return NODE.ips.includes(address);
        case 'all':
          return isLocal(address);
        case 'cidrs':
          return isLocal(address) && (address.includes(':') || address === '192.168.7.7');
      }
    },
    nodeIps: NODE.ips,
    detectLocal: config.detectLocal,
    masqueradeAll: config.masqueradeAll,
    unallocated: SERVICE_CIDRS,
  };
}

/** What `packet.ts` says, in the words of the trace. An endpoint on the node itself is reached without postrouting: nothing masquerades there. */
function expected(snapshot: Snapshot, packet: Packet, config: RulesConfig): readonly string[] | string {
  const verdict = judge(packet, new FrontendIndex(snapshot), viewOf(config));
  switch (verdict.kind) {
    case 'reject':
      return 'REJECT';
    case 'drop':
      return 'DROP';
    case 'untouched':
      return 'none';
    case 'forward':
      return verdict.targets
        .map(({ endpoint, masquerade }) => {
          const seen = masquerade && (isLocal(packet.source) || !isLocal(endpoint.ip));
          return `${hostPort(endpoint.ip, endpoint.port)}${seen ? ' masqueraded' : ''}`;
        })
        .sort();
  }
}

function traced(ruleset: FakeRuleset, packet: Packet): readonly string[] | string {
  const { verdict, targets } = trace(ruleset, packet, { localAddresses: LOCAL });
  if (typeof verdict === 'string') return verdict;
  return targets.map(({ endpoint, masquerade }) => `${endpoint}${masquerade ? ' masqueraded' : ''}`).sort();
}

const sources = ['10.0.0.1', '10.0.0.2', '10.9.9.9', '192.168.0.2', '203.0.113.2', '198.51.100.9', '198.51.100.1'];
const services = ['172.30.0.1', '172.30.0.2', '172.30.0.3', '172.30.0.9', '198.51.100.1', '198.51.100.2'];
const destinations = [...services, '198.51.100.9', '192.168.0.2', '192.168.7.7', '10.0.0.1'];
const sources6 = ['fd00:10::1', 'fd00:10::9', 'fd00:192:168::2', '2001:db8:113::2', '2001:db8:5::9'];
const destinations6 = ['fd00:10:96::1', 'fd00:10:96::2', '2001:db8:5::1', '2001:db8:5::9', 'fd00:192:168::2'];

const packets: fc.Arbitrary<Packet> = fc
  .oneof(
    fc.tuple(fc.constantFrom(...sources), fc.constantFrom(...destinations)),
    fc.tuple(fc.constantFrom(...sources6), fc.constantFrom(...destinations6)),
  )
  .chain(([source, destination]) =>
    fc.record({
      source: fc.constant(ip(source)),
      destination: fc.constant(ip(destination)),
      protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
      port: fc.constantFrom(80, 81, 30_001, 30_002, 30_003, 8080).map(port),
      inputInterface: LOCAL.includes(source) ? fc.constant(undefined) : fc.constantFrom('cni0', 'cni1', 'eth0'),
    }),
  );

const nodePortAddresses: fc.Arbitrary<NodePortAddresses> = fc.constantFrom(
  { kind: 'primary' },
  { kind: 'all' },
  { kind: 'cidrs', cidrs: [cidr('192.168.7.0/24'), cidr('127.0.0.0/8')] },
);
const detectLocal: fc.Arbitrary<DetectLocal> = fc.constantFrom(
  CONFIG.detectLocal,
  { kind: 'none' },
  { kind: 'bridge', interface: 'cni0' },
  { kind: 'interface-prefix', prefix: 'cni' },
);
const configs = fc.record({
  detectLocal,
  masqueradeAll: fc.boolean(),
  nodePortAddresses,
});

test('every packet fares in the rendered text as the rules say it should', () => {
  fc.assert(
    fc.property(clusters, configs, fc.array(packets, { minLength: 10, maxLength: 30 }), (services, settings, sent) => {
      const snapshot = { ...clusterOf(services).snapshot, serviceCIDRs: SERVICE_CIDRS };
      const config = { ...CONFIG, ...settings };
      const ruleset = loadRuleset(renderNftables(snapshot, config));
      for (const packet of sent) expect(traced(ruleset, packet)).toEqual(expected(snapshot, packet, config));
    }),
    { numRuns: 200 },
  );
});

test('what is not ours to write is an error', () => {
  const { snapshot } = clusterOf([{ name: 'a', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]);
  const text = renderNftables(snapshot, CONFIG);
  for (const [from, to] of [
    ['ct state new jump', 'ct state established jump'],
    ['masquerade fully-random', 'masquerade persistent'],
    ['1 : goto pick-1,', '1 : goto pick-2,'],
    ['map @endpoints', 'map @endings'],
    ['10.0.0.1 . 80,', 'fd00::1 . 80,'],
    ['table ip fairlead', 'table inet fairlead'],
  ] as const) {
    expect(() => loadRuleset(text.replace(from, to))).toThrow(NftTextError);
  }
});

test('rendering the same Snapshot twice gives the same text, with each Service named', () => {
  const { snapshot } = clusterOf([{ name: 'a', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]);
  const text = renderNftables(snapshot, CONFIG);
  expect(renderNftables(snapshot, CONFIG)).toBe(text);
  expect(text).toContain('# default/a\n172.30.0.1 . tcp . 80 : 1,');
});
