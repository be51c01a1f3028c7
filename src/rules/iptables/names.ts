// The names of chains: kube-proxy's, since people and tools know them, and so that one proxy can take over from the other.

import { hash } from 'node:crypto';
import { hostPort, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { ObjectKey, Protocol } from '../../model/records.ts';

export type Table = 'filter' | 'nat' | 'mangle';
export type ChainName = string;

/** `4/nat/KUBE-SERVICES`: family, table, chain. */
export type ChainId = string;

export const FAMILIES: readonly IpFamily[] = [4, 6];
/** In the order in which they are written. */
export const TABLES: readonly Table[] = ['mangle', 'filter', 'nat'];

export const CANARY: ChainName = 'KUBE-PROXY-CANARY';
/** kubelet writes it too; a rule of ours stands in it, the chain is not ours to empty. */
export const KUBELET_FIREWALL: ChainName = 'KUBE-FIREWALL';

const FIXED: ReadonlySet<ChainName> = new Set([
  'KUBE-SERVICES',
  'KUBE-EXTERNAL-SERVICES',
  'KUBE-NODEPORTS',
  'KUBE-POSTROUTING',
  'KUBE-MARK-MASQ',
  'KUBE-FORWARD',
  'KUBE-PROXY-FIREWALL',
  CANARY,
]);
const OF_SERVICES = /^KUBE-(SVC|SVL|EXT|FW|SEP)-[A-Z2-7]{16}$/;
const OF_IPVS: ReadonlySet<ChainName> = new Set([
  'KUBE-LOAD-BALANCER',
  'KUBE-NODE-PORT',
  'KUBE-SOURCE-RANGES-FIREWALL',
  'KUBE-IPVS-FILTER',
  'KUBE-IPVS-OUT-FILTER',
]);

export function chainId(family: IpFamily, table: Table, name: ChainName): ChainId {
  return `${family}/${table}/${name}`;
}

export function partsOfChain(id: ChainId): {
  readonly family: IpFamily;
  readonly table: Table;
  readonly name: ChainName;
} {
  const slash = id.indexOf('/', 2);
  return { family: id.startsWith('4') ? 4 : 6, table: id.slice(2, slash) as Table, name: id.slice(slash + 1) };
}

/** A chain that we write, in this mode or as kube-proxy in its iptables mode did. Never one of kubelet's. */
export function isOurs(name: ChainName): boolean {
  return FIXED.has(name) || OF_SERVICES.test(name);
}

/** A chain of kube-proxy's IPVS mode that the iptables mode does not have. */
export function isOfIpvs(name: ChainName): boolean {
  return OF_IPVS.has(name);
}

/** `ns/name:port`, or `ns/name` for a port without a name. */
export function servicePortName(service: ObjectKey, portName: string): string {
  return portName === '' ? service : `${service}:${portName}`;
}

/** What the chains of one ServicePort have in common: `KUBE-SVC-` and the like stand before it. */
export function servicePortHash(servicePort: string, protocol: Protocol): string {
  return shortHash(servicePort + protocol.toLowerCase());
}

export function endpointHash(servicePort: string, protocol: Protocol, ip: Ip, port: number): string {
  return shortHash(servicePort + protocol.toLowerCase() + hostPort(ip, port));
}

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The first 16 digits of the SHA-256 in the alphabet of RFC 4648 section 6. */
function shortHash(text: string): string {
  const bytes = hash('sha256', text, 'buffer');
  let digits = '';
  for (let at = 0; at < 10; at += 5) {
    const high = bytes.readUInt32BE(at);
    const low = bytes[at + 4] ?? 0;
    for (let shift = 27; shift >= 2; shift -= 5) digits += BASE32[(high >>> shift) & 31] ?? '';
    digits += BASE32[((high & 3) << 3) | (low >>> 5)] ?? '';
    digits += BASE32[low & 31] ?? '';
  }
  return digits;
}
