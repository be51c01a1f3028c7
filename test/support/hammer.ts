// A client that does not rest: opens a connection to each target every few milliseconds and keeps count. Runs inside a namespace
// (netns-agent.ts).

import { connect } from 'node:net';
import { createSocket, type Socket } from 'node:dgram';

export interface HammerTarget {
  readonly protocol: 'TCP' | 'UDP';
  readonly address: string;
  readonly port: number;
  /** UDP: every datagram from one socket, as a client with a long flow does, and not from a new one each time. */
  readonly oneSocket?: boolean;
}

export interface HammerOptions {
  readonly targets: readonly HammerTarget[];
  readonly everyMs: number;
  /** No answer by then is a failure. */
  readonly timeoutMs: number;
  /** No more are begun while so many wait for their answers: a machine that cannot keep up is not to pile them up until the last is late. */
  readonly mostWaiting?: number;
}

export interface HammerFailure {
  /** When the connection was begun, as Date.now(). */
  readonly at: number;
  readonly target: number;
  /** The system's code (ECONNREFUSED…), `SILENCE`, or `EMPTY` for a connection that was closed without an answer. */
  readonly code: string;
  /** From the begin until it stood, of a TCP connection that did. */
  readonly connectMs?: number;
}

export interface HammerResult {
  readonly attempts: number;
  /** How often each server answered. */
  readonly answeredBy: Readonly<Record<string, number>>;
  readonly failures: readonly HammerFailure[];
  /** From the begin of a connection to its answer. */
  readonly slowestMs: number;
  /** From the begin of each TCP connection until it stands, sorted. */
  readonly connectMs: readonly number[];
}

export class Hammer {
  readonly #options: HammerOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #answeredBy: Record<string, number> = {};
  readonly #failures: HammerFailure[] = [];
  readonly #flows: readonly (UdpFlow | undefined)[];
  readonly #begun: Promise<void>[] = [];
  readonly #connectMs: number[] = [];
  #slowestMs = 0;
  #waiting = 0;

  constructor(options: HammerOptions) {
    this.#options = options;
    this.#flows = options.targets.map((target) => (target.oneSocket === true ? new UdpFlow(target) : undefined));
    this.#timer = setInterval(() => this.#strike(), options.everyMs);
  }

  /** Begins no more, waits for what is under way, and gives the counts. */
  async stop(): Promise<HammerResult> {
    clearInterval(this.#timer);
    await Promise.all(this.#begun);
    for (const flow of this.#flows) flow?.close();
    return {
      attempts: this.#begun.length,
      answeredBy: this.#answeredBy,
      failures: this.#failures,
      slowestMs: Math.round(this.#slowestMs),
      connectMs: this.#connectMs.toSorted((a, b) => a - b),
    };
  }

  #strike(): void {
    const { targets, mostWaiting = Infinity } = this.#options;
    if (this.#waiting >= mostWaiting) return;
    for (const [index, target] of targets.entries()) this.#begun.push(this.#connect(target, index));
  }

  async #connect(target: HammerTarget, index: number): Promise<void> {
    const at = Date.now();
    const start = performance.now();
    const { timeoutMs } = this.#options;
    const flow = this.#flows[index];
    const ask = target.protocol === 'TCP' ? askTcp : askUdp;
    this.#waiting++;
    const { by, code, connectMs } = await (flow ? flow.ask(timeoutMs) : ask(target, timeoutMs));
    this.#waiting--;
    if (code === undefined) this.#answeredBy[by] = (this.#answeredBy[by] ?? 0) + 1;
    else
      this.#failures.push({
        at,
        target: index,
        code,
        ...(connectMs === undefined ? {} : { connectMs: Math.round(connectMs) }),
      });
    if (connectMs !== undefined) this.#connectMs.push(connectMs);
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - start);
  }
}

interface Answer {
  readonly by: string;
  readonly code: string | undefined;
  readonly connectMs?: number | undefined;
}

function byOf(text: string): Answer {
  const [by = ''] = text.trim().split(' ');
  return { by, code: by === '' ? 'EMPTY' : undefined };
}

function askTcp({ address, port }: HammerTarget, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const start = performance.now();
    let text = '';
    let connectMs: number | undefined;
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ ...answer, connectMs });
    };
    const timer = setTimeout(() => finish({ by: '', code: 'SILENCE' }), timeoutMs);
    socket.on('connect', () => (connectMs = performance.now() - start));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (text += chunk));
    socket.on('end', () => finish(byOf(text)));
    socket.on('error', (error: NodeJS.ErrnoException) => finish({ by: '', code: error.code ?? 'UNKNOWN' }));
  });
}

/** One datagram from a socket of its own. */
function askUdp({ address, port }: HammerTarget, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const socket: Socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const fail = (error: NodeJS.ErrnoException): void => finish({ by: '', code: error.code ?? 'UNKNOWN' });
    const timer = setTimeout(() => finish({ by: '', code: 'SILENCE' }), timeoutMs);
    socket.on('error', fail);
    socket.on('message', (data) => finish(byOf(data.toString())));
    socket.connect(port, address, (error?: Error) => {
      if (error) fail(error);
      else socket.send('?\n', (failure) => failure && fail(failure));
    });
  });
}

/** Datagrams from one socket. Answers carry no number: each counts for the newest datagram, as it comes long before the next is sent. */
class UdpFlow {
  readonly #socket: Socket;
  readonly #waiting: ((answer: Answer) => void)[] = [];
  readonly #ready: Promise<void>;

  constructor({ address, port }: HammerTarget) {
    this.#socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    this.#ready = new Promise((resolve) => this.#socket.connect(port, address, resolve));
    this.#socket.on('message', (data) => this.#waiting.pop()?.(byOf(data.toString())));
    this.#socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#waiting.pop()?.({ by: '', code: error.code ?? 'UNKNOWN' });
    });
  }

  async ask(timeoutMs: number): Promise<Answer> {
    await this.#ready;
    return new Promise((resolve) => {
      const finish = (answer: Answer): void => {
        clearTimeout(timer);
        resolve(answer);
      };
      const timer = setTimeout(() => {
        const at = this.#waiting.indexOf(finish);
        if (at >= 0) this.#waiting.splice(at, 1);
        resolve({ by: '', code: 'SILENCE' });
      }, timeoutMs);
      this.#waiting.push(finish);
      this.#socket.send('?\n', (failure) => failure && this.#socket.emit('error', failure));
    });
  }

  close(): void {
    this.#socket.close();
  }
}
