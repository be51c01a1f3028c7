// The names of what the IPVS mode puts into the kernel: kube-proxy's, since people and tools know them, and so that one proxy can take
// over from the other.

import { hostPort, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { Protocol } from '../../model/records.ts';

/** The link that holds the addresses of Services, so that the kernel takes their packets in. It is never up. */
export const LINK = 'kube-ipvs0';

/** `172.30.0.1,tcp:80` and the like, as ipset writes it. */
export type Entry = string;

/** `KUBE-CLUSTER-IP 172.30.0.1,tcp:80`: the set and the entry. */
export type SetEntry = string;

export type SetType = 'hash:ip,port' | 'hash:ip,port,ip' | 'hash:ip,port,net' | 'hash:ip' | 'bitmap:port';

/** The sets, without `KUBE-` and `KUBE-6-` before them. The last two are ours alone. */
export const SETS = {
  'LOOP-BACK': 'hash:ip,port,ip',
  'CLUSTER-IP': 'hash:ip,port',
  'EXTERNAL-IP': 'hash:ip,port',
  'EXTERNAL-IP-LOCAL': 'hash:ip,port',
  'LOAD-BALANCER': 'hash:ip,port',
  'LOAD-BALANCER-LOCAL': 'hash:ip,port',
  'LOAD-BALANCER-FW': 'hash:ip,port',
  'LOAD-BALANCER-SOURCE-IP': 'hash:ip,port,ip',
  'LOAD-BALANCER-SOURCE-CIDR': 'hash:ip,port,net',
  'NODE-PORT-TCP': 'bitmap:port',
  'NODE-PORT-LOCAL-TCP': 'bitmap:port',
  'NODE-PORT-UDP': 'bitmap:port',
  'NODE-PORT-LOCAL-UDP': 'bitmap:port',
  'NODE-PORT-SCTP-HASH': 'hash:ip,port',
  'NODE-PORT-LOCAL-SCTP-HASH': 'hash:ip,port',
  'HEALTH-CHECK-NODE-PORT': 'bitmap:port',
  'IPVS-IPS': 'hash:ip',
  'NO-LOCAL-INTERNAL': 'hash:ip,port',
  'NO-LOCAL-EXTERNAL': 'hash:ip,port',
} as const satisfies Record<string, SetType>;

export type SetBase = keyof typeof SETS;

/** What ipset takes at most (IPSET_MAXNAMELEN). kube-proxy cuts the one name that is longer. */
const LONGEST_NAME = 31;

export function setName(family: IpFamily, base: SetBase): string {
  return `KUBE-${family === 6 ? '6-' : ''}${base}`.slice(0, LONGEST_NAME);
}

export interface KnownSet {
  readonly name: string;
  readonly base: SetBase;
  readonly family: IpFamily;
  readonly type: SetType;
}

function knownSets(): ReadonlyMap<string, KnownSet> {
  const found = new Map<string, KnownSet>();
  for (const family of [4, 6] as const) {
    for (const [base, type] of Object.entries(SETS) as [SetBase, SetType][]) {
      const name = setName(family, base);
      found.set(name, { name, base, family, type });
    }
  }
  return found;
}

/** Every set of this mode by its name, those of kube-proxy among them. */
export const KNOWN_SETS = knownSets();

/** The set and the entry of a SetEntry. */
export function partsOfEntry(text: SetEntry): { readonly set: string; readonly entry: Entry } {
  const space = text.indexOf(' ');
  return { set: text.slice(0, space), entry: text.slice(space + 1) };
}

/** `TCP 172.30.0.1:80`: a virtual server. */
export type ServerKey = string;

/** `10.0.0.1:8080`: a real server. */
export type RealKey = string;

export function serverKey(protocol: Protocol, address: Ip, port: Port | number): ServerKey {
  return `${protocol} ${hostPort(address, port)}`;
}

export function partsOfServer(key: ServerKey): {
  readonly protocol: Protocol;
  readonly place: string;
  readonly address: Ip;
  readonly port: number;
} {
  const space = key.indexOf(' ');
  const place = key.slice(space + 1);
  const colon = place.lastIndexOf(':');
  return {
    protocol: key.slice(0, space) as Protocol,
    place,
    address: place.slice(0, colon).replaceAll(/[[\]]/g, '') as Ip,
    port: Number(place.slice(colon + 1)),
  };
}

/** `172.30.0.1,tcp:80`. */
export function placeEntry(address: Ip, protocol: Protocol, port: number): Entry {
  return `${address},${protocol.toLowerCase()}:${port}`;
}

export function familyOf(text: string): IpFamily {
  return text.includes('[') || text.indexOf(':') !== text.lastIndexOf(':') ? 6 : 4;
}
