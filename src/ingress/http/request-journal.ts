import type { Location } from '../host-routes.ts';
import type { Origin, RequestRecord } from './forward.ts';
import type { RequestHead } from './request-head.ts';
import type { EndpointPool } from './upstream.ts';

/** What becomes of one request, noted on the way; once it is over, its record. */
export class RequestJournal implements RequestRecord {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly remoteAddress: string;
  readonly captured: readonly string[] | undefined;
  /** Monotonic milliseconds. */
  readonly startedAt: number;
  requestId = '';
  status = 0;
  location: Location | undefined = undefined;
  endpoint: EndpointPool | undefined = undefined;
  received = 0;
  sent = 0;
  duration = 0;
  headDuration: number | undefined = undefined;
  connectDuration: number | undefined = undefined;
  upstreamDuration: number | undefined = undefined;
  retries = 0;
  canary: string | undefined = undefined;
  /** The first attempt began; undefined before. */
  #askedAt: number | undefined = undefined;

  constructor(head: RequestHead, origin: Origin, captured: readonly string[] | undefined, now: number) {
    this.method = head.method;
    this.host = head.host;
    this.path = head.path;
    this.remoteAddress = origin.remoteAddress;
    this.captured = captured;
    this.startedAt = now;
  }

  /** An attempt begins, on a connection that is there already where `connected` says so. */
  asks(now: number, connected: boolean): void {
    this.#askedAt ??= now;
    if (connected) this.connectDuration = 0;
  }

  connected(now: number): void {
    this.connectDuration = now - (this.#askedAt ?? now);
  }

  /** The head of the answer that the client gets is here. */
  answered(status: number, now: number): void {
    this.status = status;
    this.headDuration = now - this.startedAt;
  }

  ended(status: number, now: number): void {
    this.status = status;
    this.duration = now - this.startedAt;
    if (this.#askedAt !== undefined) this.upstreamDuration = now - this.#askedAt;
  }
}
