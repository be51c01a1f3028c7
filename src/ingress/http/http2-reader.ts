import { ERROR, FLAG, FRAME, FRAME_HEAD, MAX_FRAME, PREFACE } from './http2-frames.ts';

/** Frames that one field block may be continued by, beside those that its bytes need (CVE-2024-27316: a flood of them). */
const MORE_CONTINUATIONS = 8;
const STREAM_MASK = 0x7fffffff;

/** One frame; `bytes` from `start` to `end` are its payload, without padding where it has some. */
export interface Frame {
  type: number;
  flags: number;
  stream: number;
  bytes: Buffer;
  start: number;
  end: number;
  /** Bytes of padding that were taken away, the one of their length included. */
  padding: number;
}

/** A field block of which there is more to come. */
interface Block {
  readonly stream: number;
  readonly flags: number;
  bytes: Buffer;
  frames: number;
}

/** What is done with a frame. Returns the error that ends the connection. */
export type OnFrame = (frame: Frame) => number | undefined;

/**
 * The bytes of a client as frames: the preface, their order and sizes, padding, and field blocks over several frames, which become one HEADERS.
 * A frame is good until the next one.
 */
export class Http2Reader {
  readonly #onFrame: OnFrame;
  readonly #maxBlock: number;
  readonly #maxContinuations: number;
  readonly #frame: Frame = { type: 0, flags: 0, stream: 0, bytes: PREFACE, start: 0, end: 0, padding: 0 };
  /** The bytes of a frame that is not here in full. */
  #rest: Buffer | undefined;
  #prefaced = false;
  #settled = false;
  #block: Block | undefined;

  /** `maxBlock`: bytes of a field block. */
  constructor(maxBlock: number, onFrame: OnFrame) {
    this.#maxBlock = maxBlock;
    this.#maxContinuations = MORE_CONTINUATIONS + Math.floor(maxBlock / MAX_FRAME);
    this.#onFrame = onFrame;
  }

  /** The first frame, which has to be SETTINGS, was there. */
  get settled(): boolean {
    return this.#settled;
  }

  /** A field block has begun and not ended. */
  get amidBlock(): boolean {
    return this.#block !== undefined;
  }

  /** Nothing of what is here is read. */
  drop(): void {
    this.#rest = undefined;
    this.#block = undefined;
  }

  /** Reads whole frames; returns the error that ends the connection. */
  read(chunk: Buffer): number | undefined {
    const bytes = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
    this.#rest = undefined;
    let at = 0;
    if (!this.#prefaced) {
      const length = Math.min(bytes.length, PREFACE.length);
      if (PREFACE.compare(bytes, 0, length, 0, length) !== 0) return ERROR.protocol;
      this.#prefaced = length === PREFACE.length;
      at = this.#prefaced ? length : 0;
    }
    while (this.#prefaced && bytes.length - at >= FRAME_HEAD) {
      const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
      if (length > MAX_FRAME) return ERROR.frameSize;
      const end = at + FRAME_HEAD + length;
      if (end > bytes.length) break;
      const problem = this.#read(bytes, at, end);
      if (problem !== undefined) return problem;
      at = end;
    }
    if (at < bytes.length) this.#rest = bytes.subarray(at);
    return undefined;
  }

  #read(bytes: Buffer, at: number, end: number): number | undefined {
    const frame = this.#frame;
    frame.type = bytes[at + 3] as number;
    frame.flags = bytes[at + 4] as number;
    frame.stream = bytes.readUInt32BE(at + 5) & STREAM_MASK;
    frame.bytes = bytes;
    frame.start = at + FRAME_HEAD;
    frame.end = end;
    frame.padding = 0;
    if (this.#block) return this.#continue(this.#block, frame);
    if (!this.#settled && frame.type !== FRAME.settings) return ERROR.protocol;
    this.#settled = true;
    switch (frame.type) {
      case FRAME.data:
        return unpadded(frame) ? this.#onFrame(frame) : ERROR.protocol;
      case FRAME.headers:
        if (!unpadded(frame)) return ERROR.protocol;
        if (frame.flags & FLAG.priority) frame.start += 5;
        if (frame.start > frame.end) return ERROR.protocol;
        if (frame.flags & FLAG.endHeaders) return this.#onFrame(frame);
        this.#block = {
          stream: frame.stream,
          flags: frame.flags,
          bytes: Buffer.from(bytes.subarray(frame.start, frame.end)),
          frames: 0,
        };
        return undefined;
      case FRAME.continuation:
        return ERROR.protocol;
      default:
        return this.#onFrame(frame);
    }
  }

  #continue(block: Block, frame: Frame): number | undefined {
    if (frame.type !== FRAME.continuation || frame.stream !== block.stream) return ERROR.protocol;
    block.bytes = Buffer.concat([block.bytes, frame.bytes.subarray(frame.start, frame.end)]);
    if (++block.frames > this.#maxContinuations || block.bytes.length > this.#maxBlock) return ERROR.enhanceYourCalm;
    if (!(frame.flags & FLAG.endHeaders)) return undefined;
    this.#block = undefined;
    frame.type = FRAME.headers;
    frame.flags = block.flags;
    frame.bytes = block.bytes;
    frame.start = 0;
    frame.end = block.bytes.length;
    return this.#onFrame(frame);
  }
}

/** False when there is more padding than frame. */
function unpadded(frame: Frame): boolean {
  if (!(frame.flags & FLAG.padded)) return true;
  if (frame.start === frame.end) return false;
  frame.padding = 1 + (frame.bytes[frame.start] as number);
  frame.start += 1;
  frame.end -= frame.padding - 1;
  return frame.start <= frame.end;
}
