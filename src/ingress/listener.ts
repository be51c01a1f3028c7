import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { constants } from 'node:crypto';
import type { SecretRecord } from '../model/records.ts';
import { readClientHello } from './http/client-hello.ts';
import { readProxyHeader, type ProxiedClient } from './http/proxy-protocol.ts';
import { IngressListenError, type ListenAddress } from './listen-error.ts';
import { parseIp } from '../lib/ip.ts';
import type { FrontSettings } from './front-settings.ts';
import type { CertificatePair } from './self-signed.ts';

/** What became known of a connection before its first request. */
export interface Opening {
  /** The client that the PROXY protocol names. */
  readonly proxied: ProxiedClient | undefined;
  /** The Secret whose authorities the client's certificate was asked for by. */
  readonly authorities: SecretRecord | undefined;
}

/** Where a TLS connection goes by the name that it asks for. */
export type TlsPlace =
  | { readonly kind: 'here' }
  | { readonly kind: 'refused' }
  | { readonly kind: 'client-certificate'; readonly authorities: SecretRecord }
  /** To a backend, as it is; `bytes` were read already. */
  | { readonly kind: 'passthrough'; readonly take: (socket: Socket, bytes: Buffer) => void };

/** What a TLS listener asks for each connection. None of these throws: that would end the process (CVE-2026-21637). */
export interface TlsFront {
  readonly options: TlsOptions;
  /** For connections that are asked for a certificate. */
  readonly clientOptions: TlsOptions;
  /** Some name has a place of its own. */
  readonly needsName: () => boolean;
  readonly placeOf: (name: string) => TlsPlace;
}

export interface IngressListener {
  readonly address: ListenAddress;
  /** Connections that are open, those in a TLS handshake included. */
  readonly connections: ReadonlySet<Socket>;
  /** From the next handshake on; `pair` is for clients that name no host. */
  setTls(pair: CertificatePair, front: FrontSettings): void;
  /** Accepts no more. Resolves when every connection has ended. */
  close(): Promise<void>;
  /** Ends those that are still in a TLS handshake, or of which the first bytes are awaited. */
  endUnopened(): void;
}

export interface ListenOptions {
  readonly listen: ListenAddress;
  /** With these the listener speaks TLS. */
  readonly tls?: TlsFront;
  readonly front: () => FrontSettings;
  /** Others listen there too, and the kernel shares out the connections. */
  readonly reusePort?: boolean;
  /** Keys of TLS tickets, where several listeners must know each other's. */
  readonly ticketKeys?: Buffer | undefined;
  readonly onConnection: (socket: Socket | TLSSocket, opening: Opening) => void;
}

/** How long the first bytes of TLS may take, where the name has to be read. */
const HELLO_MS = 60_000;
/** RFC 8446 section 6: a fatal alert, unrecognized_name, as a record of TLS. */
const UNRECOGNIZED_NAME = Buffer.from([21, 3, 3, 0, 2, 2, 112]);
const NOTHING: Opening = { proxied: undefined, authorities: undefined };

interface Unopened {
  readonly socket: Socket;
  opening: Opening;
}

/** Opens a listener; rejects with IngressListenError. */
export async function openListener(options: ListenOptions): Promise<IngressListener> {
  const listener = new Listener(options);
  await listener.open();
  return listener;
}

class Listener implements IngressListener {
  readonly connections = new Set<Socket>();
  readonly #options: ListenOptions;
  readonly #server: Server;
  /** They do not listen: they are given connections. */
  readonly #tls: TlsServer | undefined;
  readonly #clientTls: TlsServer | undefined;
  /** By address and port of the peer, until it is handed on: Node does not tell which socket a TLS connection came on. */
  readonly #unopened = new Map<string, Unopened>();
  #address: ListenAddress;

  constructor(options: ListenOptions) {
    this.#options = options;
    this.#address = options.listen;
    // Half-open: the end of a client's side is for the engine to judge, not for the socket.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    const { tls } = options;
    this.#tls = tls && this.#tlsServer(tls.options);
    this.#clientTls = tls && this.#tlsServer(tls.clientOptions);
    this.#shareTickets();
  }

  get address(): ListenAddress {
    return this.#address;
  }

  async open(): Promise<void> {
    const { listen: asked, tls } = this.#options;
    const { address, port } = await listen(
      this.#server,
      asked,
      tls ? 'HTTPS' : 'HTTP',
      this.#options.reusePort ?? false,
    );
    this.#server.on('error', () => {});
    this.#address = { address: parseIp(address) ?? asked.address, port };
  }

  setTls(pair: CertificatePair, front: FrontSettings): void {
    const { versions, ciphers, resumption, curves, sessionMs, ticketKeys } = front;
    const { tls } = this.#options;
    if (!tls) return;
    const common = {
      ...pair,
      minVersion: versions.min,
      maxVersion: versions.max,
      ...(ciphers === undefined ? {} : { ciphers }),
      ...(curves === undefined ? {} : { ecdhCurve: curves }),
      sessionTimeout: Math.max(1, Math.round(sessionMs / 1000)),
      ...(resumption ? {} : { secureOptions: constants.SSL_OP_NO_TICKET }),
    };
    this.#tls?.setSecureContext({ ...tls.options, ...common });
    this.#shareTickets(ticketKeys === undefined ? undefined : Buffer.from(ticketKeys, 'base64'));
    this.#clientTls?.setSecureContext({ ...tls.clientOptions, ...common, secureOptions: constants.SSL_OP_NO_TICKET });
  }

  close(): Promise<void> {
    return new Promise((resolve) => void this.#server.close(() => resolve()));
  }

  endUnopened(): void {
    for (const { socket } of this.#unopened.values()) socket.destroy();
  }

  /** `given`: those of the ConfigMap, which replicas share. */
  #shareTickets(given?: Buffer): void {
    const keys = given ?? this.#options.ticketKeys;
    if (keys) this.#tls?.setTicketKeys(keys);
  }

  #tlsServer(options: TlsOptions): TlsServer {
    const server = createTlsServer({ ...options, noDelay: true });
    server.on('secureConnection', (socket) => {
      // As with TCP alone: the end of a client's side is for the engine to judge.
      socket.allowHalfOpen = true;
      this.#options.onConnection(socket, this.#handOn(peerOf(socket)));
    });
    server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
    return server;
  }

  #accept(socket: Socket): void {
    if (socket.remoteAddress === undefined) {
      // It is gone already.
      socket.destroy();
      return;
    }
    const peer = peerOf(socket);
    this.connections.add(socket);
    this.#unopened.set(peer, { socket, opening: NOTHING });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.connections.delete(socket);
      if (this.#unopened.get(peer)?.socket === socket) this.#unopened.delete(peer);
    });
    const { proxyProtocol, proxyProtocolMs } = this.#options.front();
    if (!proxyProtocol) {
      this.#open(socket, peer, NOTHING);
      return;
    }
    readFirst(socket, proxyProtocolMs, (bytes) => {
      const header = readProxyHeader(bytes);
      if (header.kind === 'more') return undefined;
      return () => {
        if (header.kind === 'bad') {
          socket.destroy();
          return;
        }
        if (bytes.length > header.length) socket.unshift(bytes.subarray(header.length));
        this.#open(socket, peer, { ...NOTHING, proxied: header.client });
      };
    });
  }

  #open(socket: Socket, peer: string, opening: Opening): void {
    const { tls } = this.#options;
    if (!tls) {
      this.#handOn(peer);
      this.#options.onConnection(socket, opening);
      // Whoever read the first bytes has paused it.
      socket.resume();
    } else if (tls.needsName()) this.#readName(tls, socket, peer, opening);
    else this.#handshake(this.#tls, socket, peer, opening);
  }

  #readName(tls: TlsFront, socket: Socket, peer: string, opening: Opening): void {
    readFirst(socket, HELLO_MS, (bytes) => {
      const hello = readClientHello(bytes);
      if (hello.kind === 'more') return undefined;
      return () => {
        const place = tls.placeOf(hello.kind === 'hello' ? hello.name : '');
        if (place.kind === 'passthrough') {
          this.#handOn(peer);
          place.take(socket, bytes);
          return;
        }
        if (place.kind === 'refused') {
          // Its own end is not waited for: nobody reads here any more.
          socket.end(UNRECOGNIZED_NAME, () => socket.destroy());
          return;
        }
        socket.unshift(bytes);
        if (place.kind === 'here') this.#handshake(this.#tls, socket, peer, opening);
        else this.#handshake(this.#clientTls, socket, peer, { ...opening, authorities: place.authorities });
      };
    });
  }

  #handshake(server: TlsServer | undefined, socket: Socket, peer: string, opening: Opening): void {
    const unopened = this.#unopened.get(peer);
    if (unopened) unopened.opening = opening;
    // A client that leaves amid its handshake is gone: a half-open socket would be held until the time-out, and nobody be told.
    socket.allowHalfOpen = false;
    server?.emit('connection', socket);
  }

  #handOn(peer: string): Opening {
    const opening = this.#unopened.get(peer)?.opening ?? NOTHING;
    this.#unopened.delete(peer);
    return opening;
  }
}

/**
 * Reads the first bytes of a connection until `read` gives what to do; nobody reads the socket then, and it has no listener of ours. The
 * connection ends when that takes longer than `ms`.
 */
function readFirst(socket: Socket, ms: number, read: (bytes: Buffer) => (() => void) | undefined): void {
  let bytes: Buffer = Buffer.alloc(0);
  const leave = (): void => {
    socket.off('data', onData);
    socket.off('end', onEnd);
    socket.off('timeout', onEnd);
    socket.setTimeout(0);
  };
  const onEnd = (): void => {
    leave();
    socket.destroy();
  };
  const onData = (chunk: Buffer): void => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const next = read(bytes);
    if (!next) return;
    leave();
    socket.pause();
    next();
  };
  socket.on('data', onData);
  socket.on('end', onEnd);
  socket.on('timeout', onEnd);
  socket.setTimeout(ms);
}

function peerOf({ remoteAddress, remotePort, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localPort}`;
}

function listen(server: Server, listen: ListenAddress, scheme: string, reusePort: boolean): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(new IngressListenError(error, listen, scheme)));
    server.listen({ host: listen.address, port: listen.port, backlog: 1024, reusePort }, () => {
      server.removeAllListeners('error');
      const bound = server.address();
      resolve(bound !== null && typeof bound === 'object' ? bound : { ...listen, family: '' });
    });
  });
}
