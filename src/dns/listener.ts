// The sockets that queries come in on: UDP and TCP at each address.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server } from 'node:net';
import { ipFamily, type Ip } from '../lib/ip.ts';
import type { Clock } from '../system/clock.ts';
import { serveConnection, type Connection } from './connection.ts';
import type { Transport } from './handler.ts';
import { DnsListenError } from './listen-error.ts';
import { KeptAnswers } from './kept-answers.ts';
import { serverLabel, type DnsMetrics } from './metrics.ts';
import type { Answered, DnsServer, Site } from './server.ts';

export interface ListenAddress {
  readonly address: Ip;
  /** 0 lets the system choose, one port for UDP and TCP. */
  readonly port: number;
}

export interface BoundAddress extends ListenAddress {
  readonly protocol: Transport;
}

export interface ListenerOptions {
  readonly at: ListenAddress;
  readonly server: DnsServer;
  readonly site: Site;
  readonly metrics: DnsMetrics;
  readonly clock: Clock;
  /** A connection on which nothing goes for this long is closed. */
  readonly idleMs: number;
  /** More are closed when they come. */
  readonly maxConnections: number;
  /** Several threads listen on the address, and the system spreads what comes over them. */
  readonly shared: boolean;
}

export interface Listener {
  readonly addresses: readonly BoundAddress[];
  /** TCP connections that are open. */
  readonly connections: number;
  /** Counts the answers that were given again. */
  settle(): void;
  /** Takes nothing new; what is under way is still answered. */
  drain(): void;
  /** Closes every socket. */
  close(): Promise<void>;
}

/** Answers of one socket that the system has not taken yet; beyond that they are lost, as datagrams are. */
const SEND_QUEUE_BYTES = 1 << 20;
/** For bursts of queries between two turns of the event loop. */
const RECEIVE_BUFFER_BYTES = 4 << 20;
const TCP_BACKLOG = 1024;
/** The port that the system chooses for UDP may be taken for TCP (by any connection that is open): then another one is tried. */
const PORT_CHOICES = 100;

/** Rejects with a DnsListenError; nothing stays open then. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { at } = options;
  for (let choice = 1; ; choice++) {
    const udp = await bindUdp(options);
    const { port } = udp.socket.address();
    try {
      const tcp = await bindTcp({ ...options, at: { address: at.address, port } });
      return listenerOf({ address: at.address, port }, udp, tcp);
    } catch (error) {
      await closeUdp(udp.socket);
      const taken = error instanceof DnsListenError && error.code === 'port-in-use';
      if (at.port !== 0 || !taken || choice >= PORT_CHOICES) throw error;
    }
  }
}

interface UdpSide {
  readonly socket: UdpSocket;
  readonly kept: KeptAnswers;
}

interface TcpSide {
  readonly kept: KeptAnswers;
  readonly server: Server;
  readonly connections: ReadonlySet<Connection>;
}

function listenerOf({ address, port }: ListenAddress, udp: UdpSide, tcp: TcpSide): Listener {
  let stopped: Promise<void> | undefined;
  const stopAccepting = (): Promise<void> => (stopped ??= new Promise((resolve) => tcp.server.close(() => resolve())));
  const settle = (): void => {
    udp.kept.settle();
    tcp.kept.settle();
  };
  return {
    addresses: [
      { address, port, protocol: 'udp' },
      { address, port, protocol: 'tcp' },
    ],
    settle,
    get connections() {
      return tcp.connections.size;
    },
    drain: () => {
      udp.socket.removeAllListeners('message');
      void stopAccepting();
      for (const connection of tcp.connections) connection.drain();
    },
    close: async () => {
      const accepting = stopAccepting();
      for (const connection of tcp.connections) connection.destroy();
      await Promise.all([accepting, closeUdp(udp.socket)]);
      settle();
    },
  };
}

function bindUdp({ at, server, site, metrics, shared }: ListenerOptions): Promise<UdpSide> {
  const family = ipFamily(at.address);
  const socket = createSocket({
    type: family === 4 ? 'udp4' : 'udp6',
    ipv6Only: family === 6,
    reusePort: shared,
    // Addresses only: without this every send goes through the resolver's queue.
    lookup: (host, _options, callback) => callback(null, host, family),
  });
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      void closeUdp(socket);
      reject(new DnsListenError({ ...at, protocol: 'udp' }, error));
    };
    socket.once('error', fail);
    socket.bind({ address: at.address, port: at.port, exclusive: true }, () => {
      socket.off('error', fail);
      // A receive that fails later (an ICMP error for a client that is gone) concerns one datagram.
      socket.on('error', () => {});
      enlargeReceiveBuffer(socket);
      const { port } = socket.address();
      const counters = metrics.forServer(serverLabel(at.address, port));
      const kept = new KeptAnswers(counters);
      const here = { transport: 'udp', ipv6: family === 6, address: at.address, port } as const;
      const arrival = { ...here, metrics: counters, site, kept };
      let queued = 0;
      const send = (answered: Answered, toPort: number, toAddress: string): void => {
        // A transfer is for TCP.
        const packet = Buffer.isBuffer(answered) ? answered : undefined;
        // Nobody listens on port 0, a forged packet may come from it, and Node throws when told to send there.
        if (!packet || toPort === 0) return;
        if (queued > SEND_QUEUE_BYTES) queued = socket.getSendQueueSize();
        if (queued > SEND_QUEUE_BYTES) return;
        // Without a callback: a datagram that cannot be sent is lost, and costs no turn of the event loop.
        socket.send(packet, toPort, toAddress);
        queued = socket.getSendQueueSize();
        kept.copies = queued > 0;
      };
      socket.on('message', (packet, from) => {
        const answer = server.receive(packet, arrival, from);
        if (!(answer instanceof Promise)) send(answer, from.port, from.address);
        else void answer.then((late) => isOpen(socket) && send(late, from.port, from.address));
      });
      resolve({ socket, kept });
    });
  });
}

function enlargeReceiveBuffer(socket: UdpSocket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  } catch {
    // The system's own size does as well, for smaller bursts.
  }
}

function isOpen(socket: UdpSocket): boolean {
  try {
    socket.address();
    return true;
  } catch {
    return false;
  }
}

function closeUdp(socket: UdpSocket): Promise<void> {
  return new Promise((resolve) => {
    try {
      socket.close(() => resolve());
    } catch {
      // Closed already.
      resolve();
    }
  });
}

function bindTcp(options: ListenerOptions): Promise<TcpSide> {
  const { at, server, site, metrics, clock, idleMs, maxConnections, shared } = options;
  const counters = metrics.forServer(serverLabel(at.address, at.port));
  const kept = new KeptAnswers(counters);
  const here = { transport: 'tcp', ipv6: ipFamily(at.address) === 6, address: at.address, port: at.port } as const;
  const arrival = { ...here, metrics: counters, site, kept };
  const connections = new Set<Connection>();
  const tcp = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    if (connections.size >= maxConnections) {
      socket.on('error', ignore);
      socket.destroy();
      return;
    }
    const from = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
    const connection = serveConnection(socket, {
      receive: (packet) => server.receive(packet, arrival, from),
      monotonic: () => clock.monotonic(),
      idleMs,
      onClose: () => connections.delete(connection),
    });
    connections.add(connection);
  });
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(new DnsListenError({ ...at, protocol: 'tcp' }, error));
    tcp.once('error', fail);
    const ipv6Only = ipFamily(at.address) === 6;
    tcp.listen({ host: at.address, port: at.port, backlog: TCP_BACKLOG, ipv6Only, reusePort: shared }, () => {
      tcp.off('error', fail);
      // An accept that fails later (no descriptor left) leaves the listener as it is.
      tcp.on('error', ignore);
      resolve({ server: tcp, connections, kept });
    });
  });
}

function ignore(): void {}
