// The addresses of this machine, as its network interfaces have them.

import { networkInterfaces } from 'node:os';
import { parseIp, type Ip } from '../lib/ip.ts';

/** Every address of every interface that is up, loopback included, sorted. IPv6 link-local ones are left out: they mean nothing without a zone. */
export function interfaceAddresses(): readonly Ip[] {
  const found = new Set<Ip>();
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address, scopeid } of addresses ?? []) {
      const ip = parseIp(address);
      if (ip !== undefined && !scopeid) found.add(ip);
    }
  }
  return [...found].sort();
}

/** The addresses of one interface; none when there is no such interface. */
export function networkAddressesOf(name: string): readonly Ip[] {
  return (networkInterfaces()[name] ?? [])
    .filter(({ scopeid }) => !scopeid)
    .map(({ address }) => parseIp(address))
    .filter((ip) => ip !== undefined);
}
