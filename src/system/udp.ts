// UDP: a socket that receives on one address, and a socket that talks to one address only. The door to node:dgram.

import { createSocket, type Socket } from 'node:dgram';
import { ipFamily, type Ip } from '../lib/ip.ts';
import type { Port } from '../lib/port.ts';

export interface UdpListener {
  /** What was asked for, or what the system chose for port 0. */
  readonly port: number;
  /** Sends from the listener's address. A datagram that cannot be sent is lost, as datagrams are. */
  send(data: Uint8Array, port: number, address: string): void;
  /** Stops at once. */
  close(): void;
}

/** A socket connected to one peer: only its datagrams arrive, and its refusals (ICMP) are heard. */
export interface UdpFlow {
  send(data: Uint8Array): void;
  close(): void;
}

type UdpListenResult =
  | { readonly kind: 'listening'; readonly listener: UdpListener }
  /** `code` as of the system: EADDRINUSE, EADDRNOTAVAIL, EACCES, EMFILE… */
  | { readonly kind: 'failed'; readonly code: string };

interface UdpListenOptions {
  readonly address: Ip;
  /** 0 lets the system choose. */
  readonly port: Port | 0;
  readonly onMessage: (data: Uint8Array, port: number, address: string) => void;
}

interface UdpFlowOptions {
  readonly address: Ip;
  readonly port: Port;
  /** To send from; the system chooses when left out. */
  readonly localAddress?: Ip | undefined;
  readonly onMessage: (data: Uint8Array) => void;
  /** `code` as of the system: ECONNREFUSED, EHOSTUNREACH, EMFILE… The flow may be used on; usually it is closed. */
  readonly onError: (code: string) => void;
}

export interface Udp {
  /** Never rejects. */
  listen(options: UdpListenOptions): Promise<UdpListenResult>;
  /** Returns at once; what is sent before the socket stands is kept, up to a small bound. */
  open(options: UdpFlowOptions): UdpFlow;
}

/** A socket that cannot send as fast as it is told to loses datagrams beyond this many bytes, instead of growing. */
const SEND_QUEUE_BYTES = 1 << 20;
/** Datagrams kept while the flow's socket is being made. */
const EARLY_DATAGRAMS = 32;

export const systemUdp: Udp = {
  listen: ({ address, port, onMessage }) =>
    new Promise((resolve) => {
      const socket = open(address);
      const fail = (error: NodeJS.ErrnoException): void => {
        close(socket);
        resolve({ kind: 'failed', code: error.code ?? error.message });
      };
      socket.once('error', fail);
      socket.on('message', (data, from) => onMessage(data, from.port, from.address));
      socket.bind({ address, port, exclusive: true }, () => {
        socket.off('error', fail);
        // A receive that fails later concerns one datagram, not the listener.
        socket.on('error', () => {});
        let closed = false;
        resolve({
          kind: 'listening',
          listener: {
            port: socket.address().port,
            send: (data, toPort, toAddress) => {
              // Port 0 stands in forged datagrams only; node:dgram throws on it.
              if (closed || toPort === 0 || socket.getSendQueueSize() > SEND_QUEUE_BYTES) return;
              socket.send(data, toPort, toAddress, ignore);
            },
            close: () => {
              closed = true;
              close(socket);
            },
          },
        });
      });
    }),

  open: ({ address, port, localAddress, onMessage, onError }) => {
    const socket = open(address);
    const early: Uint8Array[] = [];
    let state: 'opening' | 'open' | 'closed' = 'opening';
    // A turn later: without descriptors the socket fails before this function has returned.
    const failed = (error: NodeJS.ErrnoException | null): void => {
      if (!error) return;
      queueMicrotask(() => {
        if (state !== 'closed') onError(error.code ?? error.message);
      });
    };
    const send = (data: Uint8Array): void => {
      if (socket.getSendQueueSize() <= SEND_QUEUE_BYTES) socket.send(data, failed);
    };
    socket.on('error', failed);
    socket.on('message', (data) => {
      if (state !== 'closed') onMessage(data);
    });
    // The port is the system's choice, and a random one.
    if (localAddress !== undefined) socket.bind({ address: localAddress, port: 0, exclusive: true });
    // Node hands a failed connect (EMFILE, ENETUNREACH) to this callback, though its type does not say so.
    socket.connect(port, address, (error?: Error) => {
      if (state === 'closed') return;
      if (error) {
        failed(error);
        return;
      }
      state = 'open';
      for (const data of early.splice(0)) send(data);
    });
    return {
      send: (data) => {
        if (state === 'open') send(data);
        else if (state === 'opening' && early.length < EARLY_DATAGRAMS) early.push(data);
      },
      close: () => {
        if (state === 'closed') return;
        state = 'closed';
        close(socket);
      },
    };
  },
};

function open(address: Ip): Socket {
  const family = ipFamily(address);
  return createSocket({
    type: family === 4 ? 'udp4' : 'udp6',
    ipv6Only: family === 6,
    // Addresses only, no names: without this each send goes through the resolver's queue.
    lookup: (host, _options, callback) => callback(null, host, family),
  });
}

function close(socket: Socket): void {
  try {
    socket.close();
  } catch {
    // Not bound yet, or closed by its own failure.
  }
}

function ignore(): void {}
