// TCP: listening on one address and connecting to one. The only door to node:net for relays. Every socket is half
// open by right (one side may end while the other goes on, RFC 9293 section 3.6), sends small writes at once, and
// asks a silent peer for a sign of life, so that a vanished one does not keep its descriptor for ever.

import { connect, createServer, type OnReadOpts } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Ip } from '../lib/ip.ts';
import type { Port } from '../lib/port.ts';

/** The part of `net.Socket` that a relay uses. Errors are events of the stream; unheard they end the process. */
export interface TcpSocket extends Duplex {
  /** Undefined when the peer is already gone. */
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  /** So far. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Use `reset` instead. */
  resetAndDestroy(): unknown;
  /** Use `isGone` instead. */
  readonly _handle?: { getpeername?(into: object): number } | null | undefined;
}

interface TcpListener {
  /** What was asked for, or what the system chose for port 0. */
  readonly port: number;
  /** Stops listening at once; connections that were accepted go on. */
  close(): void;
}

type TcpListenResult =
  | { readonly kind: 'listening'; readonly listener: TcpListener }
  /** `code` as of the system: EADDRINUSE, EADDRNOTAVAIL, EACCES, EMFILE… */
  | { readonly kind: 'failed'; readonly code: string };

type TcpConnectResult =
  | { readonly kind: 'connected'; readonly socket: TcpSocket }
  /** `code` as of the system: ECONNREFUSED, EHOSTUNREACH…, or ABORTED. */
  | { readonly kind: 'failed'; readonly code: string };

interface TcpListenOptions {
  readonly address: Ip;
  /** 0 lets the system choose. */
  readonly port: Port | 0;
  readonly onConnection: (socket: TcpSocket) => void;
}

interface TcpConnectOptions {
  /** Or a name, of which the first address is taken. */
  readonly address: string;
  readonly port: number;
  /** To connect from; the system chooses when left out. */
  readonly localAddress?: Ip | undefined;
  /** Takes what the peer sends, in place of `data` events; `bytes` are good during the call only. For those who read much. */
  readonly onBytes?: (bytes: Buffer) => void;
  /** Gives the attempt up; no effect once connected. */
  readonly signal: AbortSignal;
}

export interface Tcp {
  /** Never rejects. */
  listen(options: TcpListenOptions): Promise<TcpListenResult>;
  /** Never rejects. */
  connect(options: TcpConnectOptions): Promise<TcpConnectResult>;
}

/** What `reset` needs of a socket. */
export interface Resettable {
  readonly destroyed: boolean;
  readonly writableEnded: boolean;
  readonly writableFinished: boolean;
  /** Bytes that have not left yet. */
  readonly writableLength: number;
  once(event: 'finish', listener: () => void): unknown;
  resetAndDestroy(): unknown;
}

/**
 * Ends at once with a reset (RST) instead of an orderly end. While our own orderly end is just on its way out, that is waited for, a turn or two:
 * libuv refuses a reset then (EINVAL), and Node would neither close the descriptor nor ever say `close`.
 */
export function reset(socket: Resettable): void {
  const isEnding = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  if (!isEnding || socket.destroyed) socket.resetAndDestroy();
  else socket.once('finish', () => void socket.resetAndDestroy());
}

/**
 * Whether the system has given the connection up, by a reset or as the peer gave no sign of life, or both sides have ended it. Node hears of that when it
 * reads; this is for a socket that is not being read. What was received before can still be read.
 */
export function isGone({ _handle }: TcpSocket): boolean {
  // ENOTCONN: a socket that is no more connected has no peer. `remoteAddress` says what it was when it was first asked.
  return _handle?.getpeername !== undefined && _handle.getpeername({}) !== 0;
}

/** One read is at most this long. */
const READ_BUFFER_BYTES = 256 * 1024;
let readBuffer: Buffer | undefined;

/**
 * All connections of this thread read into one buffer: libuv fills it and calls back before it reads anything else. Nothing is allocated for a read; Node
 * allocates 64 KiB for each otherwise, and V8 collects all garbage of the process whenever some tens of megabytes have come together.
 */
function intoOneBuffer(take: (bytes: Buffer) => void): OnReadOpts {
  const buffer = (readBuffer ??= Buffer.allocUnsafeSlow(READ_BUFFER_BYTES));
  return {
    buffer,
    callback: (length) => {
      take(buffer.subarray(0, length));
      return true;
    },
  };
}

/** Connections that wait for us to accept them; the kernel caps it at net.core.somaxconn. */
const BACKLOG = 4096;

const SOCKET_OPTIONS = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
} as const;

export const systemTcp: Tcp = {
  listen: ({ address, port, onConnection }) =>
    new Promise((resolve) => {
      const server = createServer(SOCKET_OPTIONS, onConnection);
      const fail = (error: NodeJS.ErrnoException): void => {
        resolve({ kind: 'failed', code: error.code ?? error.message });
      };
      server.once('error', fail);
      server.listen({ host: address, port, backlog: BACKLOG, ipv6Only: address.includes(':') }, () => {
        server.off('error', fail);
        // An accept that fails later (no descriptor left) leaves the listener as it is; the next one may succeed.
        server.on('error', () => {});
        const bound = server.address();
        resolve({
          kind: 'listening',
          listener: {
            port: typeof bound === 'object' && bound ? bound.port : port,
            close: () => void server.close(),
          },
        });
      });
    }),

  connect: ({ address, port, localAddress, onBytes, signal }) =>
    new Promise((resolve) => {
      if (signal.aborted) {
        resolve({ kind: 'failed', code: 'ABORTED' });
        return;
      }
      const local = localAddress === undefined ? {} : { localAddress };
      const reading = onBytes ? { onread: intoOneBuffer(onBytes) } : {};
      const socket = connect({ ...SOCKET_OPTIONS, ...local, ...reading, autoSelectFamily: false, host: address, port });
      const abort = (): void => {
        done();
        socket.on('error', () => {});
        // Not by a reset: Node puts that off until the connection stands, which it may never do.
        socket.destroy();
        resolve({ kind: 'failed', code: 'ABORTED' });
      };
      const fail = (error: NodeJS.ErrnoException): void => {
        done();
        resolve({ kind: 'failed', code: error.code ?? error.message });
      };
      const connected = (): void => {
        done();
        // Whoever awaits this hears errors a turn later; one that comes before must not end the process.
        socket.on('error', () => {});
        resolve({ kind: 'connected', socket });
      };
      const done = (): void => {
        signal.removeEventListener('abort', abort);
        socket.off('connect', connected);
        socket.off('error', fail);
      };
      signal.addEventListener('abort', abort, { once: true });
      socket.once('connect', connected);
      socket.once('error', fail);
    }),
};
