// SSL passthrough: the bytes of a TLS connection go to an endpoint as they are, and nothing of them is read.

import { connect, type Socket } from 'node:net';
import type { Targets } from './balance.ts';
import type { EndpointPool } from './http/upstream.ts';

/** nginx' proxy_timeout of streams. */
const IDLE_MS = 600_000;
const CONNECT_MS = 5_000;
const TRIES = 3;

/** `bytes` were read from `client` already. Ends both connections when one breaks; an end of one side is passed on. */
export function passThrough(client: Socket, bytes: Buffer, targets: Targets<EndpointPool> | undefined): void {
  dial(client, bytes, targets, []);
}

function dial(client: Socket, bytes: Buffer, targets: Targets<EndpointPool> | undefined, tried: EndpointPool[]): void {
  const target = tried.length < TRIES ? targets?.pick(tried) : undefined;
  if (!target || client.destroyed) {
    client.destroy();
    return;
  }
  const backend = connect({
    host: target.ip,
    port: target.port,
    noDelay: true,
    allowHalfOpen: true,
    autoSelectFamily: false,
  });
  const clientGone = (): void => void backend.destroy();
  client.once('close', clientGone);
  backend.setTimeout(CONNECT_MS, () => backend.destroy());
  backend.on('error', () => {});
  const failed = (): void => {
    client.off('close', clientGone);
    target.failed();
    dial(client, bytes, targets, [...tried, target]);
  };
  backend.once('close', failed);
  backend.once('connect', () => {
    backend.off('close', failed);
    target.answered();
    backend.write(bytes);
    join(client, backend);
  });
}

function join(client: Socket, backend: Socket): void {
  for (const [from, to] of [
    [client, backend],
    [backend, client],
  ] as const) {
    from.setTimeout(IDLE_MS, () => from.destroy());
    from.once('close', () => to.destroy());
    from.pipe(to);
  }
}
