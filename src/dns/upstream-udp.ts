// Questions to one upstream server over UDP. Few at a time have a socket each, made for them and closed behind them; many share some dozens that live
// two seconds, as making one costs more than all the rest of a question.
//
// The source port is half of what a forger has to guess (RFC 5452 section 4.5), so it must not be worth finding out. A socket has one question at a time; which
// one is a question's is chosen at random among many, each with a port of the system's random choice; and it is gone after the time that a question without
// an answer keeps its port in any case, and after so many questions.

import type { Timer } from '../system/clock.ts';
import { systemUdp, type Udp, type UdpFlow } from '../system/udp.ts';
import type { LinkOptions } from './upstream-link.ts';
import { replyTo, type Exchange } from './upstream.ts';

/** What they say of connections that are kept holds for sockets. */
export interface UpstreamUdpOptions extends Omit<LinkOptions, 'tls' | 'dohMethod'> {
  readonly udp?: Udp;
}

/** From so many on that wait for a question one of them is taken: below it a port is new for each question. */
const LEAST_CHOICE = 64;
const MOST_AGE_MS = 2000;
const MOST_QUESTIONS = 32;

interface Port {
  readonly flow: UdpFlow;
  readonly bornAt: number;
  questions: number;
  /** Undefined while nothing is asked on it. */
  asked: Asked | undefined;
}

interface Asked {
  readonly packet: Buffer;
  readonly timer: Timer;
  readonly done: (result: Exchange) => void;
}

export class UpstreamUdp {
  readonly #options: UpstreamUdpOptions;
  readonly #busy = new Set<Port>();
  #idle: Port[] = [];
  #sweep: Timer | undefined;

  constructor(options: UpstreamUdpOptions) {
    this.#options = options;
    options.stopped.addEventListener('abort', () => {
      this.#sweep?.cancel();
      for (const { flow } of this.#idle.splice(0)) flow.close();
      for (const port of this.#busy) this.#finish(port, { kind: 'failed', code: 'ABORTED' });
    });
  }

  /** Never rejects. */
  ask(packet: Buffer, timeoutMs: number): Promise<Exchange> {
    const { clock, stopped } = this.#options;
    if (stopped.aborted) return Promise.resolve({ kind: 'failed', code: 'ABORTED' });
    return new Promise((resolve) => {
      const port = this.#take();
      const timer = clock.after(timeoutMs, () => this.#finish(port, { kind: 'failed', code: 'TIMEOUT' }));
      port.asked = { packet, timer, done: resolve };
      port.questions++;
      this.#busy.add(port);
      port.flow.send(packet);
    });
  }

  #take(): Port {
    const { randomId, onReuse } = this.#options;
    const choice = this.#idle.length;
    const reused = choice >= LEAST_CHOICE ? this.#draw(randomId() % choice) : undefined;
    onReuse(reused !== undefined, 'udp');
    return reused ?? this.#open();
  }

  /** One of those that wait; undefined where it has become too old. */
  #draw(at: number): Port | undefined {
    const port = this.#idle[at];
    const last = this.#idle.pop();
    if (last && last !== port) this.#idle[at] = last;
    if (port && !this.#isWorn(port)) return port;
    port?.flow.close();
    return undefined;
  }

  #open(): Port {
    const { server, source, clock, udp = systemUdp } = this.#options;
    const flow = udp.open({
      ...server,
      localAddress: source,
      onMessage: (data) => this.#heard(port, data),
      onError: (code) => this.#finish(port, { kind: 'failed', code }),
    });
    const port: Port = { flow, bornAt: clock.monotonic(), questions: 0, asked: undefined };
    return port;
  }

  #heard(port: Port, data: Uint8Array): void {
    const reply = port.asked && replyTo(port.asked.packet, data);
    if (reply) this.#finish(port, { kind: 'reply', packet: reply });
  }

  #finish(port: Port, result: Exchange): void {
    const { asked } = port;
    port.asked = undefined;
    if (!asked) {
      // A refusal that comes late, on one that waits.
      this.#idle = this.#idle.filter((other) => other !== port);
      port.flow.close();
      return;
    }
    asked.timer.cancel();
    this.#busy.delete(port);
    // What has gone wrong, or may still get a late answer, is not used again.
    if (result.kind === 'reply' && !this.#isWorn(port)) this.#keep(port);
    else port.flow.close();
    asked.done(result);
  }

  #keep(port: Port): void {
    const { maxIdle, stopped } = this.#options;
    if (stopped.aborted || (maxIdle > 0 && this.#idle.length >= maxIdle)) {
      port.flow.close();
      return;
    }
    this.#idle.push(port);
    this.#sweep ??= this.#sweepLater();
  }

  #sweepLater(): Timer {
    return this.#options.clock.after(this.#mostAgeMs / 2, () => {
      const worn = this.#idle.filter((port) => this.#isWorn(port));
      this.#idle = this.#idle.filter((port) => !this.#isWorn(port));
      for (const { flow } of worn) flow.close();
      this.#sweep = this.#idle.length > 0 ? this.#sweepLater() : undefined;
    });
  }

  #isWorn({ bornAt, questions }: Port): boolean {
    return questions >= MOST_QUESTIONS || this.#options.clock.monotonic() - bornAt >= this.#mostAgeMs;
  }

  get #mostAgeMs(): number {
    const { maxAgeMs, expireMs } = this.#options;
    return Math.min(MOST_AGE_MS, expireMs, maxAgeMs || Infinity);
  }
}
