// Which virtual servers are ours to remove. The kernel keeps no note of who made one, so it is told by what stands beside it: a virtual
// server is ours (or kube-proxy's before us) when its address is on the dummy link, when one of the sets names its place, or when it is at
// an address of the node and the sets of NodePorts name its port. Any other is somebody else's, and so is all that `excludeCIDRs` holds.

import { cidrContains, type Cidr } from '../../lib/cidr.ts';
import type { Ip } from '../../lib/ip.ts';
import { NODE_PORT_SETS } from './contribution.ts';
import { familyOf, partsOfServer, placeEntry, setName, type ServerKey, type SetBase } from './names.ts';
import type { Saved } from './kernel.ts';

const PLACES: readonly SetBase[] = ['CLUSTER-IP', 'EXTERNAL-IP', 'EXTERNAL-IP-LOCAL', 'LOAD-BALANCER'];

export function isOwnServer(
  key: ServerKey,
  { addresses, sets }: Pick<Saved, 'addresses' | 'sets'>,
  excluded: readonly Cidr[],
): boolean {
  const { protocol, address, port } = partsOfServer(key);
  if (isExcluded(address, excluded)) return false;
  if (addresses.ours.has(address)) return true;
  const family = familyOf(address);
  const has = (base: SetBase, entry: string): boolean => {
    const name = setName(family, base);
    return sets.get(name)?.entries.has(`${name} ${entry}`) ?? false;
  };
  const place = placeEntry(address, protocol, port);
  if (PLACES.some((base) => has(base, place))) return true;
  const { all } = NODE_PORT_SETS[protocol];
  return protocol === 'SCTP' ? has(all, place) : addresses.local.includes(address) && has(all, String(port));
}

export function isExcluded(address: Ip, excluded: readonly Cidr[]): boolean {
  return excluded.some((range) => cidrContains(range, address));
}
