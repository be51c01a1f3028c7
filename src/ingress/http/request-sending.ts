import type { ClientEnd } from './client-end.ts';
import type { Ranges } from './chunked.ts';
import { RequestBodyFlow } from './request-body.ts';
import type { RequestHead } from './request-head.ts';
import type { UpstreamConnection } from './upstream.ts';

/** Bodies up to this size leave in one write with their head, as text. */
const SMALL = 2048;
/** A request up to this size can be sent again, head and body. */
const MAX_REPLAY = 64 * 1024;

/** A copy of a request, on its way to somebody else. */
export interface RequestCopy {
  write(data: string | Uint8Array): void;
  stop(): void;
}

/** One request on its way to a backend, and what of it is kept so that it can be sent again. */
export class RequestSending {
  readonly body: RequestBodyFlow;
  head = '';
  /** Nothing of the client's body is wanted any more. */
  abandoned = false;
  /** Begins a copy of it, when it is sent. */
  copiedBy: (() => RequestCopy) | undefined;
  /** Is given what is sent of the body, once. */
  #copy: RequestCopy | undefined;
  #replay: string | undefined;
  #sent = false;

  constructor(head: RequestHead, frames: boolean) {
    this.body = new RequestBodyFlow(head, frames);
  }

  /** The whole of it was sent, is here, and can be sent again. */
  get repeatable(): boolean {
    return this.body.done && !this.abandoned && this.#replay !== undefined;
  }

  /** The answer has begun: it is not sent again. */
  forget(): void {
    this.#replay = undefined;
  }

  /** Another request, without a body, in the place of this one. */
  replace(head: string): void {
    this.head = head;
    this.abandoned = !this.body.done;
    this.#replay = undefined;
    this.#sent = false;
    this.over();
    this.#copy = undefined;
    this.copiedBy = undefined;
  }

  /** Nothing more of the body is sent: a copy that waits for the rest is given up. */
  over(): void {
    if (!this.body.done) this.#copy?.stop();
  }

  /** Sends the head and what is here of a small body, in one write; or, the next time, all that was sent before. */
  start(client: ClientEnd, upstream: UpstreamConnection, keep: boolean): void {
    if (this.#sent && this.#replay !== undefined) {
      upstream.stream.write(this.#replay, 'latin1');
      return;
    }
    this.#sent = true;
    this.#copy = this.copiedBy?.();
    let first = this.head;
    if (!this.body.done && !this.abandoned) {
      client.drainPending((bytes, start, end) => {
        const text = this.body.takeText(bytes, start, end, SMALL);
        first += text;
        return start + text.length;
      });
    }
    if (keep) this.#replay = first;
    this.#copy?.write(first.slice(this.head.length));
    upstream.stream.write(first, 'latin1');
  }

  /** Passes on the body bytes that are here. */
  pump(client: ClientEnd, upstream: UpstreamConnection, ranges: Ranges): void {
    client.drainPending((bytes, start, end) =>
      this.body.take(bytes, start, end, ranges, (data) => this.#write(upstream, data)),
    );
  }

  /** The client has sent all of a body without framing of its own. */
  finish(upstream: UpstreamConnection): void {
    const end = this.body.finish();
    if (end !== '') this.#write(upstream, Buffer.from(end, 'latin1'));
  }

  /** Reads body bytes that nobody wants. */
  skip(client: ClientEnd, ranges: Ranges): void {
    client.drainPending((bytes, start, end) => this.body.take(bytes, start, end, ranges, () => {}));
  }

  #write(upstream: UpstreamConnection, data: Uint8Array): void {
    upstream.stream.write(data);
    this.#copy?.write(data);
    if (this.#replay === undefined) return;
    const length = this.#replay.length + data.length;
    this.#replay = length > MAX_REPLAY ? undefined : this.#replay + Buffer.from(data).toString('latin1');
  }
}
