// SSL passthrough: the bytes of a TLS connection go to an endpoint as they are, and nothing of them is read.

import type { Socket } from 'node:net';
import type { Clock } from '../system/clock.ts';
import { systemTcp } from '../system/tcp.ts';
import type { Targets } from './balance.ts';
import type { EndpointPool } from './http/upstream.ts';
import { joinEndpoint } from './stream/reach.ts';

/** nginx' proxy_timeout of streams. */
const IDLE_MS = 600_000;
const CONNECT_MS = 5_000;

/** `bytes` were read from `client` already. Both are joined until they have ended; without an endpoint the client is closed. Never rejects. */
export function passThrough(
  client: Socket,
  bytes: Buffer,
  targets: Targets<EndpointPool> | undefined,
  clock: Clock,
): Promise<void> {
  return joinEndpoint(client, targets, {
    tcp: systemTcp,
    clock,
    connectMs: CONNECT_MS,
    idleMs: IDLE_MS,
    first: bytes,
    onFailed: (target) => target.failed(),
    onReached: (target) => target.answered(),
  });
}
