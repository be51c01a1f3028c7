// The header by which an endpoint learns who its client is, as a relay's own address tells it nothing: PROXY protocol version 2
// (haproxy's proxy-protocol.txt, section 2.2). Pure.

import { ipBytes, ipFamily, type Ip } from '../../lib/ip.ts';

interface Address {
  readonly ip: Ip;
  readonly port: number;
}

const SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
/** Version 2; LOCAL says nothing of the client, PROXY names it. */
const LOCAL = 0x20;
const PROXY = 0x21;
const TCP_4 = 0x11;
const TCP_6 = 0x21;

/** What is sent before the client's first byte. `service` is the address that the client connected to. */
export function proxyHeader(client: Address, service: Address): Uint8Array {
  const family = ipFamily(client.ip);
  if (family !== ipFamily(service.ip)) return Uint8Array.of(...SIGNATURE, LOCAL, 0, 0, 0);
  const addresses = [
    ...ipBytes(client.ip),
    ...ipBytes(service.ip),
    ...twoBytes(client.port),
    ...twoBytes(service.port),
  ];
  return Uint8Array.of(...SIGNATURE, PROXY, family === 4 ? TCP_4 : TCP_6, ...twoBytes(addresses.length), ...addresses);
}

function twoBytes(value: number): readonly [number, number] {
  return [value >> 8, value & 0xff];
}
