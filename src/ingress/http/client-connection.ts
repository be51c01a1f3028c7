import { reset } from '../../system/tcp.ts';
import { renderAnswer, type Answer } from './answer.ts';
import type { AnswerBodyFlow } from './answer-body.ts';
import type { ClientInfo, ClientStream } from './byte-stream.ts';
import { originOfConnection } from './client-address.ts';
import type { ClientEnd, RequestUnderWay } from './client-end.ts';
import type { Expiring } from './deadlines.ts';
import { enter, firstDeadline, leave, type Engine, type OpenConnection } from './engine.ts';
import { Exchange } from './exchange.ts';
import { refusedRecord, type Origin } from './forward.ts';
import { PREFACE } from './http2-frames.ts';
import { Lingering } from './lingering.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

/** Bytes of further requests that are kept while one is being answered; then the socket is not read on. */
const MAX_PIPELINED = 64 * 1024;
/** How often an unfinished head is read again from its start; after that only when it has doubled or may be whole. */
const FREE_REREADS = 8;

/** The client speaks HTTP/2 after all: the stream is paused, has no listeners any more, and these bytes were read from it. */
type PrefaceListener = (bytes: Buffer) => void;

type Phase = 'head' | 'exchange' | 'tunnel' | 'lingering' | 'closed';

/**
 * One client connection: reads requests one after the other, has each answered before the next is read, and is the
 * end that an exchange writes its answer to.
 */
class ClientConnection implements ClientEnd, OpenConnection, Expiring {
  deadline: number;
  readonly frames = false;
  readonly bodyEnded = false;
  readonly origin: Origin;
  readonly #stream: ClientStream;
  readonly #engine: Engine;
  #phase: Phase = 'head';
  #exchange: RequestUnderWay | undefined;
  #minor: 0 | 1 = 1;
  /** Bytes read and not used yet: from `#at` on. */
  #pending: Buffer | undefined;
  #at = 0;
  #requests = 0;
  #reading = false;
  #paused = false;
  #rereads = 0;
  #reread = 0;
  readonly #lingering = new Lingering(this);
  /** What was left to send when the deadline passed last. */
  #unsent = 0;
  #ended = false;
  #onPreface: PrefaceListener | undefined;

  constructor(engine: Engine, stream: ClientStream, info: ClientInfo, onPreface: PrefaceListener | undefined) {
    this.#engine = engine;
    this.#onPreface = onPreface;
    this.#stream = stream;
    this.origin = originOfConnection(info);
    this.deadline = firstDeadline(engine);
    stream.on('data', (chunk) => this.#onData(chunk));
    stream.on('end', () => this.#onEnd());
    stream.on('drain', () => this.#onDrain());
    stream.on('close', () => this.#onClose());
    stream.on('error', () => {});
    enter(engine, this);
  }

  get busy(): boolean {
    return this.#phase === 'exchange' || this.#phase === 'tunnel';
  }

  get needsDrain(): boolean {
    return this.#stream.writableNeedDrain;
  }

  get mayKeepAlive(): boolean {
    return !this.#engine.stopping && this.#requests < this.#engine.times.maxRequests && !this.#ended;
  }

  expire(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    if (this.#phase === 'exchange') this.#exchange?.onClientTimeout();
    else if (this.#stream.writableLength > 0 && this.#stream.writableLength !== this.#unsent) {
      // The end of an answer is still on its way to a slow client.
      this.#unsent = this.#stream.writableLength;
      this.touch(this.#engine.times.clientMs);
    } else if (this.#phase === 'head' && this.#pending)
      this.#refuse({ status: 408, reason: 'the request did not arrive in time' });
    else this.destroy();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  reset(): void {
    if (!this.origin.secure) reset(this.#stream);
    else this.#stream.destroy();
  }

  stopIdle(): void {
    if (this.#phase !== 'head' || this.#exchange) return;
    if (this.#requests > 0 && !this.#pending) this.#linger();
    else this.deadline = Math.min(this.deadline, this.#engine.deadlines.now + this.#engine.times.firstRequestMs);
  }

  touch(ms: number): void {
    this.deadline = this.#engine.deadlines.now + ms;
  }

  waitForNothing(): void {
    this.deadline = Number.POSITIVE_INFINITY;
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#stream.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#stream.resume();
  }

  drainPending(take: (bytes: Buffer, start: number, end: number) => number): void {
    const bytes = this.#pending;
    if (!bytes) return;
    this.#keep(bytes, take(bytes, this.#at, bytes.length));
  }

  /** RFC 9110 section 15.2: an interim answer does not go on to HTTP/1.0. */
  sendInterim(head: ResponseHead, bytes: Buffer): void {
    if (this.#minor === 1) this.#stream.write(`${head.text(bytes)}\r\n`, 'latin1');
  }

  begin(head: ResponseHead, bytes: Buffer, fields: string, body: AnswerBodyFlow, keepAlive: boolean): string {
    let text = head.text(bytes) + fields;
    if (body.chunked) text += 'Transfer-Encoding: chunked\r\n';
    if (!keepAlive) text += 'Connection: close\r\n';
    else if (this.#minor === 0) text += 'Connection: keep-alive\r\n';
    return `${text}\r\n`;
  }

  writeText(text: string): boolean {
    return this.#stream.write(text, 'latin1');
  }

  write(data: Uint8Array): boolean {
    return this.#stream.write(data);
  }

  sendAnswer(answer: Answer, method: string, keepAlive: boolean): void {
    this.#stream.write(renderAnswer(answer, method, this.#minor, keepAlive), 'latin1');
  }

  startTunnel(head: ResponseHead, bytes: Buffer): void {
    head.keepUpgrade();
    this.#stream.write(`${head.text(bytes)}Connection: upgrade\r\n\r\n`, 'latin1');
    this.#phase = 'tunnel';
    this.resume();
  }

  endTunnel(): void {
    this.#stream.end();
  }

  exchangeDone(keepAlive: boolean): void {
    this.#exchange = undefined;
    if (this.#phase !== 'exchange') return;
    if (!keepAlive || this.#ended || this.#engine.stopping) {
      this.#linger();
      return;
    }
    this.#phase = 'head';
    this.deadline = this.#engine.deadlines.now + this.#engine.times.keepAliveMs;
    this.#rereads = 0;
    this.resume();
    if (this.#pending) this.#readRequests();
  }

  #onData(chunk: Buffer): void {
    if (this.#phase === 'closed') return;
    if (this.#phase === 'lingering') {
      this.#lingering.take(chunk);
      return;
    }
    if (this.#phase === 'tunnel') {
      this.#exchange?.onTunnelData(chunk);
      return;
    }
    if (this.#pending) {
      this.#pending = Buffer.concat([this.#pending.subarray(this.#at), chunk]);
      this.#at = 0;
    } else this.#pending = chunk;
    if (this.#phase === 'head') this.#readRequests();
    else if (this.#exchange?.wantsBody) this.#exchange.onClientData();
    else if (this.#pending.length - this.#at > MAX_PIPELINED) this.pause();
  }

  /** A loop, not a recursion: answers of our own are complete at once, and a client may send thousands of requests in one piece. */
  #readRequests(): void {
    if (this.#reading) return;
    this.#reading = true;
    while (this.#phase === 'head' && this.#pending) {
      if (this.#onPreface && this.#readPreface(this.#pending, this.#onPreface)) break;
      if (this.#stream.writableNeedDrain) {
        // A client that sends and does not read gets no further answer until it has read those before.
        this.pause();
        this.touch(this.#engine.times.clientMs);
        break;
      }
      if (!this.#readRequest(this.#pending)) break;
    }
    this.#reading = false;
  }

  /** Only before the first request. True when it is one, or may become one. */
  #readPreface(bytes: Buffer, onPreface: PrefaceListener): boolean {
    const length = Math.min(bytes.length, PREFACE.length);
    if (bytes[0] !== PREFACE[0] || PREFACE.compare(bytes, 0, length, 0, length) !== 0) {
      this.#onPreface = undefined;
      return false;
    }
    if (bytes.length < PREFACE.length) return true;
    this.#onClose();
    for (const event of ['data', 'end', 'drain', 'close'] as const) this.#stream.removeAllListeners?.(event);
    this.#stream.pause();
    onPreface(bytes);
    return true;
  }

  /** False when more bytes are needed. */
  #readRequest(bytes: Buffer): boolean {
    if (!this.#worthReading(bytes)) return false;
    const head = this.#engine.requestHead;
    const result = head.read(bytes, this.#at, bytes.length, this.origin.secure);
    switch (result.kind) {
      case 'more':
        if (this.#rereads++ === 0)
          this.deadline = Math.min(this.deadline, this.#engine.deadlines.now + this.#engine.times.headMs);
        this.#reread = 2 * (bytes.length - this.#at);
        return false;
      case 'refused':
        this.#refuse(result.refusal);
        return false;
      case 'head':
        this.#rereads = 0;
        this.#keep(bytes, head.end);
        this.#requests++;
        this.#phase = 'exchange';
        this.waitForNothing();
        this.#minor = head.minor;
        this.#begin(head);
        return true;
    }
  }

  #begin(head: RequestHead): void {
    const exchange = new Exchange(this.#engine, this, head);
    this.#exchange = exchange;
    exchange.start(head);
  }

  /** An unfinished head that trickles in must not cost the square of its length. */
  #worthReading(bytes: Buffer): boolean {
    if (this.#rereads < FREE_REREADS || bytes.length - this.#at >= this.#reread) return true;
    const from = Math.max(this.#at, bytes.length - 4096);
    return bytes.indexOf('\n\r\n', from, 'latin1') >= 0 || bytes.indexOf('\n\n', from, 'latin1') >= 0;
  }

  #keep(bytes: Buffer, at: number): void {
    if (at >= bytes.length) {
      this.#pending = undefined;
      this.#at = 0;
    } else {
      this.#pending = bytes;
      this.#at = at;
    }
  }

  /** A request that could not be read: nobody knows where the next one would start. */
  #refuse(answer: Answer): void {
    this.#engine.host.record(refusedRecord(answer.status, this.origin.remoteAddress));
    this.#stream.write(renderAnswer(answer, 'GET', 1, false), 'latin1');
    this.#linger();
  }

  #linger(): void {
    this.#phase = 'lingering';
    this.#pending = undefined;
    this.deadline = this.#engine.deadlines.now + this.#engine.times.lingerMs;
    this.#stream.end();
    // Read on, paused or not: what comes is thrown away until the client has ended its side.
    this.#paused = false;
    this.#stream.resume();
  }

  /** As nginx does, an end of the client's side while an answer is awaited is taken for the client having gone. */
  #onEnd(): void {
    this.#ended = true;
    if (this.#phase === 'tunnel') this.#exchange?.onTunnelEnd();
    else if (this.#phase === 'exchange') this.#exchange?.onClientGone();
    else if (this.#phase === 'head') this.#linger();
  }

  #onDrain(): void {
    if (this.#phase === 'exchange' || this.#phase === 'tunnel') this.#exchange?.onClientDrain();
    else if (this.#phase === 'head') {
      this.deadline = this.#engine.deadlines.now + this.#engine.times.keepAliveMs;
      this.resume();
      this.#readRequests();
    }
  }

  #onClose(): void {
    const exchange = this.#exchange;
    this.#phase = 'closed';
    this.#exchange = undefined;
    this.#pending = undefined;
    leave(this.#engine, this);
    exchange?.onClientGone();
  }
}

/** Serves HTTP/1.1 until the connection ends; the engine's set of connections holds it. */
export function serveConnection(
  engine: Engine,
  stream: ClientStream,
  info: ClientInfo,
  onPreface?: PrefaceListener,
): void {
  void new ClientConnection(engine, stream, info, onPreface);
}
