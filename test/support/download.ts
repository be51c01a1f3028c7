// A client that reads a long answer slowly. Runs inside a namespace (netns-agent.ts).

import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';

export interface DownloadOptions {
  readonly address: string;
  readonly port: number;
  /** A rest after each piece that was read, 64 KiB at most. */
  readonly everyMs: number;
}

export interface DownloadState {
  readonly bytes: number;
  /** SHA-256 of what has come. */
  readonly digest: string;
  /** `END` when the server has ended it, or the system's code (ECONNRESET…); empty while it goes on. */
  readonly ended: string;
}

/** The SHA-256 of the so many bytes that a server sends which `sends` them: numbered lines of 64 bytes. */
export function digestOf(bytes: number): string {
  const hash = createHash('sha256');
  for (let line = 0; line < bytes / 64; line++) hash.update(`${String(line).padStart(63, '0')}\n`);
  return hash.digest('hex');
}

export class Download {
  readonly #socket: Socket;
  readonly #hash = createHash('sha256');
  #restMs: number;
  #bytes = 0;
  #ended = '';

  constructor({ address, port, everyMs }: DownloadOptions) {
    this.#restMs = everyMs;
    // The end is the server's: what this end does then is up to `close`.
    this.#socket = connect({ host: address, port, allowHalfOpen: true });
    this.#socket.on('data', (data) => {
      this.#hash.update(data);
      this.#bytes += data.length;
      if (this.#restMs === 0) return;
      this.#socket.pause();
      setTimeout(() => this.#socket.resume(), this.#restMs);
    });
    this.#socket.on('error', (error: NodeJS.ErrnoException) => (this.#ended ||= error.code ?? 'UNKNOWN'));
    this.#socket.on('end', () => (this.#ended ||= 'END'));
  }

  state(): DownloadState {
    return { bytes: this.#bytes, digest: this.#hash.copy().digest('hex'), ended: this.#ended };
  }

  /** Reads without a rest from now on. */
  hurry(): void {
    this.#restMs = 0;
  }

  /** By a reset: nothing on the way has to remember the connection. */
  close(): void {
    this.#socket.resetAndDestroy();
  }
}
