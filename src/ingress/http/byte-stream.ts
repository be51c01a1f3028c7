import type { Resettable } from '../../system/tcp.ts';
import type { PeerFacts } from './forward.ts';

/** What the engine needs of a connection to a client: a `net.Socket` and a `tls.TLSSocket` are ones. */
export interface ByteStream {
  write(data: string, encoding: 'latin1'): boolean;
  write(data: Uint8Array): boolean;
  end(): unknown;
  destroy(): unknown;
  pause(): unknown;
  resume(): unknown;
  readonly writableNeedDrain: boolean;
  /** Bytes written that the system has not taken yet. */
  readonly writableLength: number;
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  on(event: 'end' | 'close' | 'drain', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** A stream that can also be cut so that the peer sees a broken connection and not a clean end. */
export interface ClientStream extends ByteStream, Resettable {
  removeAllListeners?(event: string): unknown;
}

export interface ClientInfo {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localPort: number;
  readonly secure: boolean;
  readonly peer?: PeerFacts;
}

/** What comes from a connection to a backend. `bytes` is only good during the call. */
export interface UpstreamEvents {
  onConnect(): void;
  onData(bytes: Buffer, length: number): void;
  onEnd(): void;
  onDrain(): void;
  /** Always the last; also without a connection before. */
  onClose(): void;
}

export type UpstreamStream = Omit<ByteStream, 'on'>;

/** Opens a connection to a backend; injected, so that the engine can be run without sockets. */
export type Dial = (ip: string, port: number, events: UpstreamEvents) => UpstreamStream;
