import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Server as TlsServer, createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { parseIp, type Ip } from '../lib/ip.ts';
import { hostPort } from '../lib/ip.ts';

export interface ListenAddress {
  readonly address: Ip;
  /** 0 lets the system choose. */
  readonly port: number;
}

export type IngressListenCode = 'port-in-use' | 'no-privilege' | 'address-not-here' | 'listen-failed';

/** A listener could not be opened; the message says which, why, and the mend. */
export class IngressListenError extends Error {
  override readonly name = 'IngressListenError';
  readonly code: IngressListenCode;
  readonly listen: ListenAddress;

  constructor(code: IngressListenCode, listen: ListenAddress, scheme: string, cause: Error) {
    super(listenMessage(code, listen, scheme, cause), { cause });
    this.code = code;
    this.listen = listen;
  }
}

export interface IngressListener {
  readonly address: ListenAddress;
  /** Connections that are open, those in a TLS handshake included. */
  readonly connections: ReadonlySet<Socket>;
  /** For TLS clients that name no host, from the next handshake on. */
  setDefaultCertificate(pair: { readonly cert: string; readonly key: string }): void;
  /** Accepts no more. Resolves when every connection has ended. */
  close(): Promise<void>;
}

export interface ListenOptions {
  readonly listen: ListenAddress;
  /** With these the listener speaks TLS. */
  readonly tls?: TlsOptions;
  readonly onConnection: (socket: Socket) => void;
}

/** Opens a listener; rejects with IngressListenError. */
export async function openListener(options: ListenOptions): Promise<IngressListener> {
  // Half-open: the end of a client's side is for the engine to judge, not for the socket.
  const common = { allowHalfOpen: true, noDelay: true };
  const server: Server = options.tls ? createTlsServer({ ...options.tls, ...common }) : createServer(common);
  const connections = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => connections.delete(socket));
    if (!options.tls) options.onConnection(socket);
  });
  if (options.tls) {
    server.on('secureConnection', options.onConnection);
    server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
  }
  const { address, port } = await listen(server, options.listen, options.tls ? 'HTTPS' : 'HTTP');
  server.on('error', () => {});
  return {
    address: { address: parseIp(address) ?? options.listen.address, port },
    connections,
    setDefaultCertificate: (pair) => {
      if (options.tls && server instanceof TlsServer) server.setSecureContext({ ...options.tls, ...pair });
    },
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  };
}

function listen(server: Server, listen: ListenAddress, scheme: string): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new IngressListenError(codeOf(error), listen, scheme, error)),
    );
    server.listen({ host: listen.address, port: listen.port, backlog: 1024 }, () => {
      server.removeAllListeners('error');
      const bound = server.address();
      resolve(bound !== null && typeof bound === 'object' ? bound : { ...listen, family: '' });
    });
  });
}

function codeOf(error: NodeJS.ErrnoException): IngressListenCode {
  switch (error.code) {
    case 'EADDRINUSE':
      return 'port-in-use';
    case 'EACCES':
    case 'EPERM':
      return 'no-privilege';
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
      return 'address-not-here';
    default:
      return 'listen-failed';
  }
}

function listenMessage(code: IngressListenCode, listen: ListenAddress, scheme: string, cause: Error): string {
  const what = `Ingress cannot listen for ${scheme} on ${hostPort(listen.address, listen.port)}`;
  // `ingress` takes a port, `up` an address with it.
  const name = scheme.toLowerCase();
  const flag = `--${name}-port (up: --${name}-bind-address)`;
  switch (code) {
    case 'port-in-use':
      return `${what}: another program has the port. Stop it (\`ss -ltnp\` names it), or choose another with ${flag}.`;
    case 'no-privilege':
      return `${what}: no privilege for this port. Run with CAP_NET_BIND_SERVICE, or choose a port from 1024 on with ${flag}.`;
    case 'address-not-here':
      return `${what}: this machine does not have the address. Give one of its own (\`ip address\` lists them).`;
    case 'listen-failed':
      return `${what}: ${cause.message}. Choose another address or port (${flag}).`;
  }
}
