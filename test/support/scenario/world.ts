// The fixed world of every scenario: one node, its Pod and Service ranges, and a client outside.

import type { Cidr } from '../../../src/lib/cidr.ts';
import { isLoopback, parseIp, type Ip } from '../../../src/lib/ip.ts';
import type { DetectLocal } from '../../../src/rules/config.ts';
import type { NodeView } from '../../../src/rules/packet.ts';
import { cidr, ip } from '../values.ts';

export const NODE_NAME = 'node-a';
export const NODE_IPS: readonly Ip[] = [ip('192.168.0.2'), ip('2001:db8:1::2')];
/** An address of the node that its Node object does not name. */
export const OTHER_NODE_IP: Ip = ip('192.168.0.3');
export const CLIENT_IPS: readonly Ip[] = [ip('203.0.113.2'), ip('2001:db8:2::2')];
export const POD_CIDRS: readonly Cidr[] = [cidr('10.0.0.0/8'), cidr('fd00:10::/64')];
export const DETECT_LOCAL: DetectLocal = { kind: 'cidrs', cidrs: POD_CIDRS };
export const SERVICE_CIDRS: readonly Cidr[] = [cidr('172.30.0.0/16'), cidr('fd00:10:96::/112')];

/** The Node object that stands unless the scenario brings its own. */
export const NODE_MANIFEST = `apiVersion: v1
kind: Node
metadata:
  name: ${NODE_NAME}
  labels: {topology.kubernetes.io/zone: zone-a}
status:
  addresses:
${NODE_IPS.map((address) => `  - {type: InternalIP, address: '${address}'}`).join('\n')}
`;

const LOCAL: ReadonlySet<string> = new Set([...NODE_IPS, OTHER_NODE_IP, '127.0.0.1', '::1']);

export const NODE_VIEW: NodeView = {
  isLocal: (address) => LOCAL.has(address),
  isNodePortAddress: (address) => NODE_IPS.includes(address),
  nodeIps: NODE_IPS,
  detectLocal: DETECT_LOCAL,
  masqueradeAll: false,
};

/** The same in iptables mode: NodePorts answer on every address of the node, 127.0.0.1 among them. */
export const IPTABLES_VIEW: NodeView = {
  ...NODE_VIEW,
  mode: 'iptables',
  isNodePortAddress: (address) => LOCAL.has(address) && address !== '::1',
};

/** The same in ipvs mode: on every address of the node but loopback. */
export const IPVS_VIEW: NodeView = {
  ...NODE_VIEW,
  mode: 'ipvs',
  isNodePortAddress: (address) => LOCAL.has(address) && !isLoopback(address),
};

/** `from` of a packet row: an address, `node`, `client`, or those with `6` behind them. */
export function sourceOf(text: string): Ip | undefined {
  switch (text) {
    case 'node':
    case NODE_NAME:
      return NODE_IPS[0];
    case 'node6':
      return NODE_IPS[1];
    case 'client':
      return CLIENT_IPS[0];
    case 'client6':
      return CLIENT_IPS[1];
    default:
      return parseIp(text);
  }
}
