import type { AnswerBodyFlow } from './answer-body.ts';
import type { ClientEnd } from './client-end.ts';
import type { CodingChoice } from './compression.ts';
import { EncodedBody } from './encoded-body.ts';
import type { Engine } from './engine.ts';
import { textOf } from './octets.ts';
import { Throttle, type Rate } from './throttle.ts';

/** Answer bodies up to this size leave in one write with their head, as text. */
const SMALL = 2048;

/** What an answer on its way asks of the exchange that it belongs to. */
export interface RelayHost {
  pauseBackend(): void;
  resumeBackend(): void;
  /** The client has to take bytes. */
  awaitClient(): void;
  /** All of it was read from the backend; `clean`: nothing came behind it. `finish` follows. */
  onRead(clean: boolean): void;
  /** The client has been given all of it. */
  onGiven(): void;
  /** It is not framed as it says. `begun`: the client has part of it. */
  onBroken(begun: boolean): void;
}

/** One answer on its way from the backend to the client: framed anew, compressed and held back to a rate where that is asked for. */
export class AnswerRelay {
  readonly body: AnswerBodyFlow;
  readonly #engine: Engine;
  readonly #client: ClientEnd;
  readonly #host: RelayHost;
  #throttle: Throttle | undefined;
  #encoded: EncodedBody | undefined;

  constructor(engine: Engine, client: ClientEnd, host: RelayHost, body: AnswerBodyFlow) {
    this.#engine = engine;
    this.#client = client;
    this.#host = host;
    this.body = body;
  }

  /** `head` is still to be written; the body's first bytes are those from `start` to `end`. */
  begin(
    head: string,
    bytes: Buffer,
    start: number,
    end: number,
    coding: CodingChoice | undefined,
    rate: Rate | undefined,
  ): void {
    const { body } = this;
    const { deadlines, monotonic } = this.#engine;
    if (rate && !body.whole) this.#throttle = new Throttle(rate, deadlines, monotonic(), () => this.#unthrottled());
    if (coding?.coding !== undefined) {
      if (head !== '') this.#client.writeText(head);
      this.#encoded = this.#encode(coding.coding, coding.level);
      if (start < end) this.take(bytes, start, end, '');
    } else if (body.kind === 'length' && end - start >= body.left && body.left <= SMALL) {
      // The whole of a small answer is here: one write, as text.
      body.sent = body.left;
      this.#client.writeText(head + textOf(bytes, start, start + body.left));
      this.#host.onRead(start + body.left === end);
    } else if (!body.whole && start < end) this.take(bytes, start, end, head);
    else {
      if (head !== '') this.#client.writeText(head);
      if (body.whole) this.#host.onRead(start === end);
    }
  }

  /** Passes on bytes of the body, in one write with the head when that is still to be sent. */
  take(bytes: Buffer, start: number, end: number, head: string): void {
    const { body } = this;
    const data = body.take(bytes, start, end, head, this.#engine.ranges);
    if (body.failed) {
      this.#host.onBroken(head === '');
      return;
    }
    if (data.length > 0 && !(this.#encoded ?? this.#client).write(data)) this.#host.pauseBackend();
    this.#throttle?.sent(body.sent);
    if (this.#throttle?.holds && !body.whole) this.#host.pauseBackend();
    if (body.whole) this.#host.onRead(body.end === end);
  }

  /** The end of the backend's connection, where that is the end of the body. */
  backendEnded(): void {
    this.body.whole = true;
    if (!this.#encoded && this.body.lastChunk !== '') this.#client.writeText(this.body.lastChunk);
    this.#host.onRead(true);
  }

  clientDrained(): void {
    if (!this.#throttle?.holds) this.#resume();
  }

  /** Nothing more comes from the backend; `onGiven` follows. */
  finish(): void {
    if (this.#encoded) this.#encoded.end();
    else this.#host.onGiven();
  }

  /** Nothing is told any more. */
  stop(): void {
    this.#throttle?.stop();
    this.#encoded?.destroy();
  }

  #resume(): void {
    if (this.#encoded) this.#encoded.resume();
    else this.#host.resumeBackend();
  }

  /** More may be sent, when the client takes it. */
  #unthrottled(): void {
    if (!this.#client.needsDrain) this.#resume();
  }

  /** The body goes through a compressor, which says when the client has all of it. */
  #encode(coding: 'gzip' | 'br', level: number): EncodedBody {
    const { body } = this;
    return new EncodedBody(coding, level, {
      onBytes: (encoded) => {
        const more = this.#client.write(body.frame(encoded, this.#engine.ranges));
        this.#throttle?.sent(body.sent);
        if (!more) this.#host.awaitClient();
        return more && this.#throttle?.holds !== true;
      },
      onEnd: () => {
        if (body.lastChunk !== '') this.#client.writeText(body.lastChunk);
        this.#host.onGiven();
      },
      onRoom: () => this.#host.resumeBackend(),
      onFailed: () => this.#host.onBroken(true),
    });
  }
}
