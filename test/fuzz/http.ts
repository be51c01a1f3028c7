// Malformed requests against the HTTP engine: most in memory, some thousands through sockets. For each case: it ends,
// the backend reads exactly the requests that the engine says it sent, and they are those that the client's bytes hold.

import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { DEFAULT_PREFIX, readSettings } from '../../src/ingress/annotations/settings.ts';
import { DEFAULT_GLOBALS } from '../../src/ingress/global-settings.ts';
import { RoundRobin } from '../../src/ingress/balance.ts';
import type { ClientStream, Dial, UpstreamEvents, UpstreamStream } from '../../src/ingress/http/byte-stream.ts';
import { serveConnection } from '../../src/ingress/http/client-connection.ts';
import { Deadlines } from '../../src/ingress/http/deadlines.ts';
import { DEFAULT_TIMES, createEngine, type Engine } from '../../src/ingress/http/engine.ts';
import type { Forward, RequestRecord } from '../../src/ingress/http/forward.ts';
import { EndpointPool } from '../../src/ingress/http/upstream.ts';
import { startIngressPlane } from '../../src/ingress/plane.ts';
import { silentLogger, type Logger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { FakeClock } from '../../src/system/clock-fake.ts';
import { ingress, service, snapshot } from '../ingress/world.ts';
import { nextCase, seeded, type HttpCase, type Random } from './http-cases.ts';
import { readRequests, type ReadRequest } from './http-reader.ts';
import { ip } from '../support/values.ts';

export interface FuzzHttpOptions {
  readonly cases: number;
  readonly seed: number;
}

export interface FuzzHttpResult {
  readonly cases: number;
  /** How often each status was answered; 499 when the case ended before its answer. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly seconds: number;
  /** Used heap after the last case against that after the first tenth, both after a collection. */
  readonly heapGrowthBytes: number;
}

/** One case in thirty goes through sockets, at most this many. */
const MAX_SOCKET_CASES = 3000;
/** Turns of the microtask queue within which a case must have ended. */
const MAX_TURNS = 2000;

/** Runs the cases; throws at the first that breaks a rule, with its bytes. */
export async function fuzzHttp(options: FuzzHttpOptions): Promise<FuzzHttpResult> {
  const started = performance.now();
  const random = seeded(options.seed);
  const statuses: Record<string, number> = {};
  const socketCases = Math.min(MAX_SOCKET_CASES, Math.ceil(options.cases / 30));
  const memoryCases = options.cases - socketCases;
  const bench = new MemoryBench(statuses);
  let heapBefore = 0;
  for (let i = 0; i < memoryCases; i++) {
    if (i === Math.floor(memoryCases / 10)) heapBefore = usedHeap();
    await bench.run(nextCase(random), random);
  }
  const heapGrowthBytes = usedHeap() - heapBefore;
  await fuzzSockets(socketCases, random, statuses);
  return { cases: options.cases, statuses, seconds: (performance.now() - started) / 1000, heapGrowthBytes };
}

/** A client whose bytes are given and whose answers are kept. */
class MemoryClient implements ClientStream {
  readonly writableNeedDrain = false;
  readonly writableLength = 0;
  output = '';
  closed = false;
  #outputEnded = false;
  #inputEnded = false;
  readonly #listeners = new Map<string, ((value: never) => void)[]>();

  on(event: string, listener: (value: never) => void): this {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
    return this;
  }

  send(text: string): void {
    if (!this.closed) this.#emit('data', Buffer.from(text, 'latin1'));
  }

  endInput(): void {
    if (this.closed) return;
    this.#inputEnded = true;
    this.#emit('end', undefined);
    this.#closeWhenDone();
  }

  write(data: string | Uint8Array): boolean {
    if (this.#outputEnded || this.closed) throw new Error('a write after the end');
    this.output += typeof data === 'string' ? data : Buffer.from(data).toString('latin1');
    return true;
  }

  end(): void {
    this.#outputEnded = true;
    this.#closeWhenDone();
  }

  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    queueMicrotask(() => this.#emit('close', undefined));
  }

  resetAndDestroy(): void {
    this.destroy();
  }

  get destroyed(): boolean {
    return this.closed;
  }

  get writableEnded(): boolean {
    return this.#outputEnded;
  }

  /** What is written is there at once. */
  get writableFinished(): boolean {
    return this.#outputEnded;
  }

  once(event: string, listener: (value: never) => void): this {
    return this.on(event, listener);
  }

  pause(): void {}
  resume(): void {}

  #closeWhenDone(): void {
    if (this.#outputEnded && this.#inputEnded) this.destroy();
  }

  #emit(event: string, value: unknown): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(value as never);
  }
}

/** A backend that reads what it gets with the other reader and answers each whole request. */
class MemoryBackend implements UpstreamStream {
  readonly writableNeedDrain = false;
  readonly writableLength = 0;
  received = '';
  #answered = 0;
  #closed = false;
  readonly #events: UpstreamEvents;
  readonly #random: Random;

  constructor(events: UpstreamEvents, random: Random) {
    this.#events = events;
    this.#random = random;
    queueMicrotask(() => events.onConnect());
  }

  write(data: string | Uint8Array): boolean {
    if (this.#closed) throw new Error('a write after the end');
    this.received += typeof data === 'string' ? data : Buffer.from(data).toString('latin1');
    queueMicrotask(() => this.#answer());
    return true;
  }

  end(): void {}

  destroy(): void {
    if (this.#closed) return;
    this.#closed = true;
    queueMicrotask(() => this.#events.onClose());
  }

  pause(): void {}
  resume(): void {}

  #answer(): void {
    if (this.#closed) return;
    const { requests } = readRequests(this.received);
    for (; this.#answered < requests.length; this.#answered++) {
      const bytes = Buffer.from(answerTo(requests[this.#answered]?.method ?? '', this.#random), 'latin1');
      const cut = 1 + Math.floor(this.#random() * bytes.length);
      this.#events.onData(bytes.subarray(0, cut), cut);
      if (cut < bytes.length && !this.#closed) this.#events.onData(bytes.subarray(cut), bytes.length - cut);
    }
  }
}

function answerTo(method: string, random: Random): string {
  if (method === 'HEAD') return 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n';
  const kind = random();
  if (kind < 0.5) return 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
  if (kind < 0.9)
    return 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x\r\nk\r\n0\r\nX-T: y\r\n\r\n';
  return 'HTTP/1.1 204 No Content\r\n\r\n';
}

class MemoryBench {
  readonly #engine: Engine;
  readonly #statuses: Record<string, number>;
  #records: RequestRecord[] = [];
  #backends: MemoryBackend[] = [];
  #random: Random = () => 0;
  #forward: Forward;

  constructor(statuses: Record<string, number>) {
    this.#statuses = statuses;
    const deadlines = new Deadlines(new FakeClock(), 500);
    const dial: Dial = (_ip, _port, events) => {
      const backend = new MemoryBackend(events, this.#random);
      this.#backends.push(backend);
      return backend;
    };
    const times = { idleMs: 60_000, maxIdle: 128, maxAgeMs: 3_600_000, maxRequests: 10_000 };
    // A pool for each case: what a backend received belongs to one case.
    const fresh = (): Forward => ({
      location: {
        path: '/',
        pathType: 'Prefix',
        matchPath: '',
        host: '',
        ingress: { namespace: 'default', name: 'all' },
        backend: {
          key: 'x',
          namespace: 'default',
          backend: { kind: 'resource', apiGroup: '', resourceKind: 'X', name: 'x' },
          upstream: { protocol: 'http', serviceAddress: false, byClient: false },
        },
        settings: readSettings(ingress({ name: 'all' }), DEFAULT_GLOBALS, DEFAULT_PREFIX),
        regex: undefined,
        secureBackend: undefined,
        canary: undefined,
        errorBackend: undefined,
        denied: undefined,
        plain: true,
      },
      transfer: { ...DEFAULT_GLOBALS.transfer, maxBody: 0 },
      targets: new RoundRobin([new EndpointPool('10.0.0.1', 80, dial, deadlines, times)], 0),
    });
    this.#forward = fresh();
    this.#fresh = fresh;
    this.#engine = createEngine(
      {
        origin: () => undefined,
        decide: () => this.#forward,
        record: (record) => {
          this.#records.push(record);
          this.#statuses[record.status] = (this.#statuses[record.status] ?? 0) + 1;
        },
      },
      DEFAULT_TIMES,
      deadlines,
      () => 0,
    );
  }

  readonly #fresh: () => Forward;

  async run(each: HttpCase, random: Random): Promise<void> {
    this.#records = [];
    this.#backends = [];
    this.#random = random;
    this.#forward = this.#fresh();
    const client = new MemoryClient();
    serveConnection(this.#engine, client, { remoteAddress: '192.0.2.7', remotePort: 1, localPort: 80, secure: false });
    try {
      for (const piece of each.pieces) {
        client.send(piece);
        if (random() < 0.5) await turns(4);
      }
      await turns(each.pieces.length > 20 ? 40 : 60);
      client.endInput();
      for (let turn = 0; turn < MAX_TURNS && this.#engine.connections.size > 0; turn++) await Promise.resolve();
      if (this.#engine.connections.size > 0) throw new Error('the connection did not end');
      this.#check(each.pieces.join(''), client.output);
    } catch (error) {
      throw new Error(
        `case ${JSON.stringify(each.pieces)}: ${error instanceof Error ? error.message : String(error)}`,
        { cause: error },
      );
    }
    for (const pool of this.#forward.targets.targets) {
      pool.destroy();
      if (pool.size > 0) throw new Error('a connection to the backend was left');
    }
  }

  #check(sent: string, output: string): void {
    const given = readRequests(sent);
    const may = given.open ? [...given.requests, given.open] : given.requests;
    const got: { readonly request: ReadRequest; readonly whole: boolean }[] = [];
    for (const backend of this.#backends) {
      const reading = readRequests(backend.received);
      if (reading.malformed) throw new Error(`the backend got what is no request: ${JSON.stringify(backend.received)}`);
      for (const request of reading.requests) got.push({ request, whole: true });
      if (reading.open) got.push({ request: reading.open, whole: false });
    }
    const forwarded = this.#records.filter((record) => record.endpoint !== undefined);
    if (got.length > forwarded.length)
      throw new Error(`${got.length} requests reached the backend, ${forwarded.length} were sent`);
    for (const { request, whole } of got) {
      // In order of the connections, which is that of the requests: one is answered before the next is sent.
      const origin = may.find((one) => one.method === request.method && (!whole || one.body === request.body));
      if (!origin)
        throw new Error(`the backend got a request that the client did not send: ${JSON.stringify(request)}`);
      if (request.fields.filter(([name]) => name === 'host').length !== 1) throw new Error('not one Host');
      if (request.fields.some(([name]) => /_|^(te|trailer|proxy|keep-alive)$/.test(name))) {
        throw new Error(`a field came through: ${JSON.stringify(request.fields)}`);
      }
    }
    if (got.length > may.length)
      throw new Error(`${got.length} requests reached the backend, the client sent ${may.length}`);
    const answers = output.match(/HTTP\/1\.1 [2-5][0-9][0-9] /g)?.length ?? 0;
    const complete = this.#records.filter((record) => record.status !== 499).length;
    if (answers < complete || answers > this.#records.length)
      throw new Error(`${answers} answers for ${complete} requests`);
  }
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await Promise.resolve();
}

/** The same through a whole plane and real sockets, with Node's own parser as the backend. */
async function fuzzSockets(cases: number, random: Random, statuses: Record<string, number>): Promise<void> {
  let reached = 0;
  let forwarded = 0;
  const backend = createServer((request, response) => {
    reached++;
    request.on('error', () => {});
    request.resume();
    request.on('end', () => response.end('ok'));
  });
  backend.on('clientError', (_error, socket) => void socket.destroy());
  await new Promise<void>((resolve) => backend.listen(0, '127.0.0.1', resolve));
  const log: Logger = {
    ...silentLogger,
    named: () => log,
    debug: (_message, fields) => {
      if (fields?.['endpoint'] !== undefined) forwarded++;
      const status = String(fields?.['status']);
      statuses[status] = (statuses[status] ?? 0) + 1;
    },
  };
  const plane = await startIngressPlane({
    http: { address: ip('127.0.0.1'), port: 0 },
    watchIngressWithoutClass: true,
    log,
    metrics: createMetrics(),
    graceMs: 1000,
    times: { lingerMs: 200 },
    tickMs: 50,
  });
  const endpoint = `127.0.0.1:${(backend.address() as AddressInfo).port}`;
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'all', defaultBackend: { service: 'echo' } })],
      services: [service({ name: 'echo', endpoints: [endpoint] })],
    }),
  );
  try {
    const port = plane.addresses.http?.port ?? 0;
    const queue = Array.from({ length: cases }, () => nextCase(random));
    const worker = async (): Promise<void> => {
      for (let next = queue.pop(); next; next = queue.pop()) await sendCase(port, next);
    };
    await Promise.all(Array.from({ length: 16 }, worker));
  } finally {
    await plane.stop();
    backend.closeAllConnections();
    await new Promise<void>((resolve) => void backend.close(() => resolve()));
  }
  if (reached > forwarded) throw new Error(`${reached} requests reached the backend, ${forwarded} were sent`);
}

function sendCase(port: number, each: HttpCase): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    const hung = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no end: ${JSON.stringify(each.pieces)}`));
    }, 10_000);
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(hung);
      resolve();
    });
    socket.resume();
    for (const piece of each.pieces) socket.write(piece, 'latin1');
    // The last answer first, then the end: an early end is the client having gone.
    setTimeout(() => void socket.end(), 3);
  });
}

function usedHeap(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage().heapUsed;
}
