import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, NODE, cidr, clusterOf, ip, port } from '../../../test/rules/cluster.ts';
import { hostPort, isLoopback, type Ip } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import { silentLogger } from '../../observe/log.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import { defaultRulesConfig, type DetectLocal, type NodePortAddresses, type RulesConfig } from '../config.ts';
import { FrontendIndex, judge, type NodeView, type Packet } from '../packet.ts';
import { IpvsBackend } from './apply.ts';
import { FakeIpvs } from './fake.ts';
import { trace } from './trace.ts';

const LOCAL = [...NODE.ips, ip('192.168.7.7')];
const isLocal = (address: Ip): boolean => isLoopback(address) || LOCAL.includes(address);

function viewOf(config: RulesConfig): NodeView {
  return {
    mode: 'ipvs',
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
  };
}

async function load(snapshot: Snapshot, config: RulesConfig): Promise<FakeIpvs> {
  const kernel = new FakeIpvs(LOCAL);
  const options = { config, exec: kernel, log: silentLogger, clock: new FakeClock(), metrics: createMetrics() };
  expect(await new IpvsBackend(options).sync(snapshot)).toMatchObject({ kind: 'applied' });
  return kernel;
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

function traced(kernel: FakeIpvs, packet: Packet): readonly string[] | string {
  const { verdict, targets } = trace(kernel, packet, { localAddresses: LOCAL });
  if (typeof verdict === 'string') return verdict;
  return targets.map(({ endpoint, masquerade }) => `${endpoint}${masquerade ? ' masqueraded' : ''}`).sort();
}

const sources = ['10.0.0.1', '10.0.0.2', '10.9.9.9', '192.168.0.2', '203.0.113.2'];
const services = ['172.30.0.1', '172.30.0.2', '172.30.0.3', '172.30.0.9', '198.51.100.1', '198.51.100.2'];
const destinations = [...services, '198.51.100.9', '192.168.0.2', '192.168.7.7', '10.0.0.1'];
const sources6 = ['fd00:10::1', 'fd00:10::9', 'fd00:192:168::2', '2001:db8:113::2'];
const destinations6 = ['fd00:10:96::1', 'fd00:10:96::2', '2001:db8:5::1', '2001:db8:5::9', 'fd00:192:168::2'];

const packets: fc.Arbitrary<Packet> = fc
  .oneof(
    fc.tuple(fc.constantFrom(...sources), fc.constantFrom(...destinations)),
    fc.tuple(fc.constantFrom(...sources6), fc.constantFrom(...destinations6)),
    fc.constant(['127.0.0.1', '127.0.0.1'] as const),
  )
  .chain(([source, destination]) =>
    fc.record({
      source: fc.constant(ip(source)),
      destination: fc.constant(ip(destination)),
      protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
      port: fc.constantFrom(80, 81, 30_001, 30_002, 30_003, 8080).map(port),
      inputInterface: fc.constantFrom(
        isLocal(ip(source)) ? undefined : 'cni0',
        isLocal(ip(source)) ? undefined : 'eth0',
      ),
    }),
  );

const nodePortAddresses: fc.Arbitrary<NodePortAddresses> = fc.constantFrom(
  { kind: 'primary' },
  { kind: 'all' },
  { kind: 'cidrs', cidrs: [cidr('192.168.7.0/24'), cidr('127.0.0.0/8')] },
);
const configs = fc.record({
  detectLocal: fc.constantFrom<DetectLocal>(
    CONFIG.detectLocal,
    { kind: 'none' },
    { kind: 'bridge', interface: 'cni0' },
    { kind: 'interface-prefix', prefix: 'cni' },
  ),
  masqueradeAll: fc.boolean(),
  nodePortAddresses,
});

test('packets sent through the kernel that a sync left fare as packet.ts says', async () => {
  await fc.assert(
    fc.asyncProperty(
      clusters,
      configs,
      fc.array(packets, { minLength: 20, maxLength: 60 }),
      async (sketches, settings, sent) => {
        const { snapshot } = clusterOf(sketches);
        const config = { ...defaultRulesConfig, ...settings };
        const kernel = await load(snapshot, config);
        for (const packet of sent)
          expect([packet, traced(kernel, packet)]).toEqual([packet, expected(snapshot, packet, config)]);
      },
    ),
    { numRuns: 250 },
  );
});
