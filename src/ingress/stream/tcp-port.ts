import type { Clock } from '../../system/clock.ts';
import type { Tcp, TcpSocket } from '../../system/tcp.ts';
import type { Ip } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { RoundRobin } from '../balance.ts';
import { plainAddress } from '../http/client-address.ts';
import { proxyLine, readProxyHeader, type ProxiedClient } from '../http/proxy-protocol.ts';
import { joinEndpoint } from './reach.ts';

/** One endpoint of a Service. */
export interface StreamTarget {
  readonly ip: Ip;
  readonly port: Port;
}

/** How one port is passed on; changes while connections are open. */
export interface TcpSettings {
  readonly proxyIn: boolean;
  readonly proxyOut: boolean;
  /** For the header of the PROXY protocol. */
  readonly headerMs: number;
  /** Without a byte either way. */
  readonly idleMs: number;
  readonly connectMs: number;
}

/** The connections of one TCP port: each is one client and one endpoint, and what one says the other hears. */
export class TcpConnections {
  readonly #tcp: Tcp;
  readonly #clock: Clock;
  readonly #turn: RoundRobin<StreamTarget>;
  readonly #settings: () => TcpSettings;
  readonly #open = new Set<TcpSocket>();
  #idle: (() => void) | undefined;

  constructor(tcp: Tcp, clock: Clock, turn: RoundRobin<StreamTarget>, settings: () => TcpSettings) {
    this.#tcp = tcp;
    this.#clock = clock;
    this.#turn = turn;
    this.#settings = settings;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Never rejects. */
  async serve(client: TcpSocket): Promise<void> {
    this.#open.add(client);
    client.on('error', () => {});
    client.on('close', () => {
      this.#open.delete(client);
      if (this.#open.size === 0) this.#idle?.();
    });
    const settings = this.#settings();
    const proxied = settings.proxyIn ? await readHeader(client, this.#clock, settings.headerMs) : undefined;
    if (proxied === 'bad') {
      client.destroy();
      return;
    }
    const { idleMs, connectMs, proxyOut } = settings;
    await joinEndpoint(client, this.#turn, {
      tcp: this.#tcp,
      clock: this.#clock,
      connectMs,
      idleMs,
      first: proxyOut ? lineFor(client, proxied) : undefined,
    });
  }

  /** Waits until the last one has ended, or the signal; then ends those that are left. */
  async drain(signal: AbortSignal): Promise<void> {
    if (this.#open.size > 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    for (const client of this.#open) client.destroy();
  }
}

/** What the PROXY protocol says of the client; undefined where the peer speaks for itself. */
function readHeader(client: TcpSocket, clock: Clock, ms: number): Promise<ProxiedClient | 'bad' | undefined> {
  return new Promise((resolve) => {
    let bytes: Buffer = Buffer.alloc(0);
    const done = (result: ProxiedClient | 'bad' | undefined): void => {
      timer.cancel();
      client.off('data', onData);
      client.off('close', onClose);
      client.pause();
      resolve(result);
    };
    const timer = clock.after(ms, () => done('bad'));
    const onClose = (): void => done('bad');
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const header = readProxyHeader(bytes);
      if (header.kind === 'more') return;
      done(header.kind === 'bad' ? 'bad' : header.client);
      if (header.kind === 'header' && bytes.length > header.length) client.unshift(bytes.subarray(header.length));
    };
    client.on('data', onData);
    client.once('close', onClose);
  });
}

/** What the endpoint is told first. */
function lineFor(client: TcpSocket, proxied: ProxiedClient | undefined): string {
  return proxyLine(
    plainAddress(proxied?.remoteAddress ?? client.remoteAddress ?? ''),
    proxied?.remotePort ?? client.remotePort ?? 0,
    plainAddress(client.localAddress ?? ''),
    proxied?.localPort ?? client.localPort ?? 0,
  );
}
