import type { Answer } from './answer.ts';
import { REWRITTEN } from '../annotations/answer-rewrite.ts';
import { AnswerBodyFlow } from './answer-body.ts';
import { answerFields, errorPage } from './answer-fields.ts';
import { AnswerHeadReading } from './answer-head.ts';
import { AnswerRelay, type RelayHost } from './answer-relay.ts';
import { Attempts } from './attempts.ts';
import type { ClientEnd, RequestUnderWay } from './client-end.ts';
import { acceptedBy, codingFor, type Accepted, type CodingChoice } from './compression.ts';
import type { Engine } from './engine.ts';
import { Entry } from './entry.ts';
import type { Edit, Forward, Origin, Passed } from './forward.ts';
import type { RequestHead } from './request-head.ts';
import { beginMirroring } from './mirror.ts';
import { RequestJournal } from './request-journal.ts';
import { requestIdFrom } from './request-id.ts';
import { RequestSending } from './request-sending.ts';
import { requestText } from './request-text.ts';
import type { ResponseHead } from './response-head.ts';
import { Tunnel } from './tunnel.ts';
import type { EndpointPool, UpstreamConnection, UpstreamUser } from './upstream.ts';

const ORIGINAL_URI = ['x-original-uri'];
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
  readonly #journal: RequestJournal;
  readonly #minor: 0 | 1;
  readonly #wantsKeepAlive: boolean;
  readonly #expectContinue: boolean;
  readonly #wantsTrailers: boolean;
  readonly #sending: RequestSending;
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
  readonly #reading: AnswerHeadReading;
  #relay: AnswerRelay | undefined;
  #keepAlive = false;
  #upstreamKeepAlive = false;
  #upstreamSeconds = 0;
  #upstreamPaused = false;
  /** What the client takes, where answers may be compressed. */
  readonly #accepted: Accepted | undefined;
  #tunnel: Tunnel | undefined;

  constructor(engine: Engine, client: ClientEnd, head: RequestHead) {
    this.#engine = engine;
    this.#client = client;
    this.#minor = head.minor;
    this.#wantsKeepAlive = head.keepAlive;
    this.#expectContinue = head.expectContinue;
    this.#wantsTrailers = head.trailers;
    this.#sending = new RequestSending(head, client.frames);
    this.#reading = new AnswerHeadReading(client, head);
    const origin = engine.host.origin(client.origin, head) ?? client.origin;
    this.#origin = origin;
    const captured = engine.host.capture?.(origin, head);
    this.#journal = new RequestJournal(head, origin, captured, engine.monotonic());
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
    const journal = this.#journal;
    this.#forward = decision;
    this.#attempts = new Attempts(decision, journal.method, journal.startedAt);
    const { rules } = this.#engine;
    const requestId = requestIdFrom(head.requestId, rules.makesRequestIds);
    journal.requestId = requestId;
    if (rules.originalUri) head.dropNamed(ORIGINAL_URI);
    if (!edit) {
      this.#sending.head = requestText(head, requestId, origin, undefined, rules);
      this.#connect(this.#attempts.first(), false);
      return;
    }
    this.#edit = edit;
    const question = edit.question?.text(head.kept(), requestId);
    head.dropNamed(edit.dropped);
    this.#sending.head = requestText(head, requestId, origin, edit, rules);
    if (edit.mirror && !head.upgrade) {
      const { path, query, host } = edit.mirror;
      const text = requestText(head, requestId, origin, { ...edit, path, query, host }, rules);
      this.#sending.copiedBy = beginMirroring(this.#engine, edit.mirror, text);
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
    this.#finish(this.#phase === 'tunnel' ? this.#journal.status : CLIENT_GONE);
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
    this.#journal.connected(this.#engine.monotonic());
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
      this.#readHead(bytes, length);
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
      this.#finish(this.#journal.status);
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
    const idle = fresh ? undefined : endpoint.takeIdle(this);
    attempts.reused = idle !== undefined;
    this.#journal.asks(this.#engine.monotonic(), idle !== undefined);
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
    const next = this.#attempts?.afterNoConnection(this.#engine.monotonic());
    if (next) this.#connect(next, false);
    else if (timedOut) this.#fail({ status: 504, reason: 'no connection to the backend in time' });
    else if (this.#forward?.targets.targets.length === 0)
      this.#fail({ status: 503, reason: 'no endpoint of the Service is ready' });
    else this.#fail({ status: 502, reason: 'no connection to the backend' });
  }

  /** Sends the whole request once more. False when it may not be: part of the body is gone, the tries are used up, or it could do harm. */
  #again(): boolean {
    if (!this.#sending.repeatable || this.#reading.toldInterim) return false;
    const next = this.#attempts?.again(this.#engine.monotonic());
    if (!next) return false;
    this.#reading.restart();
    this.#dropUpstream();
    this.#connect(next, false);
    return true;
  }

  #send(): void {
    const upstream = this.#upstream;
    if (!upstream) return;
    this.#phase = 'waiting';
    const { body } = this.#sending;
    const hadBody = !body.done && !this.#sending.abandoned;
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
    const reading = this.#reading;
    const head = this.#engine.responseHead;
    switch (reading.read(head, bytes, length)) {
      case 'more':
        return;
      case 'bad':
        this.#badAnswer();
        return;
      case 'tunnel':
        this.#startTunnel(reading.bytes, reading.at, reading.length);
        return;
      case 'head':
        this.#sendHead(head, reading.bytes, reading.at, reading.length);
    }
  }

  #sendHead(head: ResponseHead, bytes: Buffer, start: number, end: number): void {
    if (this.#attempts?.mayReplay) {
      if (this.#forward?.transfer.retry.statuses.has(head.status) && this.#again()) return;
      this.#sending.forget();
    }
    if (this.#showErrorPage(head.status)) return;
    const client = this.#client;
    this.#journal.answered(head.status, this.#engine.monotonic());
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
    const added = edit || lines ? changed + this.#ownFields(head.status) : '';
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
    this.#journal.status = 101;
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
    this.#finish(this.#journal.status);
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
    this.#finish(this.#journal.status);
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
    const again = !this.#reading.begun && this.#sending.body.kind === 'none' ? this.#attempts?.afterStale() : undefined;
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
    this.#finish(this.#journal.status);
    this.#client.reset();
  }

  /** Asks another Service for the page of this error. False where none is to be asked, or none is there. */
  #showErrorPage(status: number): boolean {
    const page = errorPage(this.#forward, status);
    if (!page) return false;
    const { forward, pages } = page;
    this.#dropUpstream();
    this.#reading.restart();
    this.#forward = forward;
    this.#attempts = new Attempts(forward, 'GET', this.#engine.monotonic());
    this.#sending.replace(pages.text(status, this.#journal.requestId));
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
    this.#journal.location = answer.of;
    const { body } = this.#sending;
    if (!body.done && !this.#expectContinue && this.#phase === 'connecting') {
      this.#sending.skip(this.#client, this.#engine.ranges);
    }
    const keepAlive = this.#wantsKeepAlive && body.done && this.#client.mayKeepAlive;
    const full = this.#forward ? { ...answer, fields: this.#ownFields(answer.status) + (answer.fields ?? '') } : answer;
    this.#client.sendAnswer(full, this.#journal.method, keepAlive);
    this.#finish(answer.status);
    this.#client.exchangeDone(keepAlive);
  }

  #ownFields(status: number): string {
    return this.#forward ? answerFields(this.#forward, this.#passed, this.#attempts?.endpoint, status) : '';
  }

  #dropUpstream(): void {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    upstream?.destroy();
  }

  #finish(status: number): void {
    if (this.#phase === 'done') return;
    this.#phase = 'done';
    this.#entry?.cancel();
    this.#relay?.stop();
    this.#sending.over();
    const journal = this.#journal;
    const endpoint = this.#attempts?.endpoint;
    journal.ended(status, this.#engine.monotonic());
    // For those who choose endpoints by how soon they answer.
    if (endpoint && journal.headDuration !== undefined && journal.upstreamDuration !== undefined)
      this.#forward?.targets.answered?.(endpoint, journal.upstreamDuration);
    this.#edit?.release?.();
    journal.location = this.#forward?.location ?? journal.location;
    journal.endpoint = endpoint;
    journal.received = this.#sending.body.received + (this.#tunnel?.received ?? 0);
    journal.sent = (this.#relay?.body.sent ?? 0) + (this.#tunnel?.sent ?? 0);
    journal.retries = this.#attempts?.retries ?? 0;
    journal.canary = this.#forward?.canary;
    this.#engine.host.record(journal);
  }
}
