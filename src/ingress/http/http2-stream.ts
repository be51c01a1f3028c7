import { pageOf, type Answer } from './answer.ts';
import type { AnswerBodyFlow } from './answer-body.ts';
import type { ClientEnd, RequestUnderWay } from './client-end.ts';
import type { Expiring } from './deadlines.ts';
import type { Engine } from './engine.ts';
import { Exchange } from './exchange.ts';
import { refusedRecord, type Origin } from './forward.ts';
import type { FieldBlock, HeaderField } from './hpack.ts';
import { ERROR, MAX_FRAME } from './http2-frames.ts';
import type { Http2Output } from './http2-output.ts';
import { TOO_LARGE, readHttp2Request } from './http2-request.ts';
import { PendingBytes } from './pending-bytes.ts';
import type { ResponseHead } from './response-head.ts';

/** What one stream may have sent without being read. */
export const STREAM_WINDOW = 256 * 1024;
/** What was used is told in steps. */
const CREDIT_STEP = STREAM_WINDOW / 4;

/** The connection, as its streams know it. */
export interface StreamHost {
  readonly engine: Engine;
  readonly origin: Origin;
  readonly output: Http2Output;
  /** What the client takes yet, on all streams. */
  window: number;
  /** An empty block to fill. */
  block(): FieldBlock;
  /** The client has sent what it must not on a stream that was well. */
  fault(): void;
  /** Bytes of a body were used, and the client may send as many more. */
  credit(bytes: number): void;
  /** It has data that the client does not take yet. */
  wait(stream: Http2Stream): void;
  streamDone(stream: Http2Stream): void;
}

/** One request on one stream of HTTP/2: the end that an exchange writes its answer to. */
export class Http2Stream implements ClientEnd, Expiring {
  deadline = Number.POSITIVE_INFINITY;
  readonly frames = true;
  readonly mayKeepAlive = true;
  readonly id: number;
  readonly origin: Origin;
  readonly #host: StreamHost;
  #exchange: RequestUnderWay | undefined;
  /** A WebSocket of RFC 8441: an answer of 2xx would open it. */
  #connect = false;
  #tunnel = false;
  // The request's body.
  #inputEnded: boolean;
  #received = 0;
  #declared: number | undefined;
  #paused = false;
  readonly #pending = new PendingBytes();
  #room = STREAM_WINDOW;
  #used = 0;
  // The answer.
  #window: number;
  #body: AnswerBodyFlow | undefined;
  readonly #queue = new PendingBytes();
  /** The body of a small answer: it leaves with the end of the stream. */
  #last = '';
  /** Nothing follows what waits here; and the end is sent. */
  #ending = false;
  #outputEnded = false;
  #wantsDrain = false;
  #closed = false;

  /** `window`: what the client takes of this stream. */
  constructor(host: StreamHost, id: number, ended: boolean, window: number) {
    this.#host = host;
    this.id = id;
    this.#inputEnded = ended;
    this.#window = window;
    this.origin = host.origin;
    host.engine.deadlines.add(this);
  }

  get bodyEnded(): boolean {
    return this.#inputEnded && this.#pending.length === 0;
  }

  get needsDrain(): boolean {
    return this.#queue.length > 0 || this.#host.output.congested;
  }

  /** `tooLarge`: these are not all the fields. */
  start(fields: readonly HeaderField[], tooLarge: boolean): void {
    const head = this.#host.engine.requestHead;
    const result = tooLarge ? TOO_LARGE : readHttp2Request(head, fields, this.#inputEnded, this.origin.secure);
    if (result.kind === 'refused') {
      this.#refuse(result.refusal);
      return;
    }
    this.#connect = result.connect;
    this.#declared = head.body === 'length' ? head.contentLength : undefined;
    const exchange = new Exchange(this.#host.engine, this, head);
    this.#exchange = exchange;
    exchange.start(head);
  }

  expire(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    // In a tunnel there is nobody to be answered.
    if (this.#exchange && !this.#tunnel) this.#exchange.onClientTimeout();
    else this.reset();
  }

  touch(ms: number): void {
    this.deadline = this.#host.engine.deadlines.now + ms;
  }

  waitForNothing(): void {
    this.deadline = Number.POSITIVE_INFINITY;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#tunnel) this.#feedTunnel();
  }

  drainPending(take: (bytes: Buffer, start: number, end: number) => number): void {
    this.#credit(this.#pending.drain(take));
  }

  // What the client sends.

  /** False when the client sends more than it may (RFC 9113 section 6.9.1). `padding` is used up at once. */
  onData(bytes: Buffer, start: number, end: number, padding: number): boolean {
    this.#room -= end - start + padding;
    if (this.#room < 0) return false;
    if (padding > 0) this.#credit(padding);
    if (end === start) return true;
    if (!this.#exchange) {
      this.#credit(end - start);
      return true;
    }
    this.#received += end - start;
    if (this.#declared !== undefined && this.#received > this.#declared) {
      this.#malformed();
      return true;
    }
    this.#pending.append(bytes, start, end);
    if (this.#tunnel) this.#feedTunnel();
    else if (!this.#paused && this.#exchange?.wantsBody) this.#exchange.onClientData();
    return true;
  }

  onInputEnd(): void {
    if (this.#inputEnded) return;
    this.#inputEnded = true;
    if (this.#declared !== undefined && this.#received < this.#declared && this.#exchange) {
      this.#malformed();
      return;
    }
    if (this.#tunnel) this.#feedTunnel();
    else if (!this.#paused) this.#exchange?.onClientData();
  }

  get inputEnded(): boolean {
    return this.#inputEnded;
  }

  /** The client takes so many bytes more of this stream; false when those are too many. */
  onWindow(bytes: number, max: number): boolean {
    this.#window += bytes;
    if (this.#window > max) return false;
    if (bytes > 0) this.pump();
    return true;
  }

  /** The client does not want it any more, or the connection is gone. */
  onGone(): void {
    this.#close();
  }

  // The answer.

  /** RFC 9110 section 15.2. */
  sendInterim(head: ResponseHead, bytes: Buffer): void {
    if (!this.#closed) this.#sendHead(head, bytes, head.status, '', false);
  }

  begin(head: ResponseHead, bytes: Buffer, fields: string, body: AnswerBodyFlow): string | undefined {
    // To a CONNECT, 2xx would mean that the WebSocket is open.
    if (this.#connect && head.status < 300) return undefined;
    this.#body = body;
    if (!this.#closed) this.#sendHead(head, bytes, head.status, fields, body.whole);
    return '';
  }

  /** Called for small answers that are whole: the end of the stream follows at once. */
  writeText(text: string): boolean {
    this.#last += text;
    return true;
  }

  write(data: Uint8Array): boolean {
    if (this.#closed || data.length === 0) return true;
    const at = this.#queue.length === 0 ? this.#send(data, 0, data.length) : 0;
    if (at < data.length) this.#queue.append(Buffer.from(data.buffer, data.byteOffset, data.length), at, data.length);
    this.#wantsDrain = this.needsDrain;
    if (this.#wantsDrain) this.#host.wait(this);
    return !this.#wantsDrain;
  }

  sendAnswer(answer: Answer, method: string): void {
    if (this.#closed) return;
    const { fields, page } = pageOf(answer);
    const bare = method === 'HEAD' || page === '';
    const block = this.#host.block();
    block.status(answer.status);
    block.lines(fields);
    this.#host.output.headers(this.id, block, bare);
    this.#outputEnded = bare;
    if (!bare) this.#last = page;
  }

  exchangeDone(): void {
    this.#exchange = undefined;
    this.#finish();
  }

  startTunnel(head: ResponseHead, bytes: Buffer): void {
    this.#tunnel = true;
    this.#paused = false;
    if (!this.#closed) this.#sendHead(head, bytes, 200, '', false);
  }

  endTunnel(): void {
    this.#finish();
  }

  destroy(): void {
    this.reset();
  }

  /** The client must not take what it got for the whole answer. */
  reset(): void {
    if (this.#closed) return;
    this.#host.output.reset(this.id, ERROR.internal);
    this.#close();
  }

  /** Sends what waits, as far as the client takes it. */
  pump(): void {
    if (this.#closed || this.#outputEnded) return;
    this.#queue.drain((bytes, start, end) => this.#send(bytes, start, end));
    if (this.#queue.length > 0 || this.#host.output.congested) {
      if (this.#ending || this.#wantsDrain) this.#host.wait(this);
      return;
    }
    if (this.#ending) this.#end();
    else if (this.#wantsDrain) {
      this.#wantsDrain = false;
      this.#exchange?.onClientDrain();
    }
  }

  #refuse(answer: Answer): void {
    this.#host.engine.host.record(refusedRecord(answer.status, this.origin.remoteAddress));
    this.sendAnswer(answer, 'GET');
    this.#finish();
  }

  #sendHead(head: ResponseHead, bytes: Buffer, status: number, lines: string, endStream: boolean): void {
    const block = this.#host.block();
    block.status(status);
    const { fields, drop } = head;
    for (let i = 0; i < fields.count; i++) {
      // RFC 8441 section 5: what an upgrade was agreed by is not part of it.
      if (drop[i] !== 0 || (this.#tunnel && fields.nameEquals(bytes, i, 'sec-websocket-accept'))) continue;
      const { lineStart, nameEnd, valueStart, valueEnd } = fields;
      block.fieldOf(bytes, lineStart[i] ?? 0, nameEnd[i] ?? 0, valueStart[i] ?? 0, valueEnd[i] ?? 0);
    }
    if (lines !== '') block.lines(lines);
    this.#host.output.headers(this.id, block, endStream);
    this.#outputEnded = endStream;
  }

  /** Sends as much as the windows and the socket take; returns the offset behind it. */
  #send(bytes: Uint8Array, start: number, end: number): number {
    const host = this.#host;
    let at = start;
    while (at < end && !host.output.congested) {
      const room = Math.min(host.window, this.#window, MAX_FRAME, end - at);
      if (room <= 0) break;
      host.output.data(this.id, bytes, at, at + room);
      host.window -= room;
      this.#window -= room;
      at += room;
    }
    return at;
  }

  /** Nothing follows but what waits here. */
  #finish(): void {
    if (this.#closed) return;
    this.#ending = true;
    if (this.#outputEnded) this.#over();
    else if (this.#last !== '') this.#sendLast();
    else if (this.#queue.length === 0) this.#end();
    else this.#linger();
  }

  /** A small body goes with the end of the stream, when it fits. */
  #sendLast(): void {
    const host = this.#host;
    const text = this.#last;
    this.#last = '';
    if (this.#queue.length === 0 && text.length <= Math.min(MAX_FRAME, host.window, this.#window)) {
      host.window -= text.length;
      this.#window -= text.length;
      host.output.text(this.id, text, true);
      this.#outputEnded = true;
      this.#over();
      return;
    }
    this.#queue.append(Buffer.from(text, 'latin1'), 0, text.length);
    this.#linger();
  }

  /** The client has its time to take the rest. */
  #linger(): void {
    this.touch(this.#host.engine.times.clientMs);
    this.#host.wait(this);
    this.pump();
  }

  #end(): void {
    const trailers = this.#body?.mayHaveTrailers ? this.#body.trailers : '';
    if (trailers === '') this.#host.output.endData(this.id);
    else {
      const block = this.#host.block();
      block.lines(trailers);
      this.#host.output.headers(this.id, block, true);
    }
    this.#outputEnded = true;
    this.#over();
  }

  /** The whole answer is sent. RFC 9113 section 8.1: the rest of a request that is not read is not asked for. */
  #over(): void {
    if (!this.#inputEnded) {
      // A tunnel has another side yet.
      if (this.#exchange) return;
      this.#host.output.reset(this.id, ERROR.none);
    }
    this.#close();
  }

  #malformed(): void {
    this.#host.output.reset(this.id, ERROR.protocol);
    this.#close();
    this.#host.fault();
  }

  #feedTunnel(): void {
    if (this.#paused) return;
    const used = this.#pending.drain((bytes, start, end) => {
      this.#exchange?.onTunnelData(bytes.subarray(start, end));
      return end;
    });
    this.#credit(used);
    if (!this.bodyEnded) return;
    this.#exchange?.onTunnelEnd();
    if (this.#outputEnded) this.#close();
  }

  #credit(bytes: number): void {
    if (bytes === 0) return;
    this.#host.credit(bytes);
    this.#used += bytes;
    if (this.#used < CREDIT_STEP || this.#inputEnded || this.#closed) return;
    this.#host.output.windowUpdate(this.id, this.#used);
    this.#room += this.#used;
    this.#used = 0;
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    const { length } = this.#pending;
    this.#pending.clear();
    this.#queue.clear();
    if (length > 0) this.#host.credit(length);
    this.#host.engine.deadlines.remove(this);
    this.#host.streamDone(this);
    exchange?.onClientGone();
  }
}
