import { ERROR, FLAG, FRAME, FRAME_HEAD, MAX_FRAME } from './http2-frames.ts';
import type { FieldBlock } from './hpack.ts';

/** Of one buffer: 64 KB of an answer in whole frames, and room for heads. */
const BUFFER = 4 * (FRAME_HEAD + MAX_FRAME) + 4096;
/** Buffers that are kept for the next output. */
const MAX_SPARE = 32;

/** What a connection's output needs of its socket. */
export interface OutputSocket {
  write(data: Uint8Array, done: (error?: Error | null) => void): boolean;
  end(): unknown;
  readonly writableNeedDrain: boolean;
  readonly destroyed: boolean;
}

/** Buffers for output, used again by all connections of one thread. */
export class OutputBuffers {
  readonly #spare: Buffer[] = [];

  take(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER);
  }

  giveBack(buffer: Buffer): void {
    if (this.#spare.length < MAX_SPARE) this.#spare.push(buffer);
  }
}

/**
 * The frames that one connection sends. Those of one turn of the event loop leave in one write: the answers that
 * arrived in it cost one system call, and one record of TLS.
 */
export class Http2Output {
  readonly #socket: OutputSocket;
  readonly #buffers: OutputBuffers;
  #buffer: Buffer | undefined;
  #used = 0;
  #scheduled = false;
  #ended = false;
  /** Where the last frame starts, when it is DATA of this stream. */
  #dataAt = 0;
  #dataOf = 0;
  readonly #flush = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  constructor(socket: OutputSocket, buffers: OutputBuffers) {
    this.#socket = socket;
    this.#buffers = buffers;
  }

  /** The socket has more than it takes: `drain` follows. */
  get congested(): boolean {
    return this.#socket.writableNeedDrain;
  }

  headers(stream: number, block: FieldBlock, endStream: boolean): void {
    const end = endStream ? FLAG.endStream : 0;
    let at = 0;
    do {
      const length = Math.min(block.length - at, MAX_FRAME);
      const last = at + length === block.length ? FLAG.endHeaders : 0;
      const flags = at === 0 ? end | last : last;
      const to = this.#frame(at === 0 ? FRAME.headers : FRAME.continuation, flags, stream, length);
      block.bytes.copy(to, this.#used - length, at, at + length);
      at += length;
    } while (at < block.length);
  }

  /** At most one frame's worth. */
  data(stream: number, bytes: Uint8Array, start: number, end: number): void {
    const to = this.#frame(FRAME.data, 0, stream, end - start);
    to.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end), this.#used - (end - start));
    this.#dataAt = this.#used - (end - start) - FRAME_HEAD;
    this.#dataOf = stream;
  }

  /** The same of text, one character a byte. */
  text(stream: number, text: string, endStream: boolean): void {
    const to = this.#frame(FRAME.data, endStream ? FLAG.endStream : 0, stream, text.length);
    to.write(text, this.#used - text.length, 'latin1');
  }

  /** The end of a stream: with the data before it, when that is still here. */
  endData(stream: number): void {
    if (this.#dataOf === stream && this.#buffer) this.#buffer[this.#dataAt + 4] = FLAG.endStream;
    else this.#frame(FRAME.data, FLAG.endStream, stream, 0);
    this.#dataOf = 0;
  }

  reset(stream: number, code: number): void {
    this.#frame(FRAME.reset, 0, stream, 4).writeUInt32BE(code, this.#used - 4);
  }

  windowUpdate(stream: number, bytes: number): void {
    this.#frame(FRAME.windowUpdate, 0, stream, 4).writeUInt32BE(bytes, this.#used - 4);
  }

  settings(values: readonly (readonly [number, number])[]): void {
    const to = this.#frame(FRAME.settings, 0, 0, values.length * 6);
    let at = this.#used - values.length * 6;
    for (const [name, value] of values) at = to.writeUInt32BE(value, to.writeUInt16BE(name, at));
  }

  acknowledgeSettings(): void {
    this.#frame(FRAME.settings, FLAG.ack, 0, 0);
  }

  /** `data`: eight bytes. */
  ping(data: Uint8Array, ack: boolean): void {
    this.#frame(FRAME.ping, ack ? FLAG.ack : 0, 0, 8).set(data, this.#used - 8);
  }

  goAway(lastStream: number, code: number = ERROR.none): void {
    const to = this.#frame(FRAME.goAway, 0, 0, 8);
    to.writeUInt32BE(code, to.writeUInt32BE(lastStream, this.#used - 8));
  }

  /** Sends what is here now. */
  flush(): void {
    const buffer = this.#buffer;
    if (!buffer) return;
    this.#buffer = undefined;
    this.#dataOf = 0;
    const bytes = buffer.subarray(0, this.#used);
    this.#used = 0;
    if (this.#ended || this.#socket.destroyed) {
      this.#buffers.giveBack(buffer);
      return;
    }
    this.#socket.write(bytes, (error) => {
      // After an error the system may still read from it.
      if (!error) this.#buffers.giveBack(buffer);
    });
  }

  /** Sends what is here, and nothing after it. */
  end(): void {
    this.flush();
    this.#ended = true;
    this.#socket.end();
  }

  /** Makes room for a frame and writes its head; the payload is what comes before `#used`. */
  #frame(type: number, flags: number, stream: number, length: number): Buffer {
    if (this.#buffer && this.#used + FRAME_HEAD + length > BUFFER) this.flush();
    this.#buffer ??= this.#buffers.take();
    if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#flush);
    }
    const buffer = this.#buffer;
    const at = this.#used;
    buffer[at] = length >>> 16;
    buffer[at + 1] = (length >>> 8) & 0xff;
    buffer[at + 2] = length & 0xff;
    buffer[at + 3] = type;
    buffer[at + 4] = flags;
    buffer[at + 5] = stream >>> 24;
    buffer[at + 6] = (stream >>> 16) & 0xff;
    buffer[at + 7] = (stream >>> 8) & 0xff;
    buffer[at + 8] = stream & 0xff;
    this.#used = at + FRAME_HEAD + length;
    this.#dataOf = 0;
    return buffer;
  }
}
