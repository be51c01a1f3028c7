// Values of the program, from text that a test is sure of.

import { parseCidr, type Cidr } from '../../src/lib/cidr.ts';
import { parseIp, type Ip } from '../../src/lib/ip.ts';
import { toPort, type Port } from '../../src/lib/port.ts';
import type { Endpoint } from '../../src/model/snapshot.ts';

export function ip(text: string): Ip {
  const parsed = parseIp(text);
  if (!parsed) throw new Error(`not an address: ${text}`);
  return parsed;
}

export function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(`not a range: ${text}`);
  return parsed;
}

export function port(number: number): Port {
  const parsed = toPort(number);
  if (!parsed) throw new Error(`not a port: ${number}`);
  return parsed;
}

/** `address:port`; on this node, and ready. */
export function endpoint(text: string): Endpoint {
  const colon = text.lastIndexOf(':');
  return {
    ip: ip(text.slice(0, colon)),
    port: port(Number(text.slice(colon + 1))),
    local: true,
    ready: true,
    serving: true,
    terminating: false,
    nodeName: undefined,
    zone: undefined,
    podName: undefined,
  };
}
