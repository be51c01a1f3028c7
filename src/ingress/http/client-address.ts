// What a backend is told of the connection that a request came on.

import { parseIp } from '../../lib/ip.ts';
import type { ClientInfo } from './byte-stream.ts';
import type { Origin } from './forward.ts';

/** Where the requests of a connection come from, unless a trusted peer says otherwise: made once for all of them. */
export function originOfConnection({ remoteAddress: address, localPort, secure, peer }: ClientInfo): Origin {
  const remoteAddress = plainAddress(address);
  const forwarding = forwardingFields(remoteAddress, localPort, secure);
  return { remoteAddress, localPort, secure, peer, forwarding };
}

/** A dual-stack socket gives IPv4 peers as `::ffff:1.2.3.4`. */
export function plainAddress(address: string): string {
  const text = address.startsWith('::ffff:') ? address.slice(7) : address;
  return parseIp(text) ?? address;
}

/** As lines; the same for every request of a connection. `forwardedFor`: the whole list, where more than the client stands in it; `scheme`: another one, that a trusted peer gives. */
export function forwardingFields(
  address: string,
  port: number,
  secure: boolean,
  forwardedFor = address,
  scheme = secure ? 'https' : 'http',
): string {
  return (
    `X-Real-IP: ${address}\r\nX-Forwarded-For: ${forwardedFor}\r\nX-Forwarded-Port: ${port}\r\n` +
    `X-Forwarded-Proto: ${scheme}\r\nX-Forwarded-Scheme: ${scheme}\r\nX-Scheme: ${scheme}\r\n`
  );
}
