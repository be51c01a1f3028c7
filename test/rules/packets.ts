// Random packets to the clusters of arbitrary.ts, under random settings, and how `packet.ts` says that they fare: what the walk through the state that a
// mode would write is held against.

import * as fc from 'fast-check';
import { hostPort, isLoopback, type Ip } from '../../src/lib/ip.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import type { DetectLocal, NodePortAddresses, RulesConfig } from '../../src/rules/config.ts';
import { FrontendIndex, judge, type NodeView, type Packet } from '../../src/rules/packet.ts';
import type { TraceResult } from '../../src/rules/traced.ts';
import { CONFIG, NODE } from './cluster.ts';
import { cidr, ip, port } from '../support/values.ts';

const SECOND = ip('192.168.7.7');

/** The node's own addresses. */
export const LOCAL: readonly Ip[] = [...NODE.ips, SECOND];

const isLocal = (address: Ip): boolean => isLoopback(address) || LOCAL.includes(address);

/** As the rules of the mode see the node; `more` where they know more. */
export function viewOf(config: RulesConfig, more: Pick<NodeView, 'mode' | 'unallocated'>): NodeView {
  const { kind } = config.nodePortAddresses;
  return {
    isLocal,
    isNodePortAddress: (address) => {
      if (isLoopback(address)) return more.mode === 'iptables' && address === '127.0.0.1' && kind !== 'primary';
      switch (kind) {
        case 'primary':
          return NODE.ips.includes(address);
        case 'all':
          return isLocal(address);
        case 'cidrs':
          return isLocal(address) && (address.includes(':') || address === SECOND);
      }
    },
    nodeIps: NODE.ips,
    detectLocal: config.detectLocal,
    masqueradeAll: config.masqueradeAll,
    ...more,
  };
}

/** In the words of `tracedText`. An endpoint on the node itself is reached without postrouting: nothing masquerades there. */
export function expected(snapshot: Snapshot, packet: Packet, view: NodeView): readonly string[] | string {
  const verdict = judge(packet, new FrontendIndex(snapshot), view);
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

export function tracedText({ verdict, targets }: TraceResult): readonly string[] | string {
  if (typeof verdict === 'string') return verdict;
  return targets.map(({ endpoint, masquerade }) => `${endpoint}${masquerade ? ' masqueraded' : ''}`).sort();
}

const sources = ['10.0.0.1', '10.0.0.2', '10.9.9.9', '192.168.0.2', '203.0.113.2'];
const services = ['172.30.0.1', '172.30.0.2', '172.30.0.3', '172.30.0.9', '198.51.100.1', '198.51.100.2'];
const destinations = [...services, '198.51.100.9', '192.168.0.2', '192.168.7.7', '10.0.0.1'];
const sources6 = ['fd00:10::1', 'fd00:10::9', 'fd00:192:168::2', '2001:db8:113::2'];
const serviceSources = { 4: ['198.51.100.9', '198.51.100.1'], 6: ['2001:db8:5::9'] };
const destinations6 = ['fd00:10:96::1', 'fd00:10:96::2', '2001:db8:5::1', '2001:db8:5::9', 'fd00:192:168::2'];

/** Between hosts, and from this machine to itself; with `fromServices` also from load balancer addresses, which IPVS binds on the node. */
export function packets({ fromServices }: { readonly fromServices: boolean }): fc.Arbitrary<Packet> {
  const more = fromServices ? serviceSources : { 4: [], 6: [] };
  return fc
    .oneof(
      fc.tuple(fc.constantFrom(...sources, ...more[4]), fc.constantFrom(...destinations)),
      fc.tuple(fc.constantFrom(...sources6, ...more[6]), fc.constantFrom(...destinations6)),
      fc.constant(['127.0.0.1', '127.0.0.1'] as const),
    )
    .chain(([source, destination]) =>
      fc.record({
        source: fc.constant(ip(source)),
        destination: fc.constant(ip(destination)),
        protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
        port: fc.constantFrom(80, 81, 30_001, 30_002, 30_003, 8080).map(port),
        inputInterface: isLocal(ip(source)) ? fc.constant(undefined) : fc.constantFrom('cni0', 'cni1', 'eth0'),
      }),
    );
}

/** What changes how packets fare. */
export const packetSettings = fc.record({
  detectLocal: fc.constantFrom<DetectLocal>(
    CONFIG.detectLocal,
    { kind: 'none' },
    { kind: 'bridge', interface: 'cni0' },
    { kind: 'interface-prefix', prefix: 'cni' },
  ),
  masqueradeAll: fc.boolean(),
  nodePortAddresses: fc.constantFrom<NodePortAddresses>(
    { kind: 'primary' },
    { kind: 'all' },
    { kind: 'cidrs', cidrs: [cidr('192.168.7.0/24'), cidr('127.0.0.0/8')] },
  ),
});
