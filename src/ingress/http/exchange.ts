import type { Location } from '../host-routes.ts';
import type { Answer } from './answer.ts';
import { REWRITTEN } from '../annotations/answer-rewrite.ts';
import { AnswerBodyFlow } from './answer-body.ts';
import { AnswerRelay, type RelayHost } from './answer-relay.ts';
import { Attempts } from './attempts.ts';
import type { ClientEnd, RequestUnderWay } from './client-end.ts';
import { acceptedBy, codingFor, type Accepted, type CodingChoice } from './compression.ts';
import type { Engine } from './engine.ts';
import { Entry } from './entry.ts';
import type { Edit, Forward, Origin, Passed } from './forward.ts';
import type { RequestHead } from './request-head.ts';
import { Mirroring, mirrorText } from './mirror.ts';
import { requestIdFrom } from './request-id.ts';
import { RequestSending } from './request-sending.ts';
import { requestText } from './request-text.ts';
import type { ResponseHead } from './response-head.ts';
import { Tunnel } from './tunnel.ts';
import type { EndpointPool, UpstreamConnection, UpstreamUser } from './upstream.ts';

const MAX_INTERIM = 16;
const ORIGINAL_URI = ['x-original-uri'];
const NO_STATUS: ReadonlySet<number> = new Set();
/** nginx' 499: the client went away. */
const CLIENT_GONE = 499;

type Phase = 'connecting' | 'waiting' | 'body' | 'tunnel' | 'done';

/**
 * One request and its answer: sends the request on to an endpoint, and brings the answer back. It ends in one of: a
 * whole answer, an answer of our own, a cut connection.
 */
export class Exchange implements UpstreamUser, RequestUnderWay, RelayHost {
  readonly #engine: Engine;
  readonly #client: ClientEnd;
  readonly #method: string;
  readonly #host: string;
  readonly #path: string;
  readonly #minor: 0 | 1;
  readonly #wantsKeepAlive: boolean;
  readonly #upgrade: boolean;
  readonly #expectContinue: boolean;
  readonly #wantsTrailers: boolean;
  readonly #startedAt: number;
  readonly #sending: RequestSending;
  #requestId = '';
  readonly #origin: Origin;
  #forward: Forward | undefined;
  #attempts: Attempts | undefined;
  #edit: Edit | undefined;
  #entry: Entry | undefined;
  /** Lines for the client of the service that let the request pass. */
  #passed: Passed | undefined;
  #phase: Phase = 'connecting';
  #upstream: UpstreamConnection | undefined;
  // The answer.
  #partial: Buffer | undefined;
  #interim = 0;
  #status = 0;
  #relay: AnswerRelay | undefined;
  #keepAlive = false;
  #upstreamKeepAlive = false;
  #upstreamSeconds = 0;
  /** Of an answer of our own that came before anything was forwarded. */
  #answeredFor: Location | undefined;
  #headAt: number | undefined;
  #upstreamAt: number | undefined;
  #connectMs: number | undefined;
  readonly #captured: readonly string[] | undefined;
  #upstreamPaused = false;
  /** Of the copy, until it is sent. */
  #mirrorText: string | undefined;
  #mirroring: Mirroring | undefined;
  /** What the client takes, where answers may be compressed. */
  readonly #accepted: Accepted | undefined;
  #tunnel: Tunnel | undefined;

  constructor(engine: Engine, client: ClientEnd, head: RequestHead) {
    this.#engine = engine;
    this.#client = client;
    this.#method = head.method;
    this.#host = head.host;
    this.#path = head.path;
    this.#minor = head.minor;
    this.#wantsKeepAlive = head.keepAlive;
    this.#upgrade = head.upgrade;
    this.#expectContinue = head.expectContinue;
    this.#wantsTrailers = head.trailers;
    this.#sending = new RequestSending(head, client.frames);
    this.#startedAt = engine.monotonic();
    const origin = engine.host.origin(client, head) ?? client;
    this.#origin = origin;
    this.#captured = engine.host.capture?.(origin, head);
    const { compression } = engine.rules;
    this.#accepted = compression && acceptedBy(head, compression);
  }

  get wantsBody(): boolean {
    return !this.#sending.body.done && !this.#sending.abandoned && this.#phase !== 'done';
  }

  /** `head` is good until this returns. */
  start(head: RequestHead): void {
    if (head.path === '*') {
      this.#answer({ status: 204, reason: '' });
      return;
    }
    const origin = this.#origin;
    const decision = this.#engine.host.decide(origin, head);
    if ('status' in decision) {
      this.#answer(decision);
      return;
    }
    const { edit } = decision;
    this.#forward = decision;
    this.#attempts = new Attempts(decision, this.#method, this.#startedAt);
    const { rules } = this.#engine;
    this.#requestId = requestIdFrom(head.requestId, rules.makesRequestIds);
    if (rules.originalUri) head.dropNamed(ORIGINAL_URI);
    if (!edit) {
      this.#sending.head = requestText(head, this.#requestId, origin, undefined, rules);
      this.#connect(this.#attempts.first(), false);
      return;
    }
    this.#edit = edit;
    const question = edit.question?.text(head.kept(), this.#requestId);
    head.dropNamed(edit.dropped);
    this.#sending.head = requestText(head, this.#requestId, origin, edit, rules);
    if (edit.mirror && !head.upgrade) {
      const { path, query, host } = edit.mirror;
      const text = requestText(head, this.#requestId, origin, { ...edit, path, query, host }, rules);
      this.#mirrorText = mirrorText(text, edit.mirror);
    }
    if (!edit.gate && question === undefined) {
      this.#entered(edit.passed);
      return;
    }
    this.#client.waitForNothing();
    this.#entry = new Entry(this.#engine, (outcome) => this.#entered(outcome));
    this.#entry.begin(edit, question);
  }

  #entered(outcome: Answer | Passed | undefined): void {
    this.#entry = undefined;
    if (outcome && 'status' in outcome) {
      this.#answer(outcome);
      return;
    }
    if (outcome) {
      this.#passed = outcome;
      // Before the empty line that ends the head.
      this.#sending.head = `${this.#sending.head.slice(0, -2)}${outcome.fields}\r\n`;
    }
    this.#connect(this.#attempts?.first(), false);
  }

  // What the client does.

  onClientData(): void {
    if (this.#phase === 'waiting' || this.#phase === 'body') this.#pumpBody();
    else this.#client.pause();
  }

  onClientDrain(): void {
    if (this.#tunnel) {
      this.#tunnel.clientDrained();
      return;
    }
    this.awaitClient();
    if (this.#relay) this.#relay.clientDrained();
    else this.resumeBackend();
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
    this.#tunnel?.fromClient(chunk);
  }

  onTunnelEnd(): void {
    this.#tunnel?.clientEnded();
    this.#endTunnel();
  }

  // What the backend does.

  onUpstreamReady(): void {
    this.#connectMs = this.#engine.monotonic() - (this.#upstreamAt ?? 0);
    if (!this.#attempts?.stillThere) {
      // Taken out of the Service while it was being dialled.
      this.#dropUpstream();
      this.#nextEndpoint(false);
      return;
    }
    this.#send();
  }

  onUpstreamFailed(timedOut: boolean): void {
    this.#upstream = undefined;
    this.#attempts?.endpoint?.failed();
    this.#nextEndpoint(timedOut);
  }

  onUpstreamData(bytes: Buffer, length: number): void {
    if (this.#phase === 'body') {
      this.#awaitUpstream();
      this.#relay?.take(bytes, 0, length, '');
    } else if (this.#tunnel) {
      this.#tunnel.fromBackend(bytes, length);
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
    if (this.#tunnel) {
      this.#tunnel.backendEnded();
      this.#endTunnel();
    } else if (this.#phase === 'body' && this.#relay?.body.kind === 'close') {
      this.#relay.backendEnded();
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
    if (this.#tunnel) {
      this.#tunnel.backendDrained();
      return;
    }
    this.#client.resume();
    if (this.wantsBody) {
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

  // Sending the request.

  /** `fresh`: on a new connection, whatever is kept. */
  #connect(endpoint: EndpointPool | undefined, fresh: boolean): void {
    const attempts = this.#attempts;
    if (!endpoint || !attempts) {
      this.#answer({ status: 503, reason: 'no endpoint of the Service is ready' });
      return;
    }
    attempts.endpoint = endpoint;
    this.#upstreamAt ??= this.#engine.monotonic();
    const idle = fresh ? undefined : endpoint.takeIdle(this);
    attempts.reused = idle !== undefined;
    if (idle) {
      this.#connectMs = 0;
      this.#upstream = idle;
      this.#send();
    } else {
      this.#phase = 'connecting';
      this.#upstream = endpoint.open(this, this.#forward?.transfer.connectMs ?? 0);
    }
  }

  #nextEndpoint(timedOut: boolean): void {
    if (this.#phase === 'done') return;
    const next = this.#attempts?.afterNoConnection(this.#engine.monotonic());
    if (next) this.#connect(next, false);
    else if (timedOut) this.#fail({ status: 504, reason: 'no connection to the backend in time' });
    else if (this.#forward?.targets.targets.length === 0)
      this.#fail({ status: 503, reason: 'no endpoint of the Service is ready' });
    else this.#fail({ status: 502, reason: 'no connection to the backend' });
  }

  /** Sends the whole request once more. False when it may not be: part of the body is gone, the tries are used up, or it could do harm. */
  #again(): boolean {
    if (!this.#sending.repeatable || this.#interim > 0) return false;
    const next = this.#attempts?.again(this.#engine.monotonic());
    if (!next) return false;
    this.#partial = undefined;
    this.#dropUpstream();
    this.#connect(next, false);
    return true;
  }

  /** Once, when the request itself is sent: after the doors. */
  #mirror(): void {
    const text = this.#mirrorText;
    if (text === undefined || !this.#edit?.mirror) return;
    this.#mirrorText = undefined;
    const mirroring = new Mirroring(this.#engine, this.#edit.mirror, text);
    this.#mirroring = mirroring;
    this.#sending.copy = (data) => mirroring.write(data);
  }

  #send(): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    this.#phase = 'waiting';
    const { body } = this.#sending;
    const hadBody = !body.done && !this.#sending.abandoned;
    this.#mirror();
    this.#sending.start(this.#client, upstream, this.#attempts?.mayReplay ?? false);
    this.#awaitUpstream();
    if (!hadBody) return;
    this.awaitClient();
    if (body.done) return;
    this.#client.resume();
    this.#pumpBody();
  }

  /** Passes on the body bytes that are here. */
  #pumpBody(): void {
    const upstream = this.#upstream;
    const { body, abandoned } = this.#sending;
    if (!upstream || body.done || abandoned) return;
    this.#sending.pump(this.#client, upstream, this.#engine.ranges);
    if (this.#client.bodyEnded) this.#sending.finish(upstream);
    const limit = this.#forward?.transfer.maxBody ?? 0;
    if (limit > 0 && body.received > limit) {
      if (this.#phase === 'body') this.#cut();
      else this.#fail({ status: 413, reason: 'the request body is larger than this path takes' });
      return;
    }
    // Where this body ends is not known: nothing of it may look whole to the backend, nothing after it is a request.
    if (body.failed) {
      this.#refuseBody('the request body is malformed');
      return;
    }
    if (upstream.stream.writableNeedDrain) this.#client.pause();
    this.#awaitBoth();
  }

  #refuseBody(reason: string): void {
    if (this.#phase === 'body') this.#cut();
    else this.#fail({ status: 400, reason });
  }

  // Time.

  #awaitBoth(): void {
    this.awaitClient();
    this.#awaitUpstream();
  }

  /** The client is waited for while its body is due and may come, or while it has to take bytes of the answer. */
  awaitClient(): void {
    const due = this.#client.needsDrain || (this.wantsBody && this.#upstream?.stream.writableNeedDrain !== true);
    if (due) this.#client.touch(this.#engine.times.clientMs);
    else this.#client.waitForNothing();
  }

  /** The backend is waited for once it has the whole request, while it has to take bytes of it, and between its reads. */
  #awaitUpstream(): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    const done = this.#sending.body.done || this.#sending.abandoned;
    const due = this.#phase === 'body' ? !this.#upstreamPaused : done || upstream.stream.writableNeedDrain;
    const { readMs = 0, sendMs = 0 } = this.#forward?.transfer ?? {};
    const ms = done || this.#phase === 'body' ? readMs : sendMs;
    upstream.deadline = due ? this.#engine.deadlines.now + ms : Number.POSITIVE_INFINITY;
  }

  pauseBackend(): void {
    if (this.#upstreamPaused || !this.#upstream) return;
    this.#upstreamPaused = true;
    this.#upstream.stream.pause();
    this.#awaitBoth();
  }

  resumeBackend(): void {
    if (!this.#upstreamPaused) return;
    this.#upstreamPaused = false;
    this.#upstream?.stream.resume();
    this.#awaitUpstream();
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
      const unasked = head.status === 101 && !this.#upgrade;
      if (result === 'bad' || unasked || (head.status < 200 && ++this.#interim > MAX_INTERIM)) {
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
      // RFC 9110 section 15.2: an interim answer goes on, but not a 100 that nobody waits for.
      if (head.status !== 100 || this.#expectContinue) this.#client.sendInterim(head, bytes);
    }
  }

  #sendHead(head: ResponseHead, bytes: Buffer, start: number, end: number): void {
    if (this.#attempts?.mayReplay) {
      if (this.#forward?.transfer.retry.statuses.has(head.status) && this.#again()) return;
      this.#sending.forget();
    }
    if (this.#showErrorPage(head.status)) return;
    const client = this.#client;
    this.#status = head.status;
    this.#headAt = this.#engine.monotonic();
    this.#upstreamKeepAlive = head.keepAlive;
    this.#upstreamSeconds = head.keepAliveSeconds;
    this.#attempts?.endpoint?.answered();
    const { edit, lines } = this.#forward ?? {};
    if (edit && edit.answerDropped.length > 0) head.dropNamed(bytes, edit.answerDropped);
    if (lines && lines.dropped.length > 0) head.dropNamed(bytes, lines.dropped);
    const coding = this.#coding(head, bytes);
    const body = new AnswerBodyFlow(
      head,
      client.frames ? 'frames' : this.#minor === 1 ? 'chunks' : 'close',
      this.#wantsTrailers,
      coding?.coding !== undefined,
    );
    this.#keepAlive = this.#wantsKeepAlive && client.mayKeepAlive && this.#sending.body.done && !body.untilClose;
    const changed = edit?.change ? head.changed(bytes, REWRITTEN, edit.change) : '';
    const added = edit || lines ? changed + this.#answerFields(head.status) : '';
    const fields = coding ? added + coding.fields : added;
    const text = client.begin(head, bytes, fields, body, this.#keepAlive);
    if (text === undefined) {
      this.#badAnswer();
      return;
    }
    this.#phase = 'body';
    this.#relay = new AnswerRelay(this.#engine, client, this, body);
    this.#relay.begin(text, bytes, start, end, coding, this.#forward?.transfer.rate);
    this.#awaitUpstream();
  }

  #coding(head: ResponseHead, bytes: Buffer): CodingChoice | undefined {
    const { compression } = this.#engine.rules;
    return compression && this.#accepted && codingFor(head, bytes, compression, this.#accepted);
  }

  #startTunnel(bytes: Buffer, start: number, end: number): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    this.#status = 101;
    this.#phase = 'tunnel';
    const tunnel = new Tunnel(this.#client, upstream, this.#forward?.transfer.tunnelMs ?? 0);
    this.#tunnel = tunnel;
    this.#client.startTunnel(this.#engine.responseHead, bytes);
    if (start < end) tunnel.fromBackend(bytes.subarray(start, end), end - start);
    this.#client.drainPending((pending, from, to) => {
      tunnel.fromClient(pending.subarray(from, to));
      return to;
    });
  }

  #endTunnel(): void {
    if (!this.#tunnel?.over) return;
    this.#finish(this.#status);
    this.#upstream = undefined;
  }

  // Ends.

  /** The answer is whole. `clean`: nothing came behind it, so the backend's connection can carry the next request. */
  onRead(clean: boolean): void {
    const upstream = this.#upstream;
    const sentWhole = this.#sending.body.done;
    this.#upstream = undefined;
    if (upstream) {
      if (this.#upstreamPaused) upstream.stream.resume();
      if (clean && this.#upstreamKeepAlive && sentWhole) upstream.endpoint.giveBack(upstream, this.#upstreamSeconds);
      else upstream.destroy();
    }
    this.#keepAlive &&= sentWhole;
    this.#relay?.finish();
  }

  onGiven(): void {
    this.#finish(this.#status);
    this.#client.exchangeDone(this.#keepAlive);
  }

  onBroken(begun: boolean): void {
    if (begun) this.#cut();
    else this.#badAnswer();
  }

  /** The backend's connection is gone before the answer was whole. */
  #lost(): void {
    if (this.#phase === 'done') return;
    if (this.#phase === 'body') {
      this.#cut();
      return;
    }
    if (this.#attempts?.reused === false) this.#attempts.endpoint?.failed();
    if (this.#forward?.transfer.retry.onLost && this.#again()) return;
    const unanswered = this.#partial === undefined && this.#interim === 0;
    const again = unanswered && this.#sending.body.kind === 'none' ? this.#attempts?.afterStale() : undefined;
    if (again) this.#connect(again, true);
    else this.#fail({ status: 502, reason: 'the backend closed the connection before it answered' });
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

  /** Asks another Service for the page of this error. False where none is to be asked, or none is there. */
  #showErrorPage(status: number): boolean {
    const forward = this.#forward;
    if (!forward?.errors?.codes.has(status) || forward.errors.targets.targets.length === 0) return false;
    const { errors, ...rest } = forward;
    this.#dropUpstream();
    this.#partial = undefined;
    const retry = { ...rest.transfer.retry, statuses: NO_STATUS, onLost: false, onTimeout: false };
    const asked: Forward = { ...rest, targets: errors.targets, transfer: { ...rest.transfer, retry } };
    this.#forward = asked;
    this.#attempts = new Attempts(asked, 'GET', this.#engine.monotonic());
    this.#sending.replace(errors.text(status, this.#requestId));
    this.#connect(this.#attempts.first(), false);
    return true;
  }

  #fail(answer: Answer): void {
    this.#dropUpstream();
    if (this.#showErrorPage(answer.status)) return;
    this.#answer(answer);
  }

  /** An answer of our own. The connection goes on when the request's body is here in full. */
  #answer(answer: Answer): void {
    if (this.#phase === 'done') return;
    this.#answeredFor = answer.of;
    const { body } = this.#sending;
    if (!body.done && !this.#expectContinue && this.#phase === 'connecting') {
      this.#sending.skip(this.#client, this.#engine.ranges);
    }
    const keepAlive = this.#wantsKeepAlive && body.done && this.#client.mayKeepAlive;
    const full = this.#forward
      ? { ...answer, fields: this.#answerFields(answer.status) + (answer.fields ?? '') }
      : answer;
    this.#client.sendAnswer(full, this.#method, keepAlive);
    this.#finish(answer.status);
    this.#client.exchangeDone(keepAlive);
  }

  #answerFields(status: number): string {
    const passed = this.#passed;
    const cookies = passed && (status < 400 || passed.cookiesAlways) ? passed.cookies : '';
    const { edit, lines } = this.#forward ?? {};
    const onStatus = edit?.statusFields?.(status) ?? '';
    const endpoint = this.#attempts?.endpoint;
    const own = edit?.endpointField && endpoint ? edit.endpointField(endpoint) : '';
    return (edit?.answerFields ?? '') + own + onStatus + (lines?.fields ?? '') + cookies;
  }

  #dropUpstream(): void {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    upstream?.destroy();
  }

  /** For those who choose endpoints by how soon they answer. */
  #measure(): void {
    const endpoint = this.#attempts?.endpoint;
    const since = this.#upstreamAt;
    if (endpoint && since !== undefined && this.#headAt !== undefined)
      this.#forward?.targets.answered?.(endpoint, this.#engine.monotonic() - since);
  }

  #finish(status: number): void {
    if (this.#phase === 'done') return;
    this.#phase = 'done';
    this.#entry?.cancel();
    this.#relay?.stop();
    if (!this.#sending.body.done) this.#mirroring?.stop();
    this.#measure();
    this.#edit?.release?.();
    this.#engine.host.record({
      method: this.#method,
      host: this.#host,
      path: this.#path,
      status,
      location: this.#forward?.location ?? this.#answeredFor,
      endpoint: this.#attempts?.endpoint,
      remoteAddress: this.#origin.remoteAddress,
      requestId: this.#requestId,
      received: this.#sending.body.received + (this.#tunnel?.received ?? 0),
      sent: (this.#relay?.body.sent ?? 0) + (this.#tunnel?.sent ?? 0),
      duration: this.#engine.monotonic() - this.#startedAt,
      headDuration: this.#headAt === undefined ? undefined : this.#headAt - this.#startedAt,
      connectDuration: this.#connectMs,
      upstreamDuration: this.#upstreamAt === undefined ? undefined : this.#engine.monotonic() - this.#upstreamAt,
      retries: this.#attempts?.retries ?? 0,
      canary: this.#forward?.canary,
      captured: this.#captured,
    });
  }
}
