import { renderAnswer, type Answer } from './answer.ts';
import { AnswerBodyFlow } from './answer-body.ts';
import { LAST_CHUNK } from './chunked.ts';
import type { ClientConnection } from './client-connection.ts';
import { AuthAsking, type AuthQuestion, type Passed, type Verdict } from './auth-question.ts';
import type { Edit, Engine, Forward } from './engine.ts';
import { textOf } from './octets.ts';
import { RequestBodyFlow } from './request-body.ts';
import type { RequestHead } from './request-head.ts';
import { requestIdFrom } from './request-id.ts';
import type { ResponseHead } from './response-head.ts';
import type { EndpointPool, UpstreamConnection, UpstreamUser } from './upstream.ts';

/** Bodies up to this size leave in one write with their head, as text. */
const SMALL = 2048;
/** A request up to this size can be sent again, head and body. */
const MAX_REPLAY = 64 * 1024;
const MAX_INTERIM = 16;
/** nginx' 499: the client went away. */
const CLIENT_GONE = 499;
/** RFC 9110 section 9.2.2. */
const IDEMPOTENT = /^(GET|HEAD|PUT|DELETE|OPTIONS|TRACE)$/;

type Phase = 'connecting' | 'waiting' | 'body' | 'tunnel' | 'done';

/**
 * One request and its answer: chooses the endpoint, sends the request on, and brings the answer back. It ends in one
 * of: a whole answer, an answer of our own, a cut connection.
 */
export class Exchange implements UpstreamUser {
  readonly #engine: Engine;
  readonly #client: ClientConnection;
  readonly #method: string;
  readonly #host: string;
  readonly #path: string;
  readonly #minor: 0 | 1;
  readonly #wantsKeepAlive: boolean;
  readonly #upgrade: boolean;
  readonly #expectContinue: boolean;
  readonly #startedAt: number;
  readonly #body: RequestBodyFlow;
  #requestId = '';
  #forward: Forward | undefined;
  #edit: Edit | undefined;
  #asking: AuthAsking | undefined;
  /** Lines for the client of the service that let the request pass. */
  #passed: Passed | undefined;
  #head = '';
  /** All that was sent of the request, where it may have to be sent again. */
  #replay: string | undefined;
  #phase: Phase = 'connecting';
  #upstream: UpstreamConnection | undefined;
  #endpoint: EndpointPool | undefined;
  #tried: EndpointPool[] = [];
  #retriedStale = false;
  /** The connection has carried a request before, so its backend may be closing it. */
  #reused = false;
  // The answer.
  #partial: Buffer | undefined;
  #interim = 0;
  #status = 0;
  #answerBody: AnswerBodyFlow | undefined;
  #keepAlive = false;
  #upstreamKeepAlive = false;
  #upstreamSeconds = 0;
  #headAt: number | undefined;
  /** Bytes through a tunnel, each way. */
  #tunnelIn = 0;
  #tunnelOut = 0;
  #upstreamPaused = false;
  #tunnelEnds = 0;

  constructor(engine: Engine, client: ClientConnection, head: RequestHead) {
    this.#engine = engine;
    this.#client = client;
    this.#method = head.method;
    this.#host = head.host;
    this.#path = head.path;
    this.#minor = head.minor;
    this.#wantsKeepAlive = head.keepAlive;
    this.#upgrade = head.upgrade;
    this.#expectContinue = head.expectContinue;
    this.#body = new RequestBodyFlow(head);
    this.#startedAt = engine.monotonic();
  }

  get wantsBody(): boolean {
    return !this.#body.done && this.#phase !== 'done';
  }

  /** `head` is good until this returns. */
  start(head: RequestHead): void {
    if (head.path === '*') {
      this.#answer({ status: 204, reason: '' });
      return;
    }
    const decision = this.#engine.host.decide(this.#client, head);
    if ('status' in decision) {
      this.#answer(decision);
      return;
    }
    const { edit } = decision;
    this.#forward = decision;
    this.#requestId = requestIdFrom(head.requestId);
    if (!edit) {
      this.#head = requestText(head, this.#requestId, this.#client.forwarding, undefined);
      this.#connect(false);
      return;
    }
    this.#edit = edit;
    const question = edit.question?.text(head.kept(), this.#requestId);
    head.dropNamed(edit.dropped);
    this.#head = requestText(head, this.#requestId, this.#client.forwarding, edit);
    if (edit.question && question !== undefined) this.#ask(edit.question, question);
    else this.#connect(false);
  }

  #ask(question: AuthQuestion, text: string): void {
    this.#client.waitForNothing();
    this.#asking = new AuthAsking(this.#engine, question, text, (verdict) => this.#judge(question, verdict));
  }

  #judge(question: AuthQuestion, verdict: Verdict): void {
    this.#asking = undefined;
    const judged = question.judge(verdict);
    if ('status' in judged) {
      this.#answer(judged);
      return;
    }
    this.#passed = judged;
    // Before the empty line that ends the head.
    this.#head = `${this.#head.slice(0, -2)}${judged.fields}\r\n`;
    this.#connect(false);
  }

  // What the client does.

  onClientData(): void {
    if (this.#phase === 'waiting' || this.#phase === 'body') this.#pumpBody();
    else this.#client.pause();
  }

  onClientDrain(): void {
    if (this.#phase === 'tunnel') this.#touchTunnel();
    else this.#awaitClient();
    if (!this.#upstreamPaused) return;
    this.#upstreamPaused = false;
    this.#upstream?.stream.resume();
    this.#awaitUpstream();
  }

  onClientGone(): void {
    if (this.#phase === 'done') return;
    this.#finish(this.#phase === 'tunnel' ? this.#status : CLIENT_GONE);
    this.#dropUpstream();
    this.#client.destroy();
  }

  onClientTimeout(): void {
    if (this.#phase === 'body') this.#cut();
    else this.#fail({ status: 408, reason: 'the request did not arrive in time' });
  }

  onTunnelData(chunk: Buffer): void {
    this.#touchTunnel();
    this.#tunnelIn += chunk.length;
    if (this.#upstream?.stream.write(chunk) === false) this.#client.pause();
  }

  onTunnelEnd(): void {
    this.#upstream?.stream.end();
    this.#halfEnded();
  }

  // What the backend does.

  onUpstreamReady(): void {
    const endpoint = this.#endpoint;
    if (endpoint && !this.#forward?.targets.has(endpoint)) {
      // Taken out of the Service while it was being dialled.
      this.#dropUpstream();
      this.#nextEndpoint(false);
      return;
    }
    this.#send();
  }

  onUpstreamFailed(timedOut: boolean): void {
    this.#upstream = undefined;
    this.#nextEndpoint(timedOut);
  }

  onUpstreamData(bytes: Buffer, length: number): void {
    if (this.#phase === 'body') {
      this.#awaitUpstream();
      if (this.#answerBody) this.#relay(this.#answerBody, bytes, 0, length, '');
    } else if (this.#phase === 'tunnel') {
      this.#touchTunnel();
      this.#tunnelOut += length;
      if (!this.#client.stream.write(Buffer.from(bytes.subarray(0, length)))) this.#pauseUpstream();
    } else if (this.#phase === 'waiting') {
      this.#awaitUpstream();
      if (this.#partial) {
        const joined = Buffer.concat([this.#partial, bytes.subarray(0, length)]);
        this.#partial = undefined;
        this.#readHead(joined, joined.length);
      } else this.#readHead(bytes, length);
    }
  }

  onUpstreamEnd(): void {
    if (this.#phase === 'tunnel') {
      this.#client.stream.end();
      this.#halfEnded();
    } else if (this.#phase === 'body' && this.#answerBody?.kind === 'close') {
      if (this.#answerBody.chunked) this.#client.stream.write(LAST_CHUNK, 'latin1');
      this.#complete(true);
    } else {
      this.#dropUpstream();
      this.#lost();
    }
  }

  onUpstreamClosed(): void {
    this.#upstream = undefined;
    if (this.#phase === 'tunnel') {
      this.#finish(this.#status);
      this.#client.destroy();
    } else this.#lost();
  }

  onUpstreamDrain(): void {
    this.#client.resume();
    if (this.#phase === 'tunnel') this.#touchTunnel();
    else if (this.wantsBody) {
      this.#awaitUpstream();
      this.#pumpBody();
    }
  }

  onUpstreamTimeout(): void {
    this.#dropUpstream();
    if (this.#phase === 'body') this.#cut();
    else if (this.#forward?.transfer.retry.onTimeout && this.#again()) return;
    else this.#fail({ status: 504, reason: 'the backend did not answer in time' });
  }

  // Choosing an endpoint and sending the request.

  #connect(fresh: boolean): void {
    const endpoint = this.#forward?.targets.pick(this.#tried);
    if (!endpoint) {
      this.#answer({ status: 503, reason: 'no endpoint of the Service is ready' });
      return;
    }
    this.#dial(endpoint, fresh);
  }

  #dial(endpoint: EndpointPool, fresh: boolean): void {
    this.#endpoint = endpoint;
    const idle = fresh ? undefined : endpoint.takeIdle(this);
    this.#reused = idle !== undefined;
    if (idle) {
      this.#upstream = idle;
      this.#send();
    } else {
      this.#phase = 'connecting';
      this.#upstream = endpoint.open(this, this.#forward?.transfer.connectMs ?? 0);
    }
  }

  #nextEndpoint(timedOut: boolean): void {
    if (this.#phase === 'done') return;
    if (this.#endpoint) this.#tried.push(this.#endpoint);
    const next = this.#mayTry(this.#forward?.transfer.retry.onConnect ?? false)
      ? this.#forward?.targets.pick(this.#tried)
      : undefined;
    if (next) this.#dial(next, false);
    else if (timedOut) this.#fail({ status: 504, reason: 'no connection to the backend in time' });
    else if (this.#forward?.targets.targets.length === 0)
      this.#fail({ status: 503, reason: 'no endpoint of the Service is ready' });
    else this.#fail({ status: 502, reason: 'no connection to the backend' });
  }

  #mayTry(asked: boolean): boolean {
    const retry = this.#forward?.transfer.retry;
    if (!retry || !asked || this.#tried.length >= retry.tries) return false;
    return retry.withinMs === 0 || this.#engine.monotonic() - this.#startedAt < retry.withinMs;
  }

  /**
   * Sends the whole request to the next endpoint, or to the same one where there is no other (as nginx in this place). False when it
   * may not be: the tries are used up, part of the body is gone, or doing it twice could do harm.
   */
  #again(): boolean {
    const retry = this.#forward?.transfer.retry;
    if (!retry || !this.#endpoint || !this.#body.done || this.#replay === undefined || this.#interim > 0) return false;
    if (!IDEMPOTENT.test(this.#method) && !retry.nonIdempotent) return false;
    this.#tried.push(this.#endpoint);
    const next = this.#mayTry(true)
      ? (this.#forward?.targets.pick(this.#tried) ?? this.#forward?.targets.pick())
      : undefined;
    if (!next) return false;
    this.#partial = undefined;
    this.#dropUpstream();
    this.#dial(next, false);
    return true;
  }

  #mayReplay(): boolean {
    const retry = this.#forward?.transfer.retry;
    return retry !== undefined && (retry.statuses.size > 0 || retry.onLost || retry.onTimeout);
  }

  #send(): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    this.#phase = 'waiting';
    if (this.#replay !== undefined) {
      upstream.stream.write(this.#replay, 'latin1');
      this.#awaitUpstream();
      return;
    }
    if (this.#mayReplay()) this.#replay = this.#head;
    if (this.#body.done) {
      upstream.stream.write(this.#head, 'latin1');
      this.#awaitUpstream();
      return;
    }
    let first = this.#head;
    this.#client.drainPending((bytes, start, end) => {
      const text = this.#body.takeText(bytes, start, end, SMALL);
      first += text;
      return start + text.length;
    });
    if (this.#replay !== undefined) this.#replay = first;
    upstream.stream.write(first, 'latin1');
    this.#awaitUpstream();
    this.#awaitClient();
    if (!this.#body.done) {
      this.#client.resume();
      this.#pumpBody();
    }
  }

  /** Passes on the body bytes that are there. */
  #pumpBody(): void {
    const upstream = this.#upstream;
    if (!upstream || this.#body.done) return;
    this.#client.drainPending((bytes, start, end) =>
      this.#body.take(bytes, start, end, this.#engine.ranges, (data) => {
        upstream.stream.write(data);
        if (this.#replay !== undefined) this.#keepForReplay(data);
      }),
    );
    const limit = this.#forward?.transfer.maxBody ?? 0;
    if (limit > 0 && this.#body.received > limit) {
      if (this.#phase === 'body') this.#cut();
      else this.#fail({ status: 413, reason: 'the request body is larger than this path takes' });
      return;
    }
    if (this.#body.failed) {
      // Where this body ends is not known: nothing of it may look whole to the backend, nothing after it is a request.
      if (this.#phase === 'body') this.#cut();
      else this.#fail({ status: 400, reason: 'the chunked body is malformed' });
      return;
    }
    if (upstream.stream.writableNeedDrain) this.#client.pause();
    this.#awaitClient();
    this.#awaitUpstream();
  }

  #keepForReplay(data: Uint8Array): void {
    const kept = this.#replay ?? '';
    this.#replay = kept.length + data.length > MAX_REPLAY ? undefined : kept + Buffer.from(data).toString('latin1');
  }

  // Time.

  #touchTunnel(): void {
    this.#client.touch(this.#forward?.transfer.tunnelMs ?? 0);
  }

  /** The client is waited for while its body is due and may come, or while it has to take bytes of the answer. */
  #awaitClient(): void {
    const due =
      this.#client.stream.writableNeedDrain || (!this.#body.done && this.#upstream?.stream.writableNeedDrain !== true);
    if (due) this.#client.touch(this.#engine.times.clientMs);
    else this.#client.waitForNothing();
  }

  /** The backend is waited for once it has the whole request, while it has to take bytes of it, and between its reads. */
  #awaitUpstream(): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    const due = this.#phase === 'body' ? !this.#upstreamPaused : this.#body.done || upstream.stream.writableNeedDrain;
    const { readMs = 0, sendMs = 0 } = this.#forward?.transfer ?? {};
    const ms = this.#body.done || this.#phase === 'body' ? readMs : sendMs;
    upstream.deadline = due ? this.#engine.deadlines.now + ms : Number.POSITIVE_INFINITY;
  }

  #pauseUpstream(): void {
    if (this.#upstreamPaused || !this.#upstream) return;
    this.#upstreamPaused = true;
    this.#upstream.stream.pause();
    if (this.#phase !== 'tunnel') {
      this.#awaitUpstream();
      this.#awaitClient();
    }
  }

  // The answer.

  #readHead(bytes: Buffer, length: number): void {
    const head = this.#engine.responseHead;
    let at = 0;
    for (;;) {
      const result = at < length ? head.read(bytes, at, length, this.#method) : 'more';
      if (result === 'more') {
        if (at < length) this.#partial = Buffer.from(bytes.subarray(at, length));
        return;
      }
      if (
        result === 'bad' ||
        (head.status === 101 && !this.#upgrade) ||
        (head.status < 200 && ++this.#interim > MAX_INTERIM)
      ) {
        this.#badAnswer();
        return;
      }
      at = head.end;
      if (head.status === 101) {
        this.#startTunnel(bytes, at, length);
        return;
      }
      if (head.status >= 200) {
        this.#sendHead(head, bytes, at, length);
        return;
      }
      // RFC 9110 section 15.2: an interim answer goes on, but not to HTTP/1.0 and not a 100 that nobody waits for.
      if (this.#minor === 1 && (head.status !== 100 || this.#expectContinue)) {
        this.#client.stream.write(`${head.text(bytes)}\r\n`, 'latin1');
      }
    }
  }

  #sendHead(head: ResponseHead, bytes: Buffer, start: number, end: number): void {
    if (this.#replay !== undefined) {
      if (this.#forward?.transfer.retry.statuses.has(head.status) && this.#again()) return;
      this.#replay = undefined;
    }
    this.#status = head.status;
    this.#headAt = this.#engine.monotonic();
    this.#upstreamKeepAlive = head.keepAlive;
    this.#upstreamSeconds = head.keepAliveSeconds;
    const body = new AnswerBodyFlow(head, this.#minor);
    this.#answerBody = body;
    this.#keepAlive = this.#wantsKeepAlive && this.#client.mayKeepAlive && this.#body.done && !body.untilClose;
    const edit = this.#edit;
    if (edit && edit.answerDropped.length > 0) head.dropNamed(bytes, edit.answerDropped);
    let text = edit ? head.text(bytes) + this.#answerFields(head.status) : head.text(bytes);
    if (body.chunked) text += 'Transfer-Encoding: chunked\r\n';
    if (!this.#keepAlive) text += 'Connection: close\r\n';
    else if (this.#minor === 0) text += 'Connection: keep-alive\r\n';
    text += '\r\n';
    this.#phase = 'body';
    if (body.kind === 'length' && end - start >= body.left && body.left <= SMALL) {
      // The whole of a small answer is here: one write, as text.
      body.sent = body.left;
      this.#client.stream.write(text + textOf(bytes, start, start + body.left), 'latin1');
      this.#complete(start + body.left === end);
    } else if (!body.whole && start < end) {
      this.#awaitUpstream();
      this.#relay(body, bytes, start, end, text);
    } else {
      this.#client.stream.write(text, 'latin1');
      if (body.whole) this.#complete(start === end);
      else this.#awaitUpstream();
    }
  }

  /** Passes on bytes of the answer's body, in one write with the head when that is still to be sent. */
  #relay(body: AnswerBodyFlow, bytes: Buffer, start: number, end: number, head: string): void {
    const data = body.take(bytes, start, end, head, this.#engine.ranges);
    if (body.failed) {
      if (head === '') this.#cut();
      else this.#badAnswer();
      return;
    }
    if (data.length > 0 && !this.#client.stream.write(data)) this.#pauseUpstream();
    if (body.whole) this.#complete(body.end === end);
  }

  #startTunnel(bytes: Buffer, start: number, end: number): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    this.#status = 101;
    this.#phase = 'tunnel';
    upstream.deadline = Number.POSITIVE_INFINITY;
    const head = this.#engine.responseHead;
    head.keepUpgrade();
    this.#client.stream.write(`${head.text(bytes)}Connection: upgrade\r\n\r\n`, 'latin1');
    this.#touchTunnel();
    this.#client.startTunnel();
    if (start < end) this.onUpstreamData(bytes.subarray(start, end), end - start);
    this.#client.drainPending((pending, from, to) => {
      this.onTunnelData(pending.subarray(from, to));
      return to;
    });
  }

  #halfEnded(): void {
    if (++this.#tunnelEnds < 2) return;
    this.#finish(this.#status);
    this.#upstream = undefined;
  }

  // Ends.

  /** The answer is whole. `clean`: nothing came behind it, so the backend's connection can carry the next request. */
  #complete(clean: boolean): void {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    if (upstream) {
      if (this.#upstreamPaused) upstream.stream.resume();
      if (clean && this.#upstreamKeepAlive && this.#body.done)
        upstream.endpoint.giveBack(upstream, this.#upstreamSeconds);
      else upstream.destroy();
    }
    this.#finish(this.#status);
    this.#client.exchangeDone(this.#keepAlive && this.#body.done);
  }

  /** The backend's connection is gone before the answer was whole. */
  #lost(): void {
    if (this.#phase === 'done') return;
    if (this.#phase === 'body') {
      this.#cut();
      return;
    }
    if (this.#forward?.transfer.retry.onLost && this.#again()) return;
    const stale = this.#reused && this.#partial === undefined && this.#interim === 0 && !this.#retriedStale;
    if (stale && this.#body.kind === 'none' && IDEMPOTENT.test(this.#method) && this.#endpoint) {
      this.#retriedStale = true;
      if (this.#forward?.targets.has(this.#endpoint)) this.#dial(this.#endpoint, true);
      else this.#connect(true);
      return;
    }
    this.#fail({ status: 502, reason: 'the backend closed the connection before it answered' });
  }

  /** Nothing of the answer is with the client yet. */
  #badAnswer(): void {
    this.#dropUpstream();
    this.#fail({ status: 502, reason: 'the answer of the backend is malformed' });
  }

  /** Part of an answer is with the client: it must see that the rest is missing. */
  #cut(): void {
    this.#dropUpstream();
    this.#finish(this.#status);
    this.#client.reset();
  }

  #fail(answer: Answer): void {
    this.#dropUpstream();
    this.#answer(answer);
  }

  /** An answer of our own. The connection goes on when the request's body is here in full. */
  #answer(answer: Answer): void {
    if (this.#phase === 'done') return;
    if (!this.#body.done && !this.#expectContinue && this.#phase === 'connecting') this.#skipBody();
    const keepAlive = this.#wantsKeepAlive && this.#body.done && this.#client.mayKeepAlive;
    const full = this.#edit ? { ...answer, fields: this.#answerFields(answer.status) + (answer.fields ?? '') } : answer;
    this.#client.stream.write(renderAnswer(full, this.#method, this.#minor, keepAlive), 'latin1');
    this.#finish(answer.status);
    this.#client.exchangeDone(keepAlive);
  }

  #answerFields(status: number): string {
    const passed = this.#passed;
    const cookies = passed && (status < 400 || passed.cookiesAlways) ? passed.cookies : '';
    return (this.#edit?.answerFields ?? '') + cookies;
  }

  #skipBody(): void {
    this.#client.drainPending((bytes, start, end) => this.#body.take(bytes, start, end, this.#engine.ranges, () => {}));
  }

  #dropUpstream(): void {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    upstream?.destroy();
  }

  #finish(status: number): void {
    if (this.#phase === 'done') return;
    this.#phase = 'done';
    this.#asking?.cancel();
    this.#edit?.release?.();
    this.#engine.host.record({
      method: this.#method,
      host: this.#host,
      path: this.#path,
      status,
      location: this.#forward?.location,
      endpoint: this.#endpoint,
      remoteAddress: this.#client.remoteAddress,
      requestId: this.#requestId,
      received: this.#body.received + this.#tunnelIn,
      sent: (this.#answerBody?.sent ?? 0) + this.#tunnelOut,
      duration: this.#engine.monotonic() - this.#startedAt,
      headDuration: this.#headAt === undefined ? undefined : this.#headAt - this.#startedAt,
    });
  }
}

/** The head that the backend gets: what stays of the client's, framed anew, and the forwarding fields. */
function requestText(head: RequestHead, requestId: string, forwarding: string, edit: Edit | undefined): string {
  const { path, query, host } = edit ?? head;
  const connection = head.upgrade ? 'Connection: upgrade\r\n' : '';
  const length = head.body === 'length' ? `Content-Length: ${head.contentLength}\r\n` : '';
  const framing = head.body === 'chunked' ? 'Transfer-Encoding: chunked\r\n' : length;
  const hasBody = head.body === 'chunked' || head.contentLength > 0;
  const expect = head.expectContinue && hasBody ? 'Expect: 100-continue\r\n' : '';
  const original = head.forwardedFor === '' ? '' : `X-Original-Forwarded-For: ${head.forwardedFor}\r\n`;
  return (
    `${head.method} ${path}${query} HTTP/1.1\r\nHost: ${host}\r\n${head.kept()}${connection}${framing}${expect}` +
    `X-Request-ID: ${requestId}\r\n${forwarding}X-Forwarded-Host: ${head.host}\r\n${original}${edit?.fields ?? ''}\r\n`
  );
}
