// HTTP/2 with clients (RFC 9113), on `node:http2`: frames, HPACK and flow control are its business; what a request is, is read by the
// reader of HTTP/1.1 and served by the same exchange.

import { performServerHandshake, constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { pageOf, type Answer } from './answer.ts';
import type { AnswerBodyFlow } from './answer-body.ts';
import type { ClientInfo } from './byte-stream.ts';
import { forwardingFields, plainAddress } from './client-address.ts';
import type { ClientEnd, RequestUnderWay } from './client-end.ts';
import type { Expiring } from './deadlines.ts';
import type { Engine, OpenConnection } from './engine.ts';
import { Exchange } from './exchange.ts';
import { MAX_FIELDS } from './fields.ts';
import { answerHeaders, linesAsHeaders, linesAsTrailers } from './http2-fields.ts';
import { readHttp2Request } from './http2-request.ts';
import type { PeerFacts } from './forward.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

/** What the streams of one connection may have sent without being read, together and each. */
const CONNECTION_WINDOW = 1024 * 1024;
const STREAM_WINDOW = 256 * 1024;
/** Bytes kept of a stream that is not read yet. */
const MAX_PENDING = 64 * 1024;

const CUT = new Error('the stream is cut');

const SESSION_OPTIONS = {
  settings: {
    enableConnectProtocol: true,
    initialWindowSize: STREAM_WINDOW,
  },
  maxHeaderListPairs: MAX_FIELDS + 5,
  // Floods: streams that are reset as soon as they are opened (CVE-2023-44487), frames and streams out of order, pings.
  streamResetBurst: 200,
  streamResetRate: 33,
  maxSessionInvalidFrames: 100,
  maxSessionRejectedStreams: 100,
  maxOutstandingPings: 10,
};

/** Serves HTTP/2 on a socket on which nothing was read, or what was read was put back. */
export function serveHttp2(engine: Engine, socket: Socket, info: ClientInfo): void {
  engine.connections.add(new Http2Connection(engine, socket, info));
}

class Http2Connection implements OpenConnection, Expiring {
  deadline: number;
  readonly remoteAddress: string;
  readonly localPort: number;
  readonly secure: boolean;
  readonly forwarding: string;
  readonly peer: PeerFacts | undefined;
  readonly #engine: Engine;
  readonly #session: ServerHttp2Session;
  #open = 0;
  #requests = 0;
  #closing = false;

  constructor(engine: Engine, socket: Socket, info: ClientInfo) {
    // Nobody ends one side of HTTP/2: a client that has ended its own is gone.
    socket.allowHalfOpen = false;
    this.#engine = engine;
    this.secure = info.secure;
    this.peer = info.peer;
    this.remoteAddress = plainAddress(info.remoteAddress);
    this.localPort = info.localPort;
    this.forwarding = forwardingFields(this.remoteAddress, info.localPort, info.secure);
    this.deadline = engine.deadlines.now + engine.times.headMs;
    const settings = {
      ...SESSION_OPTIONS.settings,
      maxConcurrentStreams: engine.maxStreams,
      maxHeaderListSize: engine.rules.maxHead,
    };
    const session = performServerHandshake(socket, { ...SESSION_OPTIONS, settings });
    this.#session = session;
    session.on('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW));
    session.on('stream', (stream, _headers, flags, raw: readonly string[]) => this.#onStream(stream, flags, raw));
    session.on('error', () => {});
    session.on('close', () => this.#onClose());
    engine.deadlines.add(this);
  }

  get busy(): boolean {
    return this.#open > 0;
  }

  stopIdle(): void {
    this.#end();
  }

  destroy(): void {
    this.#session.destroy();
  }

  /** Nothing was asked for, or nothing was under way, for too long; or it did not end in time. */
  expire(): void {
    if (this.#closing) this.destroy();
    else this.#end();
  }

  streamDone(): void {
    if (--this.#open > 0) return;
    const { times, deadlines, stopping } = this.#engine;
    this.deadline = deadlines.now + (this.#closing ? times.lingerMs : times.keepAliveMs);
    if (stopping) this.#end();
  }

  /** Streams under way go on; the client opens no more. */
  #end(): void {
    if (!this.#closing) this.#session.close();
    this.#closing = true;
    this.deadline =
      this.#open > 0 ? Number.POSITIVE_INFINITY : this.#engine.deadlines.now + this.#engine.times.lingerMs;
  }

  #onStream(stream: ServerHttp2Stream, flags: number, raw: readonly string[]): void {
    this.#open++;
    this.deadline = Number.POSITIVE_INFINITY;
    if (++this.#requests >= this.#engine.times.maxRequests) this.#end();
    const ended = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    const request = new Http2Stream(this.#engine, this, stream, ended);
    request.start(raw);
  }

  #onClose(): void {
    this.#engine.connections.delete(this);
    this.#engine.deadlines.remove(this);
  }
}

/** One request on one stream. */
class Http2Stream implements ClientEnd, Expiring {
  deadline = Number.POSITIVE_INFINITY;
  readonly frames = true;
  readonly mayKeepAlive = true;
  readonly secure: boolean;
  readonly remoteAddress: string;
  readonly localPort: number;
  readonly forwarding: string;
  readonly peer: PeerFacts | undefined;
  readonly #engine: Engine;
  readonly #connection: Http2Connection;
  readonly #stream: ServerHttp2Stream;
  #exchange: RequestUnderWay | undefined;
  /** A WebSocket of RFC 8441: an answer of 2xx would open it. */
  #connect = false;
  #bodyEnded: boolean;
  #tunnel = false;
  #paused = false;
  #pending: Buffer | undefined;
  #body: AnswerBodyFlow | undefined;
  /** The whole body of a small answer: it leaves with the end of the stream. */
  #last = '';
  #done = false;

  constructor(engine: Engine, connection: Http2Connection, stream: ServerHttp2Stream, ended: boolean) {
    this.#engine = engine;
    this.#connection = connection;
    this.#stream = stream;
    this.#bodyEnded = ended;
    this.secure = connection.secure;
    this.peer = connection.peer;
    this.remoteAddress = connection.remoteAddress;
    this.localPort = connection.localPort;
    this.forwarding = connection.forwarding;
    stream.on('error', () => {});
    stream.on('close', () => this.#onClose());
    stream.on('drain', () => this.#exchange?.onClientDrain());
    engine.deadlines.add(this);
  }

  get bodyEnded(): boolean {
    return this.#bodyEnded && this.#pending === undefined;
  }

  get needsDrain(): boolean {
    return this.#stream.writableNeedDrain;
  }

  start(raw: readonly string[]): void {
    const head = this.#engine.requestHead;
    const result = readHttp2Request(head, raw, this.#bodyEnded, this.secure);
    if (result.kind === 'refused') {
      this.#refuse(result.refusal);
      return;
    }
    this.#connect = result.connect;
    this.#begin(head);
    if (this.#bodyEnded || this.#done) return;
    this.#stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    this.#stream.on('end', () => this.#onEnd());
  }

  expire(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    if (this.#exchange) this.#exchange.onClientTimeout();
    else this.destroy();
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
    const at = take(bytes, 0, bytes.length);
    this.#pending = at < bytes.length ? bytes.subarray(at) : undefined;
  }

  sendInterim(head: ResponseHead, bytes: Buffer): void {
    if (this.#open) this.#try(() => this.#stream.additionalHeaders(answerHeaders(head, bytes, '')));
  }

  begin(head: ResponseHead, bytes: Buffer, fields: string, body: AnswerBodyFlow): string | undefined {
    // To a CONNECT, 2xx would mean that the WebSocket is open.
    if (this.#connect && head.status < 300) return undefined;
    this.#body = body;
    const endStream = body.whole;
    const headers = answerHeaders(head, bytes, fields);
    return this.#respond(headers, endStream, body.mayHaveTrailers) ? '' : undefined;
  }

  /** Called for small answers that are whole: the end of the stream follows at once. */
  writeText(text: string): boolean {
    this.#last += text;
    return true;
  }

  write(data: Uint8Array): boolean {
    return this.#open ? this.#stream.write(data) : true;
  }

  sendAnswer(answer: Answer, method: string): void {
    const { fields, page } = pageOf(answer);
    const headers = linesAsHeaders(answer.status, fields);
    const bare = method === 'HEAD' || page === '';
    if (this.#respond(headers, bare, false) && !bare) this.#last = page;
  }

  exchangeDone(): void {
    this.#exchange = undefined;
    this.#done = true;
    this.touch(this.#engine.times.clientMs);
    if (!this.#open) return;
    if (this.#last !== '') this.#stream.end(this.#last, 'latin1');
    else this.#stream.end();
    // RFC 9113 section 8.1: the rest of a request that is not read is not asked for.
    if (!this.#bodyEnded) this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  startTunnel(head: ResponseHead, bytes: Buffer): void {
    this.#tunnel = true;
    const headers = answerHeaders(head, bytes, '');
    headers[':status'] = 200;
    delete headers['sec-websocket-accept'];
    this.#respond(headers, false, false);
    this.resume();
  }

  endTunnel(): void {
    if (this.#open) this.#stream.end();
  }

  destroy(): void {
    this.reset();
  }

  /** Not `close()`: that sends the end of the stream first, and what the client got would look whole. */
  reset(): void {
    this.#stream.destroy(CUT);
  }

  get #open(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed;
  }

  #begin(head: RequestHead): void {
    const exchange = new Exchange(this.#engine, this, head);
    this.#exchange = exchange;
    exchange.start(head);
  }

  #respond(headers: ReturnType<typeof linesAsHeaders>, endStream: boolean, waitForTrailers: boolean): boolean {
    if (!this.#open) return true;
    if (waitForTrailers) this.#stream.once('wantTrailers', () => this.#sendTrailers());
    return this.#try(() => this.#stream.respond(headers, { endStream, waitForTrailers }));
  }

  #sendTrailers(): void {
    const trailers = this.#body?.trailers ?? '';
    if (!this.#try(() => this.#stream.sendTrailers(linesAsTrailers(trailers)))) this.reset();
  }

  /** The library throws on fields that HTTP/2 does not have, which a backend may send. */
  #try(send: () => void): boolean {
    try {
      send();
      return true;
    } catch {
      return false;
    }
  }

  #refuse(answer: Answer): void {
    this.#engine.host.record({
      method: '',
      host: '',
      path: '',
      status: answer.status,
      location: undefined,
      endpoint: undefined,
      remoteAddress: this.remoteAddress,
      requestId: '',
      received: 0,
      sent: 0,
      duration: 0,
      headDuration: undefined,
    });
    this.sendAnswer(answer, 'GET');
    this.exchangeDone();
  }

  #onData(chunk: Buffer): void {
    if (this.#done) return;
    if (this.#tunnel) {
      this.#exchange?.onTunnelData(chunk);
      return;
    }
    this.#pending = this.#pending ? Buffer.concat([this.#pending, chunk]) : chunk;
    if (this.#exchange?.wantsBody) this.#exchange.onClientData();
    else if (this.#pending.length > MAX_PENDING) this.pause();
  }

  #onEnd(): void {
    this.#bodyEnded = true;
    if (this.#tunnel) this.#exchange?.onTunnelEnd();
    else this.#exchange?.onClientData();
  }

  #onClose(): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#done = true;
    this.#pending = undefined;
    this.#engine.deadlines.remove(this);
    this.#connection.streamDone();
    exchange?.onClientGone();
  }
}
