import type { Clock } from '../../system/clock.ts';
import type { Tcp, TcpSocket } from '../../system/tcp.ts';
import type { Targets } from '../balance.ts';

export interface ReachOptions<T> {
  readonly tcp: Tcp;
  readonly clock: Clock;
  readonly connectMs: number;
  /** Nobody waits for it any more. */
  readonly gone: AbortSignal;
  readonly onBytes: (bytes: Buffer) => void;
  readonly onFailed?: (target: T) => void;
  readonly onReached?: (target: T) => void;
}

const TRIES = 3;

/** An endpoint that takes the connection: the next in turn, and the one after it where that fails. Never rejects. */
export async function reach<T extends { readonly ip: string; readonly port: number }>(
  targets: Targets<T>,
  { tcp, clock, connectMs, gone, onBytes, onFailed, onReached }: ReachOptions<T>,
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
