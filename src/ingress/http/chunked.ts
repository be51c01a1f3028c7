import { CLASS, CR, HEX, LF, SEMICOLON, TOKEN, VALUE, COLON } from './octets.ts';

/** Data ranges of one buffer, in order; used again and again. */
export class Ranges {
  count = 0;
  /** Bytes in all ranges. */
  total = 0;
  readonly starts: number[] = [];
  readonly ends: number[] = [];

  clear(): void {
    this.count = 0;
    this.total = 0;
  }

  add(start: number, end: number): void {
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count++;
    this.total += end - start;
  }
}

const STATE = {
  sizeStart: 0,
  size: 1,
  extension: 2,
  sizeLf: 3,
  data: 4,
  dataCr: 5,
  dataLf: 6,
  lineStart: 7,
  trailerName: 8,
  trailerValue: 9,
  trailerLf: 10,
  lastLf: 11,
  done: 12,
  failed: 13,
} as const;

/** A size of more digits is no size that a peer means (leading zeros count too); 2^52 stays exact. */
const MAX_SIZE_DIGITS = 13;
/** Extensions and trailers are dropped; a body made of them is an attack (CVE-2023-39326, CVE-2024-22019). */
const MAX_OVERHEAD = 16 * 1024;

/** A chunked body (RFC 9112 section 7.1), decoded strictly over any split of the bytes. Extensions and trailers are dropped. */
export class ChunkedDecoder {
  #state: number = STATE.sizeStart;
  #remaining = 0;
  #digits = 0;
  #overhead = 0;
  /** Trailer lines, where they are wanted. */
  trailers = '';
  readonly #keepTrailers: boolean;

  constructor(keepTrailers = false) {
    this.#keepTrailers = keepTrailers;
  }

  get keepsTrailers(): boolean {
    return this.#keepTrailers;
  }

  get done(): boolean {
    return this.#state === STATE.done;
  }

  get failed(): boolean {
    return this.#state === STATE.failed;
  }

  /** Reads from `start`, adds the data to `ranges` and returns the offset behind what it read: `end`, or less when done or failed. */
  feed(bytes: Uint8Array, start: number, end: number, ranges: Ranges): number {
    let at = start;
    while (at < end && this.#state < STATE.done) {
      if (this.#state === STATE.data) {
        const take = Math.min(this.#remaining, end - at);
        ranges.add(at, at + take);
        at += take;
        this.#remaining -= take;
        if (this.#remaining === 0) this.#state = STATE.dataCr;
        continue;
      }
      this.#state = this.#step(bytes[at] as number);
      if (this.#keepTrailers && this.#state >= STATE.lineStart) this.#keepTrailer(bytes[at] as number);
      at++;
    }
    return at;
  }

  /** The state after one byte outside of data. */
  #step(byte: number): number {
    switch (this.#state) {
      case STATE.sizeStart:
      case STATE.size:
        return this.#sizeByte(byte);
      case STATE.extension:
        if (byte === CR) return STATE.sizeLf;
        return (CLASS[byte] as number) & VALUE ? this.#spend(STATE.extension) : STATE.failed;
      case STATE.sizeLf:
        if (byte !== LF) return STATE.failed;
        return this.#remaining > 0 ? STATE.data : STATE.lineStart;
      case STATE.dataCr:
        return byte === CR ? STATE.dataLf : STATE.failed;
      case STATE.dataLf:
        if (byte !== LF) return STATE.failed;
        this.#digits = 0;
        return STATE.sizeStart;
      case STATE.lineStart:
        if (byte === CR) return STATE.lastLf;
        return (CLASS[byte] as number) & TOKEN ? this.#spend(STATE.trailerName) : STATE.failed;
      case STATE.trailerName:
        if (byte === COLON) return STATE.trailerValue;
        return (CLASS[byte] as number) & TOKEN ? this.#spend(STATE.trailerName) : STATE.failed;
      case STATE.trailerValue:
        if (byte === CR) return STATE.trailerLf;
        return (CLASS[byte] as number) & VALUE ? this.#spend(STATE.trailerValue) : STATE.failed;
      case STATE.trailerLf:
        return byte === LF ? STATE.lineStart : STATE.failed;
      case STATE.lastLf:
        return byte === LF ? STATE.done : STATE.failed;
      default:
        return STATE.failed;
    }
  }

  /** Every byte of a trailer line, its end included; the empty line that ends them is not kept. */
  #keepTrailer(byte: number): void {
    const inLine =
      this.#state === STATE.trailerName || this.#state === STATE.trailerValue || this.#state === STATE.trailerLf;
    if (inLine) this.trailers += String.fromCharCode(byte);
    else if (this.#state === STATE.lineStart && this.trailers !== '') this.trailers += '\n';
  }

  #sizeByte(byte: number): number {
    const digit = HEX[byte] as number;
    if (digit < 16) {
      this.#remaining = this.#digits === 0 ? digit : this.#remaining * 16 + digit;
      return ++this.#digits > MAX_SIZE_DIGITS ? STATE.failed : STATE.size;
    }
    if (this.#digits === 0) return STATE.failed;
    if (byte === CR) return STATE.sizeLf;
    return byte === SEMICOLON ? this.#spend(STATE.extension) : STATE.failed;
  }

  #spend(next: number): number {
    return ++this.#overhead > MAX_OVERHEAD ? STATE.failed : next;
  }
}

/** `lead`, the ranges as one chunk (none when they are empty) and `tail`, in a buffer of its own. */
export function encodeChunk(bytes: Buffer, ranges: Ranges, lead: string, tail: string): Buffer {
  const before = ranges.total > 0 ? `${lead}${ranges.total.toString(16)}\r\n` : lead;
  const after = ranges.total > 0 ? `\r\n${tail}` : tail;
  return wrapRanges(bytes, ranges, before, after);
}

/** `lead` and the ranges, in a buffer of its own. */
export function joinRanges(bytes: Buffer, ranges: Ranges, lead: string): Buffer {
  return wrapRanges(bytes, ranges, lead, '');
}

export const LAST_CHUNK = '0\r\n\r\n';

function wrapRanges(bytes: Buffer, ranges: Ranges, before: string, after: string): Buffer {
  const joined = Buffer.allocUnsafe(before.length + ranges.total + after.length);
  let at = before === '' ? 0 : joined.write(before, 0, 'latin1');
  for (let i = 0; i < ranges.count; i++) at += bytes.copy(joined, at, ranges.starts[i], ranges.ends[i]);
  if (after !== '') joined.write(after, at, 'latin1');
  return joined;
}
