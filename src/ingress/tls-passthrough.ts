// SSL passthrough: the bytes of a TLS connection go to an endpoint as they are, and nothing of them is read.

import type { Socket } from 'node:net';
import type { Clock } from '../system/clock.ts';
import { Joint } from '../system/tcp-joint.ts';
import { systemTcp } from '../system/tcp.ts';
import type { Targets } from './balance.ts';
import type { EndpointPool } from './http/upstream.ts';
import { reach } from './stream/reach.ts';

/** nginx' proxy_timeout of streams. */
const IDLE_MS = 600_000;
const CONNECT_MS = 5_000;

/** `bytes` were read from `client` already. Both are joined until they have ended; without an endpoint the client is closed. Never rejects. */
export async function passThrough(
  client: Socket,
  bytes: Buffer,
  targets: Targets<EndpointPool> | undefined,
  clock: Clock,
): Promise<void> {
  const gone = new AbortController();
  client.once('close', () => gone.abort());
  const joint = new Joint(client, { clock, idleMs: IDLE_MS });
  const backend =
    targets &&
    (await reach(targets, {
      tcp: systemTcp,
      clock,
      connectMs: CONNECT_MS,
      gone: gone.signal,
      onBytes: joint.onBytes,
      onFailed: (target) => target.failed(),
      onReached: (target) => target.answered(),
    }));
  if (!backend || client.destroyed) {
    client.destroy();
    backend?.destroy();
    return;
  }
  backend.write(bytes);
  joint.join(backend);
}
