// HTTP/2 with clients (RFC 9113): frames, flow control and the order of streams. What a request is, is read by the reader of HTTP/1.1
// and served by the same exchange. A peer that breaks a rule of the connection, or floods it, ends it.

import type { Socket } from 'node:net';
import type { ClientInfo } from './byte-stream.ts';
import { originOfConnection } from './client-address.ts';
import type { Expiring } from './deadlines.ts';
import { enter, firstDeadline, leave, type Engine, type OpenConnection } from './engine.ts';
import { MAX_FIELDS } from './fields.ts';
import type { Origin } from './forward.ts';
import { HpackDecoder, type FieldBlock, type HeaderField } from './hpack.ts';
import { DEFAULT_WINDOW, ERROR, FLAG, FRAME, MAX_FRAME, MAX_WINDOW, SETTING } from './http2-frames.ts';
import { Lingering } from './lingering.ts';
import { Http2Output } from './http2-output.ts';
import { Http2Reader, type Frame } from './http2-reader.ts';
import { Http2Stream, STREAM_WINDOW, type StreamHost } from './http2-stream.ts';
import { TokenBucket } from './token-bucket.ts';

/** What the streams of one connection may have sent without being read, together. */
const CONNECTION_WINDOW = 1024 * 1024;
/** Pseudo-header fields beside the others. */
const MAX_BLOCK_FIELDS = MAX_FIELDS + 5;
/** Streams that the client takes back, or makes us take back (CVE-2023-44487, CVE-2025-8671): at once, and a second. */
const RESETS = { burst: 200, perSecond: 33 };
/** Frames that carry nothing: pings, settings, priorities, empty data, frames for streams that are no more. */
const IDLE_FRAMES = { burst: 1000, perSecond: 100 };
/** Bytes that we have to send and the client does not take, before we read no more of it. */
const MAX_UNSENT = 256 * 1024;
/** What a ping of ours says: it follows the first GOAWAY. */
const LAST_CALL = Buffer.from('lastcall', 'latin1');
const LARGEST_STREAM = 0x7fffffff;

/** Streams are taken; the client knows that no more will be; none is taken any more; nothing is read any more. */
type Phase = 'open' | 'last-call' | 'closing' | 'ended';

/** Serves HTTP/2 on a socket on which nothing was read, or what was read was put back. */
export function serveHttp2(engine: Engine, socket: Socket, info: ClientInfo): void {
  void new Http2Connection(engine, socket, info);
}

class Http2Connection implements OpenConnection, Expiring, StreamHost {
  deadline: number;
  readonly engine: Engine;
  readonly origin: Origin;
  readonly output: Http2Output;
  window = DEFAULT_WINDOW;
  readonly #socket: Socket;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #waiting = new Set<Http2Stream>();
  readonly #reader: Http2Reader;
  readonly #decoder = new HpackDecoder();
  readonly #fields: HeaderField[] = [];
  readonly #resets: TokenBucket;
  readonly #idleFrames: TokenBucket;
  readonly #maxStreams: number;
  #phase: Phase = 'open';
  #lastStream = 0;
  /** The last one that is answered. */
  #lastTaken = 0;
  #requests = 0;
  /** What the client takes of a new stream. */
  #initialWindow = DEFAULT_WINDOW;
  #smallTable = false;
  #room = CONNECTION_WINDOW;
  #used = 0;
  #unread = false;
  readonly #lingering = new Lingering(this);

  constructor(engine: Engine, socket: Socket, info: ClientInfo) {
    // Nobody ends one side of HTTP/2: a client that has ended its own is gone.
    socket.allowHalfOpen = false;
    this.engine = engine;
    this.#socket = socket;
    this.origin = originOfConnection(info);
    this.output = new Http2Output(socket, engine.outputBuffers);
    const { now } = engine.deadlines;
    this.deadline = firstDeadline(engine);
    this.#resets = new TokenBucket(RESETS.burst, RESETS.perSecond, now);
    this.#idleFrames = new TokenBucket(IDLE_FRAMES.burst, IDLE_FRAMES.perSecond, now);
    this.#maxStreams = engine.maxStreams;
    this.#reader = new Http2Reader(engine.rules.maxHead, (frame) => this.#onFrame(frame));
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('drain', () => this.#onDrain());
    socket.on('close', () => this.#onClose());
    socket.on('error', () => {});
    enter(engine, this);
    this.output.settings([
      [SETTING.maxConcurrentStreams, this.#maxStreams],
      [SETTING.initialWindowSize, STREAM_WINDOW],
      [SETTING.maxHeaderListSize, engine.rules.maxHead],
      [SETTING.enableConnectProtocol, 1],
    ]);
    this.output.windowUpdate(0, CONNECTION_WINDOW - DEFAULT_WINDOW);
    socket.resume();
  }

  get busy(): boolean {
    return this.#streams.size > 0;
  }

  stopIdle(): void {
    this.#lastCall();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Nothing was asked for, or nothing was under way, for too long; or it did not end in time. */
  expire(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    if (this.#phase === 'ended' || !this.#reader.settled) this.destroy();
    else if (this.#reader.amidBlock) this.#fail(ERROR.enhanceYourCalm);
    else if (this.#phase === 'open') this.#lastCall();
    else this.#refuseMore();
  }

  block(): FieldBlock {
    const { fieldBlock } = this.engine;
    fieldBlock.clear();
    if (this.#smallTable) {
      this.#smallTable = false;
      fieldBlock.forgetTable();
    }
    return fieldBlock;
  }

  credit(bytes: number): void {
    this.#used += bytes;
    if (this.#used < CONNECTION_WINDOW / 4) return;
    this.output.windowUpdate(0, this.#used);
    this.#room += this.#used;
    this.#used = 0;
  }

  wait(stream: Http2Stream): void {
    this.#waiting.add(stream);
  }

  fault(): void {
    if (!this.#resets.take(this.engine.deadlines.now)) this.#fail(ERROR.enhanceYourCalm);
  }

  streamDone(stream: Http2Stream): void {
    this.#waiting.delete(stream);
    this.#streams.delete(stream.id);
    if (this.#streams.size > 0) return;
    const { times, deadlines } = this.engine;
    if (this.#phase === 'closing') this.#end();
    else if (this.#phase === 'open') {
      this.deadline = deadlines.now + times.keepAliveMs;
      if (this.engine.stopping) this.#lastCall();
    }
  }

  // Frames.

  #onData(chunk: Buffer): void {
    if (this.#isEnded()) {
      this.#lingering.take(chunk);
      return;
    }
    const problem = this.#reader.read(chunk);
    if (problem !== undefined) this.#fail(problem);
    if (this.#reader.amidBlock) {
      this.deadline = Math.min(this.deadline, this.engine.deadlines.now + this.engine.times.headMs);
    }
    if (this.#socket.writableLength > MAX_UNSENT) {
      this.#unread = true;
      this.#socket.pause();
    }
  }

  #onFrame(frame: Frame): number | undefined {
    if (this.#isEnded()) return ERROR.none;
    const { type, stream, start, end } = frame;
    switch (type) {
      case FRAME.data:
        return this.#onDataFrame(frame);
      case FRAME.headers:
        return this.#onHeaders(frame);
      case FRAME.windowUpdate:
        return this.#onWindowUpdate(frame);
      case FRAME.reset:
        return this.#onReset(frame);
      case FRAME.settings:
        return this.#onSettings(frame);
      case FRAME.ping:
        return this.#onPing(frame);
      case FRAME.priority:
        if (end - start !== 5) return ERROR.frameSize;
        return stream === 0 || dependsOnItself(frame) ? ERROR.protocol : this.#idleFrame();
      case FRAME.goAway:
        if (stream !== 0) return ERROR.protocol;
        return end - start >= 8 ? this.#idleFrame() : ERROR.frameSize;
      case FRAME.pushPromise:
        return ERROR.protocol;
      default:
        // Section 4.1: a type that is not known is passed over.
        return this.#idleFrame();
    }
  }

  #onDataFrame({ stream: id, flags, bytes, start, end, padding }: Frame): number | undefined {
    if (id === 0 || id > this.#lastStream) return ERROR.protocol;
    const size = end - start + padding;
    this.#room -= size;
    if (this.#room < 0) return ERROR.flowControl;
    const stream = this.#streams.get(id);
    if (!stream || stream.inputEnded) {
      this.credit(size);
      // What was under way when a stream was reset is no fault; but after the end of a request nothing may come.
      if (stream) return this.#abandon(stream, ERROR.streamClosed);
      return size === 0 ? this.#idleFrame() : undefined;
    }
    if (!stream.onData(bytes, start, end, padding)) return ERROR.flowControl;
    if (flags & FLAG.endStream) stream.onInputEnd();
    else if (start === end) return this.#idleFrame();
    return undefined;
  }

  #onHeaders({ stream: id, flags, bytes, start, end }: Frame): number | undefined {
    if (id % 2 === 0) return ERROR.protocol;
    // Every block is read, whatever becomes of it: the next ones hang on it.
    const read = this.#decoder.read(bytes, start, end, this.#fields, MAX_BLOCK_FIELDS, this.engine.rules.maxHead);
    if (read === 'bad') return ERROR.compression;
    const ends = (flags & FLAG.endStream) !== 0;
    if (this.#phase === 'open') this.deadline = Number.POSITIVE_INFINITY;
    if (id <= this.#lastStream) return this.#onTrailers(id, ends);
    this.#lastStream = id;
    // Section 6.8: the client knows that it is not taken.
    if (this.#phase === 'closing') return undefined;
    this.#lastTaken = id;
    if (this.#streams.size >= this.#maxStreams) {
      this.output.reset(id, ERROR.refusedStream);
      this.fault();
      return undefined;
    }
    const stream = new Http2Stream(this, id, ends, this.#initialWindow);
    this.#streams.set(id, stream);
    if (++this.#requests >= this.engine.times.maxRequests) this.#lastCall();
    stream.start(this.#fields, read === 'too-large');
    return undefined;
  }

  /** They end the request and are not passed on. */
  #onTrailers(id: number, ends: boolean): number | undefined {
    const stream = this.#streams.get(id);
    // Trailers of a stream that we have reset may be under way; a request of its number is none (section 5.1.1).
    if (!stream) return ends ? this.#idleFrame() : ERROR.streamClosed;
    if (ends && !stream.inputEnded) {
      stream.onInputEnd();
      return undefined;
    }
    return this.#abandon(stream, stream.inputEnded ? ERROR.streamClosed : ERROR.protocol);
  }

  /** The client broke a rule of one stream. */
  #abandon(stream: Http2Stream, code: number): undefined {
    this.output.reset(stream.id, code);
    stream.onGone();
    this.fault();
  }

  #onReset({ stream: id, start, end }: Frame): number | undefined {
    if (end - start !== 4) return ERROR.frameSize;
    if (id === 0 || id > this.#lastStream) return ERROR.protocol;
    const stream = this.#streams.get(id);
    if (!stream) return this.#idleFrame();
    stream.onGone();
    this.fault();
    return undefined;
  }

  // Flow control and the rest.

  #onWindowUpdate({ stream: id, bytes, start, end }: Frame): number | undefined {
    if (end - start !== 4) return ERROR.frameSize;
    if (id > this.#lastStream) return ERROR.protocol;
    const increment = bytes.readUInt32BE(start) & MAX_WINDOW;
    if (id > 0) {
      const stream = this.#streams.get(id);
      if (!stream) return undefined;
      if (increment > 0 && stream.onWindow(increment, MAX_WINDOW)) return undefined;
      return this.#abandon(stream, increment === 0 ? ERROR.protocol : ERROR.flowControl);
    }
    if (increment === 0) return ERROR.protocol;
    this.window += increment;
    if (this.window > MAX_WINDOW) return ERROR.flowControl;
    this.#pump();
    return undefined;
  }

  #onSettings({ stream, flags, bytes, start, end }: Frame): number | undefined {
    if (stream !== 0) return ERROR.protocol;
    if (flags & FLAG.ack) return end === start ? this.#idleFrame() : ERROR.frameSize;
    if ((end - start) % 6 !== 0) return ERROR.frameSize;
    for (let at = start; at < end; at += 6) {
      const problem = this.#onSetting(bytes.readUInt16BE(at), bytes.readUInt32BE(at + 2));
      if (problem !== undefined) return problem;
    }
    this.output.acknowledgeSettings();
    return this.#idleFrame();
  }

  #onSetting(name: number, value: number): number | undefined {
    switch (name) {
      case SETTING.enablePush:
        return value > 1 ? ERROR.protocol : undefined;
      case SETTING.maxFrameSize:
        return value < MAX_FRAME || value > 0xffffff ? ERROR.protocol : undefined;
      case SETTING.headerTableSize:
        this.#smallTable ||= value < 4096;
        return undefined;
      case SETTING.initialWindowSize: {
        if (value > MAX_WINDOW) return ERROR.flowControl;
        const more = value - this.#initialWindow;
        this.#initialWindow = value;
        for (const stream of this.#streams.values()) {
          if (!stream.onWindow(more, MAX_WINDOW)) return ERROR.flowControl;
        }
        return undefined;
      }
      default:
        return undefined;
    }
  }

  #onPing({ stream, flags, bytes, start, end }: Frame): number | undefined {
    if (stream !== 0) return ERROR.protocol;
    if (end - start !== 8) return ERROR.frameSize;
    if (!(flags & FLAG.ack)) this.output.ping(bytes.subarray(start, end), true);
    else if (this.#phase === 'last-call' && LAST_CALL.compare(bytes, start, end) === 0) this.#refuseMore();
    return this.#idleFrame();
  }

  #idleFrame(): number | undefined {
    return this.#idleFrames.take(this.engine.deadlines.now) ? undefined : ERROR.enhanceYourCalm;
  }

  #pump(): void {
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const stream of waiting) stream.pump();
  }

  #onDrain(): void {
    if (this.#unread) {
      this.#unread = false;
      this.#socket.resume();
    }
    this.#pump();
  }

  // Ends.

  #isEnded(): boolean {
    return this.#phase === 'ended';
  }

  /** Section 6.8: what the client sent before it could know is served yet; its answer to the ping says that it knows. */
  #lastCall(): void {
    if (this.#phase !== 'open') return;
    this.#phase = 'last-call';
    this.output.goAway(LARGEST_STREAM);
    this.output.ping(LAST_CALL, false);
    this.deadline = this.engine.deadlines.now + this.engine.times.lingerMs;
  }

  /** Streams under way go on; no further one is taken. */
  #refuseMore(): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'closing';
    this.output.goAway(this.#lastTaken);
    this.deadline = Number.POSITIVE_INFINITY;
    if (this.#streams.size === 0) this.#end();
  }

  /** The client broke a rule, or does too much: nothing more is done for it. */
  #fail(code: number): void {
    if (this.#phase === 'ended') return;
    this.output.goAway(this.#lastTaken, code);
    this.#end();
    for (const stream of this.#streams.values()) stream.onGone();
  }

  /** Nothing follows; what the client still sends is thrown away until it has read it. */
  #end(): void {
    this.#phase = 'ended';
    this.#reader.drop();
    this.output.end();
    this.#socket.resume();
    this.deadline = this.engine.deadlines.now + this.engine.times.lingerMs;
  }

  #onClose(): void {
    this.#phase = 'ended';
    leave(this.engine, this);
    for (const stream of this.#streams.values()) stream.onGone();
  }
}

/** RFC 7540 section 5.3.1, of priorities that are read no more. */
function dependsOnItself({ stream, bytes, start }: Frame): boolean {
  return (bytes.readUInt32BE(start) & LARGEST_STREAM) === stream;
}
