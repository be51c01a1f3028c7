import type { Clock } from '../../system/clock.ts';
import { Joint } from '../../system/tcp-joint.ts';
import type { Tcp, TcpSocket } from '../../system/tcp.ts';
import type { Targets } from '../balance.ts';

export interface ReachOptions<T> {
  readonly tcp: Tcp;
  readonly clock: Clock;
  readonly connectMs: number;
  /** Both are closed when nothing has come from either for so long. */
  readonly idleMs: number;
  /** What the endpoint is sent before what the client says from now on. */
  readonly first?: string | Buffer | undefined;
  readonly onFailed?: (target: T) => void;
  readonly onReached?: (target: T) => void;
}

const TRIES = 3;

/** Joins the client to an endpoint until both have ended; without one the client is closed. Errors of the client are heard by others. Never rejects. */
export async function joinEndpoint<T extends { readonly ip: string; readonly port: number }>(
  client: TcpSocket,
  targets: Targets<T> | undefined,
  options: ReachOptions<T>,
): Promise<void> {
  if (client.destroyed) return;
  const gone = new AbortController();
  client.once('close', () => gone.abort());
  const joint = new Joint(client, options);
  const backend = targets && (await reach(targets, gone.signal, joint.onBytes, options));
  if (!backend || client.destroyed) {
    client.destroy();
    backend?.destroy();
    return;
  }
  if (options.first !== undefined) backend.write(options.first);
  joint.join(backend);
}

/** An endpoint that takes the connection: the next in turn, and the one after it where that fails. Nobody waits for it any more once `gone`. */
async function reach<T extends { readonly ip: string; readonly port: number }>(
  targets: Targets<T>,
  gone: AbortSignal,
  onBytes: (bytes: Buffer) => void,
  { tcp, clock, connectMs, onFailed, onReached }: ReachOptions<T>,
): Promise<TcpSocket | undefined> {
  const tried: T[] = [];
  while (tried.length < TRIES && !gone.aborted) {
    const target = targets.pick(tried);
    if (!target) return undefined;
    tried.push(target);
    const bound = new AbortController();
    const timer = clock.after(connectMs, () => bound.abort());
    const { ip: address, port } = target;
    const result = await tcp.connect({ address, port, onBytes, signal: AbortSignal.any([gone, bound.signal]) });
    timer.cancel();
    if (result.kind === 'connected') {
      onReached?.(target);
      return result.socket;
    }
    if (!gone.aborted) onFailed?.(target);
  }
  return undefined;
}
