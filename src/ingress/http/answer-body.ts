import { ChunkedDecoder, LAST_CHUNK, encodeChunk, joinRanges, type Ranges } from './chunked.ts';
import type { ResponseBody, ResponseHead } from './response-head.ts';

/** The body of one answer on its way to the client: how the backend frames it, and how the client gets it. */
export class AnswerBodyFlow {
  readonly kind: ResponseBody;
  /** Chunks to the client: it speaks HTTP/1.1 and the length is not known. */
  readonly chunked: boolean;
  /** Only the end of the connection tells an HTTP/1.0 client where the body ends. */
  readonly untilClose: boolean;
  whole: boolean;
  failed = false;
  /** Offset behind what the last `take` read. */
  end = 0;
  /** Body bytes to the client so far. */
  sent = 0;
  left: number;
  readonly #chunkTrailers: boolean;
  readonly #encoded: boolean;
  readonly #decoder: ChunkedDecoder | undefined;

  /** `framing`: how the client learns where a body of unknown length ends. `encoded`: the client gets other bytes, of no known length. */
  constructor(head: ResponseHead, framing: 'chunks' | 'close' | 'frames', trailers: boolean, encoded: boolean) {
    this.kind = head.body;
    this.#encoded = encoded;
    const unknownLength = encoded || head.body === 'chunked' || head.body === 'close';
    this.chunked = unknownLength && framing === 'chunks';
    this.untilClose = unknownLength && framing === 'close';
    this.whole = head.body === 'none';
    this.left = head.contentLength;
    this.#decoder = head.body === 'chunked' ? new ChunkedDecoder(trailers) : undefined;
    this.#chunkTrailers = trailers && framing === 'chunks';
  }

  /** Trailer fields may follow the body, and the client is to get them. */
  get mayHaveTrailers(): boolean {
    return this.#decoder?.keepsTrailers ?? false;
  }

  /** The trailer fields that go on, as lines; after the body. */
  get trailers(): string {
    return trailersFor(this.#decoder?.trailers ?? '');
  }

  /** Reads body bytes; returns `lead` and what the client gets of them, or what is to be encoded, in a buffer of its own. */
  take(bytes: Buffer, start: number, end: number, lead: string, ranges: Ranges): Buffer {
    ranges.clear();
    this.end = end;
    if (this.kind === 'length') {
      this.end = Math.min(end, start + this.left);
      this.left -= this.end - start;
      this.whole = this.left === 0;
      ranges.add(start, this.end);
    } else if (this.#decoder) {
      this.end = this.#decoder.feed(bytes, start, end, ranges);
      this.failed = this.#decoder.failed;
      this.whole = this.#decoder.done;
    } else ranges.add(start, end);
    if (this.#encoded) return joinRanges(bytes, ranges, lead);
    this.sent += ranges.total;
    if (!this.chunked) return joinRanges(bytes, ranges, lead);
    return encodeChunk(bytes, ranges, lead, this.whole ? this.lastChunk : '');
  }

  /** What was encoded, as the client gets it. */
  frame(bytes: Buffer, ranges: Ranges): Buffer {
    this.sent += bytes.length;
    if (!this.chunked) return bytes;
    ranges.clear();
    ranges.add(0, bytes.length);
    return encodeChunk(bytes, ranges, '', '');
  }

  /** What ends a body in chunks. */
  get lastChunk(): string {
    if (!this.chunked) return '';
    return this.#chunkTrailers ? `0\r\n${this.trailers}\r\n` : LAST_CHUNK;
  }
}

/** RFC 9110 section 6.5.1: fields that frame, route or authenticate a message have no place behind it. */
const FORBIDDEN =
  /^(?:transfer-encoding|content-(?:length|encoding|type|range)|host|connection|keep-alive|proxy-.*|te|trailer|upgrade|set-cookie|authorization|cache-control|expires|date|location|vary|www-authenticate|.*_.*)$/i;

function trailersFor(lines: string): string {
  return lines
    .split('\r\n')
    .filter((line) => line !== '' && !FORBIDDEN.test(line.slice(0, line.indexOf(':'))))
    .map((line) => `${line}\r\n`)
    .join('');
}
