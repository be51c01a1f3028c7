// The way to one upstream server: UDP by sockets that live for a short time, TCP and TLS by connections that are kept for the
// next question, HTTPS by one connection for all of them.

import type { SecureContextOptions } from 'node:tls';
import type { Ip } from '../lib/ip.ts';
import type { Clock, Timer } from '../system/clock.ts';
import { systemTcp, type TcpSocket } from '../system/tcp.ts';
import type { Transport } from './handler.ts';
import { HttpsLink } from './upstream-https.ts';
import { UpstreamUdp } from './upstream-udp.ts';
import { askOn, type Exchange, type UpstreamServer } from './upstream.ts';

export interface LinkOptions {
  readonly server: UpstreamServer;
  readonly clock: Clock;
  /** Aborted at the end: what waits is given up, and what is kept is closed. */
  readonly stopped: AbortSignal;
  readonly source: Ip | undefined;
  /** What to trust and to show; the system's authorities when empty. */
  readonly tls: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>;
  /** Silence after which a kept connection is closed. */
  readonly expireMs: number;
  /** Age after which one is not used again; 0 is any. */
  readonly maxAgeMs: number;
  /** Connections that are kept; 0 is any number. */
  readonly maxIdle: number;
  readonly dohMethod: 'GET' | 'POST';
  /** 0 to 65535, not to be guessed. */
  readonly randomId: () => number;
  /** Told whether a kept connection was there, by protocol. */
  readonly onReuse: (reused: boolean, proto: 'udp' | 'tcp' | 'tcp-tls') => void;
}

export interface UpstreamLink {
  /** Never rejects. `transport` is for plain DNS. */
  ask(packet: Buffer, transport: Transport, timeoutMs: number): Promise<Exchange>;
}

interface Idle {
  readonly socket: TcpSocket;
  readonly bornAt: number;
  readonly expiry: Timer;
  readonly forget: () => void;
}

export function upstreamLink(options: LinkOptions): UpstreamLink {
  return options.server.scheme === 'https' ? new HttpsLink(options) : new StreamLink(options);
}

class StreamLink implements UpstreamLink {
  readonly #options: LinkOptions;
  #idle: Idle[] = [];
  #udp: UpstreamUdp | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    options.stopped.addEventListener('abort', () => {
      for (const { socket, expiry } of this.#idle.splice(0)) {
        expiry.cancel();
        socket.destroy();
      }
    });
  }

  async ask(packet: Buffer, transport: Transport, timeoutMs: number): Promise<Exchange> {
    const { server, stopped } = this.#options;
    if (stopped.aborted) return { kind: 'failed', code: 'ABORTED' };
    if (server.scheme === undefined && transport === 'udp') {
      return (this.#udp ??= new UpstreamUdp(this.#options)).ask(packet, timeoutMs);
    }
    return this.#askByStream(packet, timeoutMs);
  }

  async #askByStream(packet: Buffer, timeoutMs: number): Promise<Exchange> {
    const { clock, stopped, server, onReuse } = this.#options;
    const giveUp = new AbortController();
    const timer = clock.after(timeoutMs, () => giveUp.abort());
    const signal = AbortSignal.any([giveUp.signal, stopped]);
    const failed = (): Exchange => ({ kind: 'failed', code: stopped.aborted ? 'ABORTED' : 'TIMEOUT' });
    const proto = server.scheme === 'tls' ? 'tcp-tls' : 'tcp';
    try {
      for (let kept = this.#take(); kept; kept = this.#take()) {
        const result = await askOn(kept.socket, packet, signal);
        if (!result) {
          kept.socket.destroy();
          return failed();
        }
        // The other side may have closed it meanwhile: that says nothing of the server.
        if (result.kind === 'failed' && result.code !== 'BAD_REPLY') continue;
        onReuse(true, proto);
        this.#keepOrClose(kept.socket, kept.bornAt, result);
        return result;
      }
      onReuse(false, proto);
      const connected = await this.#connect(signal);
      if (typeof connected === 'string') return signal.aborted ? failed() : { kind: 'failed', code: connected };
      const result = await askOn(connected, packet, signal);
      if (!result) connected.destroy();
      else this.#keepOrClose(connected, clock.monotonic(), result);
      return result ?? failed();
    } finally {
      timer.cancel();
    }
  }

  /** The socket, or the code of what went wrong. */
  async #connect(signal: AbortSignal): Promise<TcpSocket | string> {
    const { server, source, tls } = this.#options;
    // Loaded where it is used, for the memory of each thread; before there is a socket whose errors somebody has to hear.
    const connectTls = server.scheme === 'tls' ? (await import('node:tls')).connect : undefined;
    const connected = await systemTcp.connect({ ...server, localAddress: source, signal });
    if (connected.kind === 'failed') return connected.code;
    const { socket } = connected;
    if (!connectTls) return socket;
    return new Promise((resolve) => {
      const secure = connectTls({
        ...tls,
        socket,
        host: server.address,
        // An address is no name for SNI (RFC 6066 section 3), and is held against the certificate all the same.
        ...(server.serverName === undefined ? {} : { servername: server.serverName }),
        minVersion: 'TLSv1.2',
        ALPNProtocols: ['dot'],
      });
      const done = (result: TcpSocket | string): void => {
        signal.removeEventListener('abort', abort);
        if (typeof result === 'string') socket.destroy();
        resolve(result);
      };
      const abort = (): void => done('ABORTED');
      // Heard for as long as it lives: an error that nobody hears ends the process.
      secure.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'TLS'));
      secure.once('secureConnect', () => done(secure));
      secure.once('close', () => done('CLOSED'));
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
    });
  }

  /** The one that was kept longest, as its turn is next. */
  #take(): Idle | undefined {
    const { clock, maxAgeMs } = this.#options;
    for (;;) {
      const idle = this.#idle.shift();
      if (!idle) return undefined;
      idle.expiry.cancel();
      idle.forget();
      if (!idle.socket.destroyed && (maxAgeMs === 0 || clock.monotonic() - idle.bornAt < maxAgeMs)) return idle;
      idle.socket.destroy();
    }
  }

  #keepOrClose(socket: TcpSocket, bornAt: number, result: Exchange): void {
    const { clock, stopped, expireMs, maxIdle } = this.#options;
    const full = maxIdle > 0 && this.#idle.length >= maxIdle;
    if (result.kind !== 'reply' || stopped.aborted || full || socket.destroyed) {
      socket.destroy();
      return;
    }
    const drop = (): void => {
      this.#idle = this.#idle.filter((one) => one.socket !== socket);
      idle.expiry.cancel();
      idle.forget();
      socket.destroy();
    };
    const idle: Idle = {
      socket,
      bornAt,
      expiry: clock.after(expireMs, drop),
      forget: () => {
        for (const event of ['end', 'close', 'data']) socket.off(event, drop);
      },
    };
    // Nothing is to come on it until it is asked again.
    for (const event of ['end', 'close', 'data']) socket.on(event, drop);
    this.#idle.push(idle);
  }
}
