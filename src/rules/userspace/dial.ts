// One client's way to an endpoint: the next in turn, and where that does not answer soon another one beside it, as clients with several addresses do (Happy
// Eyeballs, RFC 8305 section 5). The first that accepts is the one; so an endpoint that is silent costs little, and one that is merely slow is not lost.

import type { Ip } from '../../lib/ip.ts';
import type { Endpoint } from '../../model/snapshot.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import { reset, type Tcp, type TcpSocket } from '../../system/tcp.ts';
import { endpointKey, type EndpointKey } from './balance.ts';
import type { Route } from './route.ts';

export interface DialOptions {
  readonly tcp: Tcp;
  readonly clock: Clock;
  /** An endpoint that has not answered by then is given up. */
  readonly connectTimeoutMs: number;
  /** Called for each endpoint that could not be reached, or was too slow. */
  readonly onFailure: (endpoint: EndpointKey, code: string) => void;
}

export type DialResult =
  | { readonly kind: 'reached'; readonly socket: TcpSocket; readonly endpoint: EndpointKey }
  /** By the rules for that client. */
  | { readonly kind: 'drop' }
  /** By the rules, or as each endpoint was tried in vain, or nobody waits any more. */
  | { readonly kind: 'reject' };

/** What a dial needs of a route. */
export type DialRoute = Pick<Route, 'hasAffinity' | 'allowed' | 'reached' | 'failed'> & {
  choose(client: Ip, tried: ReadonlySet<EndpointKey>, now: number): DialChoice;
};

type DialChoice = { readonly kind: 'endpoint'; readonly endpoint: Endpoint } | { readonly kind: 'drop' | 'reject' };

/** Who is to be led where. */
interface Call {
  readonly client: Ip;
  readonly route: DialRoute;
  /** For the connection that is made; see `Tcp.connect`. */
  readonly onBytes: (bytes: Buffer) => void;
  readonly onEnd: (result: DialResult) => void;
  /** A fault of the program. */
  readonly onFault: (error: unknown) => void;
}

/** What the dials of a relay share. */
export class Dials {
  readonly options: DialOptions;
  readonly #byRoute = new Map<DialRoute, Set<Dial>>();
  /** Attempts under way beside another of the same client. */
  beside = 0;

  constructor(options: DialOptions) {
    this.options = options;
  }

  begin(call: Call): Dial {
    const dial = new Dial(this, call);
    const dials = this.#byRoute.get(call.route);
    if (dials) dials.add(dial);
    else this.#byRoute.set(call.route, new Set([dial]));
    dial.begin();
    return dial;
  }

  ended(dial: Dial): void {
    const dials = this.#byRoute.get(dial.route);
    dials?.delete(dial);
    if (dials?.size === 0) this.#byRoute.delete(dial.route);
  }

  /** After a change of the route: attempts to reach an endpoint that it no longer allows are given up for another. */
  recheck(route: DialRoute): void {
    for (const dial of this.#byRoute.get(route) ?? []) dial.recheck();
  }
}

interface Attempt {
  readonly endpoint: Endpoint;
  readonly key: EndpointKey;
  /** 1 for the first. */
  readonly nth: number;
  readonly isBeside: boolean;
  readonly abort: AbortController;
  /** When it is given up. */
  readonly until: number;
}

/** Why an attempt is given up: its endpoint is no longer the client's, the client is gone or has another; or nobody answered. */
const MOVED = 'MOVED';
const TIMED_OUT = 'ETIMEDOUT';

/** After so long another endpoint is tried beside the first, after twice that one more, and so on (RFC 8305 recommends it; kube-proxy's first mode gave up after it). */
const BESIDE_AFTER_MS = 250;
/** With session affinity a client leaves its endpoint less lightly: the system repeats a lost SYN after a second. */
const LEAVE_AFTER_MS = 1500;
/** Attempts beside others, of all clients: each is a descriptor that nobody has reckoned with. */
const MOST_BESIDE = 64;

class Dial {
  readonly #dials: Dials;
  readonly #call: Call;
  readonly #tried = new Set<EndpointKey>();
  /** Under way, the first begun first. */
  readonly #attempts = new Set<Attempt>();
  #delay: number;
  /** When the next endpoint is tried beside; never when there is none. */
  #besideAt = Infinity;
  #timer: Timer | undefined;
  #isOver = false;

  constructor(dials: Dials, call: Call) {
    this.#dials = dials;
    this.#call = call;
    this.#delay = call.route.hasAffinity ? LEAVE_AFTER_MS : BESIDE_AFTER_MS;
  }

  get route(): DialRoute {
    return this.#call.route;
  }

  begin(): void {
    this.#next();
  }

  /** Nobody waits any more. */
  giveUp(): void {
    if (!this.#isOver) this.#finish({ kind: 'reject' });
  }

  recheck(): void {
    const { route, client } = this.#call;
    const allowed = route.allowed(client);
    for (const { key, abort } of this.#attempts) if (!allowed.has(key)) abort.abort(MOVED);
  }

  #next(): void {
    const { route, client, onFault } = this.#call;
    const { clock, connectTimeoutMs } = this.#dials.options;
    const now = clock.monotonic();
    const choice = route.choose(client, this.#tried, now);
    if (choice.kind !== 'endpoint') {
      this.#besideAt = Infinity;
      if (this.#attempts.size === 0) this.#finish({ kind: choice.kind });
      return;
    }
    const { endpoint } = choice;
    const key = endpointKey(endpoint);
    this.#tried.add(key);
    const isBeside = this.#attempts.size > 0;
    if (isBeside) this.#dials.beside++;
    const abort = new AbortController();
    const attempt = { endpoint, key, nth: this.#tried.size, isBeside, abort, until: now + connectTimeoutMs };
    this.#attempts.add(attempt);
    this.#besideAt = now + this.#delay;
    this.#delay *= 2;
    this.#wait(now);
    this.#connect(attempt).catch(onFault);
  }

  async #connect(attempt: Attempt): Promise<void> {
    const { route, client, onBytes } = this.#call;
    const { tcp, clock, onFailure } = this.#dials.options;
    const { endpoint, key, abort, isBeside } = attempt;
    const { ip: address, port } = endpoint;
    const result = await tcp.connect({ address, port, onBytes, signal: abort.signal });
    this.#attempts.delete(attempt);
    if (isBeside) this.#dials.beside--;
    if (result.kind === 'connected' && !abort.signal.aborted) {
      if (this.#tried.size > 1) route.reached(client, endpoint, clock.monotonic());
      // Those that were begun before it had longer.
      for (const other of this.#attempts) if (other.nth < attempt.nth) other.abort.abort(TIMED_OUT);
      this.#finish({ kind: 'reached', socket: result.socket, endpoint: key });
      return;
    }
    // Given up in the turn in which it came to stand.
    if (result.kind === 'connected') reset(result.socket);
    const code: unknown = abort.signal.aborted ? abort.signal.reason : result.kind === 'failed' && result.code;
    if (typeof code === 'string' && code !== MOVED) onFailure(key, code);
    if (this.#isOver) return;
    route.failed(client, key);
    this.#next();
  }

  #wait(now: number): void {
    let at = this.#besideAt;
    for (const { until } of this.#attempts) at = Math.min(at, until);
    this.#timer?.cancel();
    this.#timer = this.#dials.options.clock.after(Math.max(0, at - now), () => this.#look());
  }

  #look(): void {
    const now = this.#dials.options.clock.monotonic();
    for (const { until, abort } of this.#attempts) if (until <= now) abort.abort(TIMED_OUT);
    if (this.#besideAt <= now) {
      if (this.#dials.beside < MOST_BESIDE) this.#next();
      else this.#besideAt = now + this.#delay;
    }
    if (!this.#isOver) this.#wait(now);
  }

  #finish(result: DialResult): void {
    this.#isOver = true;
    this.#timer?.cancel();
    this.#dials.ended(this);
    for (const { abort } of this.#attempts) abort.abort(MOVED);
    this.#call.onEnd(result);
  }
}
