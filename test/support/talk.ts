// One TCP connection that goes on: sends a line every few milliseconds and counts what comes back. Runs inside a namespace (netns-agent.ts).

import { connect, type Socket } from 'node:net';

export interface TalkOptions {
  readonly address: string;
  readonly port: number;
  readonly everyMs: number;
}

export interface TalkState {
  readonly answers: number;
  /** Who answered last. */
  readonly by: string;
  /** The system's code (ECONNRESET…), or `END` where the server ended it; empty while it goes on. */
  readonly ended: string;
}

export class Talk {
  readonly #socket: Socket;
  readonly #timer: NodeJS.Timeout;
  #answers = 0;
  #by = '';
  #ended = '';

  constructor({ address, port, everyMs }: TalkOptions) {
    this.#socket = connect({ host: address, port });
    this.#timer = setInterval(() => {
      if (this.#socket.writable) this.#socket.write('?\n');
    }, everyMs);
    this.#socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = text.trim().split('\n');
      this.#answers += lines.length;
      this.#by = lines.at(-1) ?? '';
    });
    this.#socket.on('error', (error: NodeJS.ErrnoException) => (this.#ended ||= error.code ?? 'UNKNOWN'));
    this.#socket.on('end', () => (this.#ended ||= 'END'));
    this.#socket.on('close', () => clearInterval(this.#timer));
  }

  state(): TalkState {
    return { answers: this.#answers, by: this.#by, ended: this.#ended };
  }

  /** By a reset: nothing on the way has to remember the connection. */
  close(): void {
    clearInterval(this.#timer);
    this.#socket.resetAndDestroy();
  }
}
