import type { Dial, UpstreamEvents, UpstreamStream } from './byte-stream.ts';
import type { Latency } from './latency.ts';
import type { Deadlines, Expiring } from './deadlines.ts';

/** So many failures in a row take an endpoint out, at first for this long; each further one doubles the time, up to 32 s. */
const EJECT_AFTER = 3;
const EJECT_MS = 2_000;
const MAX_DOUBLINGS = 4;

/** What holds for all pools; changes while they are in use. */
export interface UpstreamTimes {
  readonly idleMs: number;
  /** Idle connections kept for one endpoint. */
  readonly maxIdle: number;
  /** A connection that is older, or has carried so many requests, is not kept. */
  readonly maxAgeMs: number;
  readonly maxRequests: number;
}

/** Who uses a connection to a backend. `bytes` is only good during the call. */
export interface UpstreamUser {
  onUpstreamReady(): void;
  onUpstreamFailed(timedOut: boolean): void;
  onUpstreamData(bytes: Buffer, length: number): void;
  onUpstreamEnd(): void;
  onUpstreamDrain(): void;
  onUpstreamClosed(): void;
  onUpstreamTimeout(): void;
}

/** One connection to one endpoint: connecting, used by one exchange, or idle in the pool. */
export class UpstreamConnection implements UpstreamEvents, Expiring {
  deadline: number;
  /** It has carried a request before: it may be one that the backend is closing right now. */
  reused = false;
  readonly endpoint: EndpointPool;
  readonly stream: UpstreamStream;
  #user: UpstreamUser | undefined;
  #connected = false;
  #closed = false;
  #requests = 1;
  readonly #openedAt: number;
  readonly #deadlines: Deadlines;

  constructor(endpoint: EndpointPool, user: UpstreamUser, dial: Dial, deadlines: Deadlines, connectMs: number) {
    this.endpoint = endpoint;
    this.#user = user;
    this.#deadlines = deadlines;
    this.#openedAt = deadlines.now;
    this.deadline = deadlines.now + connectMs;
    this.stream = dial(endpoint.ip, endpoint.port, this);
    deadlines.add(this);
  }

  get idle(): boolean {
    return this.#user === undefined;
  }

  use(user: UpstreamUser): void {
    this.#user = user;
    this.#requests++;
    this.reused = true;
  }

  isSpent({ maxAgeMs, maxRequests }: UpstreamTimes): boolean {
    return this.#requests >= maxRequests || this.#deadlines.now - this.#openedAt >= maxAgeMs;
  }

  /** Nobody's from now on; the pool keeps it or ends it. */
  release(): void {
    this.#user = undefined;
  }

  destroy(): void {
    this.#user = undefined;
    this.#closed = true;
    this.deadline = Number.POSITIVE_INFINITY;
    this.#deadlines.remove(this);
    this.endpoint.forget(this);
    this.stream.destroy();
  }

  expire(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    const user = this.#user;
    if (!user) this.destroy();
    else if (this.#connected) user.onUpstreamTimeout();
    else {
      this.destroy();
      user.onUpstreamFailed(true);
    }
  }

  onConnect(): void {
    this.#connected = true;
    this.deadline = Number.POSITIVE_INFINITY;
    this.#user?.onUpstreamReady();
  }

  onData(bytes: Buffer, length: number): void {
    // Bytes that nobody asked for: an answer to no request must never become the answer to the next one.
    if (this.#user) this.#user.onUpstreamData(bytes, length);
    else if (!this.#closed) this.destroy();
  }

  onEnd(): void {
    if (this.#user) this.#user.onUpstreamEnd();
    else if (!this.#closed) this.destroy();
  }

  onDrain(): void {
    this.#user?.onUpstreamDrain();
  }

  onClose(): void {
    const user = this.#user;
    const connected = this.#connected;
    if (!this.#closed) this.destroy();
    if (connected) user?.onUpstreamClosed();
    else user?.onUpstreamFailed(false);
  }
}

/** The connections to one endpoint. */
export class EndpointPool {
  readonly ip: string;
  readonly port: number;
  /** No backend names the endpoint any more: nothing is kept for it. */
  retired = false;
  /** How soon it answered lately; where that decides who is asked (`load-balance: ewma`). */
  latency: Latency | undefined;
  /** How often it was taken out for a while. */
  ejections = 0;
  /** Failures since the last answer, and until when (monotonic milliseconds) it is passed over because of them. */
  #failures = 0;
  #outUntil = 0;
  readonly #idle: UpstreamConnection[] = [];
  readonly #all = new Set<UpstreamConnection>();
  readonly #dial: Dial;
  readonly #deadlines: Deadlines;
  readonly #times: UpstreamTimes;

  constructor(ip: string, port: number, dial: Dial, deadlines: Deadlines, times: UpstreamTimes) {
    this.ip = ip;
    this.port = port;
    this.#dial = dial;
    this.#deadlines = deadlines;
    this.#times = times;
  }

  get size(): number {
    return this.#all.size;
  }

  /** It failed lately: others are asked first. */
  get ejected(): boolean {
    return this.#failures >= EJECT_AFTER && this.#outUntil > this.#deadlines.now;
  }

  /** No connection, or none that lasted until an answer. */
  failed(): void {
    if (++this.#failures < EJECT_AFTER) return;
    if (this.#outUntil > this.#deadlines.now) return;
    this.ejections++;
    const times = Math.min(this.#failures - EJECT_AFTER, MAX_DOUBLINGS);
    this.#outUntil = this.#deadlines.now + EJECT_MS * 2 ** times;
  }

  answered(): void {
    this.#failures = 0;
  }

  /** An idle connection, the one used last first; undefined when there is none. */
  takeIdle(user: UpstreamUser): UpstreamConnection | undefined {
    const connection = this.#idle.pop();
    connection?.use(user);
    return connection;
  }

  /** A new one; the user hears whether it connected, within `connectMs`. */
  open(user: UpstreamUser, connectMs: number): UpstreamConnection {
    const connection = new UpstreamConnection(this, user, this.#dial, this.#deadlines, connectMs);
    this.#all.add(connection);
    return connection;
  }

  /** Takes back a connection on which a whole answer was read and nothing more. `seconds` is what the backend says it keeps it. */
  giveBack(connection: UpstreamConnection, seconds: number): void {
    if (this.retired || this.#idle.length >= this.#times.maxIdle || connection.isSpent(this.#times)) {
      connection.destroy();
      return;
    }
    connection.release();
    // A second less than the backend waits, so that it is not the one to close under a request.
    const hinted = seconds > 0 ? Math.max(500, seconds * 1000 - 1000) : this.#times.idleMs;
    connection.deadline = this.#deadlines.now + Math.min(this.#times.idleMs, hinted);
    this.#idle.push(connection);
  }

  forget(connection: UpstreamConnection): void {
    this.#all.delete(connection);
    const at = this.#idle.lastIndexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  /** What is kept is not used for another request. */
  dropKept(): void {
    for (const connection of this.#idle.slice()) connection.destroy();
  }

  retire(): void {
    this.retired = true;
    this.dropKept();
  }

  destroy(): void {
    this.retired = true;
    for (const connection of this.#all) connection.destroy();
  }
}
