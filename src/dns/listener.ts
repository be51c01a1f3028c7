// The sockets that queries come in on: UDP and TCP at each address, or TLS, or HTTPS, as its scheme says.

import type { Ip } from '../lib/ip.ts';
import type { Clock } from '../system/clock.ts';
import type { Transport } from './handler.ts';
import { DnsListenError } from './listen-error.ts';
import type { DnsMetrics } from './metrics.ts';
import type { DnsServer, Site } from './server.ts';
import { bindTcp } from './tcp-listener.ts';
import type { TlsSetting } from './tls-setting.ts';
import { bindUdp } from './udp-listener.ts';

/** How queries travel: plain over UDP and TCP, over TLS (RFC 7858), over HTTPS (RFC 8484). */
export type Scheme = 'dns' | 'tls' | 'https';

export interface ListenAddress {
  readonly address: Ip;
  /** 0 lets the system choose, one port for UDP and TCP. */
  readonly port: number;
  /** `dns` unless given. */
  readonly scheme?: Scheme;
}

export interface BoundAddress {
  readonly address: Ip;
  readonly port: number;
  readonly protocol: Transport | 'tls' | 'https';
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
  /** For the schemes that need it. */
  readonly tls: TlsSetting | undefined;
}

export interface Listener {
  readonly addresses: readonly BoundAddress[];
  /** Connections that are open. */
  readonly connections: number;
  /** Counts the answers that were given again. */
  settle(): void;
  /** Takes this certificate from the next connection on. */
  secure(tls: TlsSetting): void;
  /**
   * Takes what has come until now, and nothing new; resolves once that is read, and connections have got their answers and
   * their end. What waits for others is still answered until it is closed.
   */
  drain(): Promise<void>;
  /** Closes every socket. */
  close(): Promise<void>;
}

/** One socket, or one server with its connections: a part of a listener, or the whole. */
export type Side = Omit<Listener, 'addresses'> & { readonly port: number };

/** The port that the system chooses for UDP may be taken for TCP (by any connection that is open): then another one is tried. */
const PORT_CHOICES = 100;

/** Rejects with a DnsListenError; nothing stays open then. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { at } = options;
  switch (at.scheme ?? 'dns') {
    case 'dns':
      return startPlainListener(options);
    case 'tls': {
      const tcp = await bindTcp(options);
      return sideListener(tcp, { address: at.address, port: tcp.port, protocol: 'tls' });
    }
    case 'https': {
      // Loaded where it is used: HTTP/2 costs 5 MB in each thread.
      const { startHttpsListener } = await import('./https-listener.ts');
      const https = await startHttpsListener(options);
      return sideListener(https, { address: at.address, port: https.port, protocol: 'https' });
    }
  }
}

async function startPlainListener(options: ListenerOptions): Promise<Listener> {
  const { at } = options;
  for (let choice = 1; ; choice++) {
    const udp = await bindUdp(options);
    const { port } = udp;
    try {
      const tcp = await bindTcp({ ...options, at: { ...at, port } });
      return plainListener(at.address, udp, tcp);
    } catch (error) {
      await udp.close();
      const taken = error instanceof DnsListenError && error.code === 'port-in-use';
      if (at.port !== 0 || !taken || choice >= PORT_CHOICES) throw error;
    }
  }
}

function plainListener(address: Ip, udp: Side, tcp: Side): Listener {
  const { port } = udp;
  return {
    addresses: [
      { address, port, protocol: 'udp' },
      { address, port, protocol: 'tcp' },
    ],
    get connections() {
      return tcp.connections;
    },
    settle: () => {
      udp.settle();
      tcp.settle();
    },
    secure: () => {},
    drain: async () => {
      await Promise.all([udp.drain(), tcp.drain()]);
    },
    close: async () => {
      await Promise.all([tcp.close(), udp.close()]);
    },
  };
}

function sideListener(side: Side, bound: BoundAddress): Listener {
  return {
    addresses: [bound],
    get connections() {
      return side.connections;
    },
    settle: () => side.settle(),
    secure: (tls) => side.secure(tls),
    drain: () => side.drain(),
    close: () => side.close(),
  };
}
