// TCP, and TLS over it (RFC 7858): a server and its connections.

import { createServer, type Server, type Socket } from 'node:net';
import type { Server as TlsServer, TLSSocket } from 'node:tls';
import { ipFamily } from '../lib/ip.ts';
import { serveConnection, type Connection } from './connection.ts';
import { KeptAnswers } from './kept-answers.ts';
import { DnsListenError } from './listen-error.ts';
import type { ListenAddress, ListenerOptions, Side } from './listener.ts';
import { serverLabel } from './metrics.ts';
import { untilQuiet } from './quiet.ts';
import { authOptions, contextOptions, mayStay, type TlsSetting } from './tls-setting.ts';

const BACKLOG = 1024;
/** A client that is slower holds a descriptor for nothing. */
const HANDSHAKE_MS = 5000;
/** One that is under way when the server goes comes to its end in less, or is cut off. */
const HANDSHAKE_QUIET_MS = 100;

/** With `tls` where the options have it. Rejects with a DnsListenError. */
export async function bindTcp(options: ListenerOptions): Promise<Side> {
  const { at, server, site, metrics, clock, idleMs, maxConnections } = options;
  const connections = new Set<Connection>();
  let { tls } = options;
  let draining: Promise<void> | undefined;
  const take = (socket: Socket): void => {
    const from = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
    const connection = serveConnection(socket, {
      receive: (packet) => server.receive(packet, arrival, from),
      clock,
      idleMs,
      timeouts: site.timeouts,
      onClose: () => connections.delete(connection),
    });
    connections.add(connection);
    if (draining) void connection.drain();
  };
  const secured = (socket: TLSSocket): void => {
    if (tls && mayStay(socket, tls.clientAuth)) take(socket);
    else socket.destroy();
  };
  const listening = tls ? await tlsServer(tls, secured) : createServer({ allowHalfOpen: true, noDelay: true }, take);
  // Those that still shake hands count, too.
  listening.maxConnections = maxConnections;
  const port = await listen(listening, at, options.shared);
  const counters = metrics.forServer(serverLabel({ ...at, port }));
  const kept = new KeptAnswers(counters);
  const here = { transport: 'tcp', ipv6: ipFamily(at.address) === 6, address: at.address, port } as const;
  const arrival = { ...here, metrics: counters, site, kept };
  let accepted = 0;
  listening.on('connection', () => accepted++);
  const drain = async (): Promise<void> => {
    await untilQuiet(() => accepted, clock);
    void stopAccepting();
    const leaving = Promise.all([...connections].map((connection) => connection.drain()));
    // Those that shake hands are no connections yet.
    if (tls) await untilQuiet(() => connections.size, clock, HANDSHAKE_QUIET_MS);
    await leaving;
    await Promise.all([...connections].map((connection) => connection.drain()));
  };
  let stopped: Promise<void> | undefined;
  const stopAccepting = (): Promise<void> => (stopped ??= new Promise((resolve) => listening.close(() => resolve())));
  return {
    port,
    get connections() {
      return connections.size;
    },
    settle: () => kept.settle(),
    secure: (setting) => {
      tls = setting;
      if ('setSecureContext' in listening) listening.setSecureContext(contextOptions(setting));
    },
    drain: () => (draining ??= drain()),
    close: async () => {
      const accepting = stopAccepting();
      for (const connection of connections) connection.destroy();
      await accepting;
      kept.settle();
    },
  };
}

async function tlsServer(tls: TlsSetting, secured: (socket: TLSSocket) => void): Promise<TlsServer> {
  // Loaded where it is used, for the memory of each thread.
  const { createServer: createTlsServer } = await import('node:tls');
  const options = { ...contextOptions(tls), ...authOptions(tls), ALPNProtocols: ['dot'], noDelay: true };
  const server = createTlsServer({ ...options, allowHalfOpen: true, handshakeTimeout: HANDSHAKE_MS }, secured);
  // Who speaks no TLS is closed, and nothing more.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
}

/** Resolves to the port. Rejects with a DnsListenError. */
export function listen(server: Server, at: ListenAddress, shared: boolean): Promise<number> {
  const { address, port, scheme = 'dns' } = at;
  return new Promise((resolve, reject) => {
    const protocol = scheme === 'dns' ? 'tcp' : scheme;
    const fail = (error: Error): void => reject(new DnsListenError({ address, port, protocol }, error));
    server.once('error', fail);
    const ipv6Only = ipFamily(address) === 6;
    server.listen({ host: address, port, backlog: BACKLOG, ipv6Only, reusePort: shared }, () => {
      server.off('error', fail);
      // An accept that fails later (no descriptor left) leaves the listener as it is.
      server.on('error', () => {});
      const bound = server.address();
      resolve(typeof bound === 'object' && bound ? bound.port : port);
    });
  });
}
