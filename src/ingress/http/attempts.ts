import type { Forward } from './forward.ts';
import type { EndpointPool } from './upstream.ts';

/** RFC 9110 section 9.2.2. */
const IDEMPOTENT = /^(GET|HEAD|PUT|DELETE|OPTIONS|TRACE)$/;

/** Which endpoints one request was sent to, and whether and where it may be sent again. */
export class Attempts {
  /** The endpoint of the attempt under way. */
  endpoint: EndpointPool | undefined;
  /** Its connection has carried a request before, so the backend may be closing it. */
  reused = false;
  readonly #forward: Forward;
  readonly #idempotent: boolean;
  readonly #startedAt: number;
  readonly #tried: EndpointPool[] = [];
  #replacedStale = false;

  constructor(forward: Forward, method: string, startedAt: number) {
    this.#forward = forward;
    this.#idempotent = IDEMPOTENT.test(method);
    this.#startedAt = startedAt;
  }

  /** What was sent may be wanted again, so it is kept. */
  get mayReplay(): boolean {
    const { retry } = this.#forward.transfer;
    return retry.statuses.size > 0 || retry.onLost || retry.onTimeout;
  }

  /** The endpoint of this attempt is one of the Service still. */
  get stillThere(): boolean {
    return this.endpoint !== undefined && this.#forward.targets.has(this.endpoint);
  }

  /** How often another attempt was made. */
  get retries(): number {
    return this.#tried.length;
  }

  first(): EndpointPool | undefined {
    return this.#forward.targets.pick(this.#tried);
  }

  /** After a connection that could not be made, with nothing sent. */
  afterNoConnection(now: number): EndpointPool | undefined {
    if (this.endpoint) this.#tried.push(this.endpoint);
    return this.#mayTry(this.#forward.transfer.retry.onConnect, now)
      ? this.#forward.targets.pick(this.#tried)
      : undefined;
  }

  /** For a request that was sent whole: the next endpoint, or the same one where there is no other (as nginx in this place). */
  again(now: number): EndpointPool | undefined {
    if (!this.#idempotent && !this.#forward.transfer.retry.nonIdempotent) return undefined;
    if (this.endpoint) this.#tried.push(this.endpoint);
    return this.#mayTry(true, now)
      ? (this.#forward.targets.pick(this.#tried) ?? this.#forward.targets.pick())
      : undefined;
  }

  /** Once, a kept connection that turned out to be dead is replaced: by one to the same endpoint, if that is there still. */
  afterStale(): EndpointPool | undefined {
    if (!this.reused || this.#replacedStale || !this.#idempotent) return undefined;
    this.#replacedStale = true;
    return this.stillThere ? this.endpoint : this.first();
  }

  #mayTry(asked: boolean, now: number): boolean {
    const { retry } = this.#forward.transfer;
    if (!asked || this.#tried.length >= retry.tries) return false;
    return retry.withinMs === 0 || now - this.#startedAt < retry.withinMs;
  }
}
