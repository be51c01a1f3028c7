import { ipFamily, type Ip } from '../lib/ip.ts';
import type { Records } from './records.ts';
import type { NodeIdentity } from './snapshot.ts';

/**
 * Who we are: the Node object of that name, or its bare name while there is none. The first InternalIP (else ExternalIP) decides the
 * primary family; the first address of the other family comes second.
 */
export function nodeIdentity(records: Records, name: string): NodeIdentity {
  const record = records.nodes.get(name);
  if (!record) return { name, ips: [], zone: undefined, podCIDRs: [] };
  return { name, ips: firstOfEachFamily(record.ips), zone: record.zone, podCIDRs: record.podCIDRs };
}

function firstOfEachFamily(ips: readonly Ip[]): readonly Ip[] {
  const [first] = ips;
  if (first === undefined) return [];
  const second = ips.find((ip) => ipFamily(ip) !== ipFamily(first));
  return second === undefined ? [first] : [first, second];
}
