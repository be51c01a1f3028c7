import { ChunkedDecoder, LAST_CHUNK, encodeChunk, type Ranges } from './chunked.ts';
import { textOf } from './octets.ts';
import type { RequestBody, RequestHead } from './request-head.ts';

/** The body of one request on its way to the backend: what is still to come, and how it is framed. */
export class RequestBodyFlow {
  readonly kind: RequestBody;
  done: boolean;
  /** Where the body ends cannot be known any more. */
  failed = false;
  /** Body bytes so far. */
  received = 0;
  #left: number;
  readonly #decoder: ChunkedDecoder | undefined;

  readonly #unframed: boolean;

  /** `frames`: the bytes come without chunks of their own, and `finish` says where they end (HTTP/2). */
  constructor(head: RequestHead, frames: boolean) {
    this.kind = head.body;
    this.#left = head.contentLength;
    this.#unframed = frames && head.body === 'chunked';
    this.#decoder = head.body === 'chunked' && !frames ? new ChunkedDecoder() : undefined;
    this.done = head.body === 'none' || (head.body === 'length' && head.contentLength === 0);
  }

  /** What is there of a body of known length, as text, when it is no more than `limit`; else nothing is taken. */
  takeText(bytes: Buffer, start: number, end: number, limit: number): string {
    const take = this.kind === 'length' ? Math.min(this.#left, end - start) : 0;
    if (take === 0 || take > limit) return '';
    this.#took(take);
    return textOf(bytes, start, start + take);
  }

  /** Reads body bytes from `start` and gives `write` what the backend gets; returns the offset behind what it read. */
  take(bytes: Buffer, start: number, end: number, ranges: Ranges, write: (data: Uint8Array) => void): number {
    ranges.clear();
    if (this.#unframed) {
      ranges.add(start, end);
      this.received += end - start;
      write(encodeChunk(bytes, ranges, '', ''));
      return end;
    }
    if (!this.#decoder) {
      const take = Math.min(this.#left, end - start);
      this.#took(take);
      write(bytes.subarray(start, start + take));
      return start + take;
    }
    const at = this.#decoder.feed(bytes, start, end, ranges);
    if (this.#decoder.failed) {
      this.failed = true;
      return end;
    }
    this.received += ranges.total;
    this.done = this.#decoder.done;
    const data = encodeChunk(bytes, ranges, '', this.done ? LAST_CHUNK : '');
    if (data.length > 0) write(data);
    return at;
  }

  /** The client has ended a body that came unframed; returns what ends it for the backend. */
  finish(): string {
    if (this.done) return '';
    this.done = this.#unframed;
    this.failed = !this.#unframed;
    return this.#unframed ? LAST_CHUNK : '';
  }

  #took(bytes: number): void {
    this.received += bytes;
    this.#left -= bytes;
    this.done = this.#left === 0;
  }
}
