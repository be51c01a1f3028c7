// What clients see while the configuration changes all the time: keep-alive requests, HTTPS, HTTP/2, uploads and WebSockets, while endpoints,
// annotations, certificates and whole Ingresses change 20 times a second. Nothing that changes is dead, so nothing may fail.

import { createHash } from 'node:crypto';
import { Agent, createServer, request as httpRequest, type Server } from 'node:http';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { Agent as TlsAgent, request as httpsRequest } from 'node:https';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startIngressPlane, type IngressPlane } from '../../src/ingress/plane.ts';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import { ingress, service, snapshot, tlsSecret, type World } from '../ingress/world.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { ip } from '../support/values.ts';
import { setTimeout as pause } from 'node:timers/promises';

const HOSTS = 20;
const BACKENDS = 6;
const UPLOAD = 200_000;

export interface SoakResult {
  readonly changes: number;
  /** Answers that were right, by kind of client. */
  readonly answers: Readonly<Record<string, number>>;
  /** What was not, by kind and reason. */
  readonly errors: Readonly<Record<string, number>>;
  /** Megabytes of live objects after a third of the time, and at the end. */
  readonly heap: readonly [number, number];
}

export async function soak(seconds: number, changesPerSecond = 20): Promise<SoakResult> {
  const backends = await Promise.all(Array.from({ length: BACKENDS }, startBackend));
  const plane = await startIngressPlane({
    http: { address: ip('127.0.0.1'), port: 0 },
    https: { address: ip('127.0.0.1'), port: 0 },
    sslRedirect: false,
    watchIngressWithoutClass: true,
    log: silentLogger,
    metrics: createMetrics(),
  });
  const site = new ChangingSite(plane, backends.map(addressOf));
  const tally = new Tally();
  const start = performance.now();
  const end = start + seconds * 1000;
  const going = (): boolean => performance.now() < end;
  const clients = startClients(plane, tally, going);
  const third = performance.now() + (seconds * 1000) / 3;
  let early: number | undefined;
  while (going()) {
    // As many as are due: a machine that is busy does not make them fewer.
    const due = ((performance.now() - start) / 1000) * changesPerSecond;
    while (site.changes < due) site.change();
    if (early === undefined && performance.now() > third) early = liveMegabytes();
    await pause(1000 / changesPerSecond);
  }
  await Promise.all(clients);
  const late = liveMegabytes();
  await plane.stop();
  for (const backend of backends) {
    backend.closeAllConnections();
    backend.close();
  }
  return { changes: site.changes, answers: tally.answers, errors: tally.errors, heap: [early ?? late, late] };
}

/** One change after the other, of every kind in turn. */
class ChangingSite {
  changes = 0;
  readonly #plane: IngressPlane;
  readonly #addresses: readonly string[];
  #world: World;
  #snapshot: Snapshot;

  constructor(plane: IngressPlane, addresses: readonly string[]) {
    this.#plane = plane;
    this.#addresses = addresses;
    this.#world = {
      ingresses: this.#ingresses(0),
      services: this.#services(0),
      secrets: [pair(0)],
    };
    this.#snapshot = snapshot(this.#world);
    plane.update(this.#snapshot);
  }

  change(): void {
    const turn = ++this.changes;
    const kind = turn % 3;
    this.#world = {
      ...this.#world,
      ...(kind === 0 ? { services: this.#services(turn) } : {}),
      ...(kind === 1 ? { ingresses: this.#ingresses(turn) } : {}),
      ...(kind === 2 ? { secrets: [pair(turn)] } : {}),
    };
    this.#snapshot = snapshot(this.#world, this.#snapshot);
    this.#plane.update(this.#snapshot);
  }

  /** Two of the backends at a time, others each time. */
  #services(turn: number): NonNullable<World['services']> {
    const at = (i: number): string => this.#addresses[(turn + i) % this.#addresses.length] ?? '';
    return Array.from({ length: HOSTS }, (_, i) => service({ name: `s${i}`, endpoints: [at(i), at(i + 1)] }));
  }

  #ingresses(turn: number): NonNullable<World['ingresses']> {
    const steady = Array.from({ length: HOSTS }, (_, i) =>
      ingress({
        name: `i${i}`,
        createdAt: i,
        annotations: {
          'proxy-read-timeout': String(60 + (turn % 7)),
          ...(i % 2 === 0 ? { 'custom-http-errors': '599' } : {}),
        },
        tls: [{ hosts: [`h${i}.test`], secretName: 'cert' }],
        rules: [{ host: `h${i}.test`, paths: [{ service: `s${i}` }] }],
      }),
    );
    const passing = ingress({ name: `p${turn % 5}`, rules: [{ host: `p${turn}.test`, paths: [{ service: 's0' }] }] });
    return [...steady, passing];
  }
}

const PAIRS = [0, 1].map((i) => selfSigned(`soak ${i}`, ['*.test'], Date.now(), 1));

function pair(turn: number): NonNullable<World['secrets']>[number] {
  const { cert, key } = PAIRS[turn % 2] ?? { cert: '', key: '' };
  return tlsSecret('cert', cert, key);
}

class Tally {
  readonly answers: Record<string, number> = {};
  readonly errors: Record<string, number> = {};

  right(kind: string): void {
    this.answers[kind] = (this.answers[kind] ?? 0) + 1;
  }

  wrong(kind: string, reason: string): void {
    const key = `${kind}: ${reason}`;
    this.errors[key] = (this.errors[key] ?? 0) + 1;
  }
}

function startClients(plane: IngressPlane, tally: Tally, going: () => boolean): readonly Promise<void>[] {
  const http = plane.addresses.http?.port ?? 0;
  const https = plane.addresses.https?.port ?? 0;
  const plain = new Agent({ keepAlive: true, maxSockets: 4 });
  const secure = new TlsAgent({ keepAlive: true, maxSockets: 2, rejectUnauthorized: false, servername: 'h1.test' });
  const loop = async (kind: string, ask: (turn: number) => Promise<string | undefined>): Promise<void> => {
    for (let turn = 0; going(); turn++) {
      const problem = await ask(turn).catch((error: unknown) => String(error));
      if (problem === undefined) tally.right(kind);
      else tally.wrong(kind, problem);
    }
  };
  const host = (turn: number): string => `h${turn % HOSTS}.test`;
  const requests = [
    ...[0, 1, 2].map((shift) =>
      loop('keep-alive', (turn) => ask({ port: http, host: host(turn + shift * 7), agent: plain })),
    ),
    loop('https', () => ask({ port: https, host: 'h1.test', agent: secure, secure: true })),
    loop('https, new connections', () => ask({ port: https, host: 'h2.test', agent: false, secure: true })),
    loop('upload', (turn) => ask({ port: http, host: host(turn), agent: plain, body: UPLOAD })),
  ];
  const ended = Promise.all(requests).then(() => {
    plain.destroy();
    secure.destroy();
  });
  return [ended, overHttp2(https, tally, going), webSocket(http, tally, going)];
}

interface Question {
  readonly port: number;
  readonly host: string;
  readonly agent: Agent | TlsAgent | false;
  readonly secure?: boolean;
  /** Bytes, in chunks. */
  readonly body?: number;
}

/** Undefined when the answer is right. */
function ask({ port, host, agent, secure = false, body = 0 }: Question): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      agent,
      method: body > 0 ? 'POST' : 'GET',
      headers: { host },
      rejectUnauthorized: false,
      servername: host,
    };
    const sent = (secure ? httpsRequest : httpRequest)(options, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('error', reject);
      response.on('end', () =>
        resolve(
          response.statusCode === 200 && text === `${host} ${body}`
            ? undefined
            : `${response.statusCode} ${text.slice(0, 60)}`,
        ),
      );
    });
    sent.on('error', reject);
    for (let left = body; left > 0; left -= 10_000) sent.write(Buffer.alloc(Math.min(left, 10_000), 97));
    sent.end();
  });
}

/** One connection for all the time, four requests at once. */
async function overHttp2(port: number, tally: Tally, going: () => boolean): Promise<void> {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, servername: 'h3.test' });
  session.on('error', (error) => tally.wrong('h2', String(error)));
  let turns = 0;
  const worker = async (): Promise<void> => {
    while (going()) {
      // As every client: a connection that says GOAWAY after its 1,000 requests is replaced.
      if (session.closed || session.destroyed) return;
      turns++;
      const problem = await stream(session).catch((error: unknown) => String(error));
      if (problem === undefined) tally.right('h2');
      // Asked in the very moment in which GOAWAY came: Node's client did not send it, and every client asks it again (RFC 9113 section 8.7).
      else if (session.closed && problem.includes('NGHTTP2_REFUSED_STREAM')) return;
      else tally.wrong('h2', problem);
    }
  };
  await Promise.all(Array.from({ length: 4 }, worker));
  session.close();
  if (going() && turns > 0) await overHttp2(port, tally, going);
}

function stream(session: ClientHttp2Session): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const sent = session.request({ ':path': '/', ':authority': 'h3.test' });
    let status = 0;
    let text = '';
    sent.on('response', (headers) => (status = Number(headers[':status'])));
    sent.on('data', (chunk: Buffer) => (text += chunk.toString()));
    sent.on('error', reject);
    sent.on('end', () =>
      resolve(status === 200 && text === 'h3.test 0' ? undefined : `${status} ${text.slice(0, 60)}`),
    );
  });
}

/** One connection from the first to the last moment; what is sent comes back. */
async function webSocket(port: number, tally: Tally, going: () => boolean): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port });
  let received = '';
  let closed = false;
  socket.on('data', (chunk) => (received += chunk.toString('latin1')));
  socket.on('error', (error) => tally.wrong('websocket', String(error)));
  socket.on('close', () => (closed = true));
  socket.write(
    'GET / HTTP/1.1\r\nHost: h0.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n',
  );
  await wait(() => received.includes('\r\n\r\n') || closed);
  if (!received.startsWith('HTTP/1.1 101 ')) tally.wrong('websocket', received.slice(0, 30));
  for (let turn = 0; going() && !socket.destroyed; turn++) {
    received = '';
    socket.write(`message ${turn}.`);
    await wait(() => received.endsWith('.') || closed);
    if (received === `message ${turn}.`) tally.right('websocket');
    else tally.wrong('websocket', closed ? 'closed' : received.slice(0, 30));
    await pause(5);
  }
  if (closed && going()) tally.wrong('websocket', 'the connection was closed');
  socket.destroy();
}

async function startBackend(): Promise<Server> {
  const server = createServer((request, response) => {
    let bytes = 0;
    request.on('data', (chunk: Buffer) => (bytes += chunk.length));
    request.on('end', () => response.end(`${request.headers.host} ${bytes}`));
  });
  server.keepAliveTimeout = 600_000;
  server.on('upgrade', (request, socket: Socket) => {
    const accept = createHash('sha1')
      .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

function addressOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Live objects alone: what has become garbage is taken away first. */
function liveMegabytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage().heapUsed / 1024 / 1024;
}

async function wait(holds: () => boolean): Promise<void> {
  const end = performance.now() + 30_000;
  while (!holds() && performance.now() < end) await pause(1);
}

/** `npm run bench -- soak [--minutes N]`. */
export async function benchSoak(options: readonly string[]): Promise<number> {
  const at = options.indexOf('--minutes');
  const minutes = at < 0 ? 10 : Number(options[at + 1]);
  if (!(minutes > 0) || options.length > (at < 0 ? 0 : 2)) {
    process.stderr.write('usage: npm run bench -- soak [--minutes N]\n');
    return 2;
  }
  const { changes, answers, errors, heap } = await soak(minutes * 60);
  const rows = [
    ...Object.entries(answers).map(([kind, count]) => `${kind.padEnd(26)} ${count} right`),
    ...Object.entries(errors).map(([kind, count]) => `${kind.padEnd(26)} ${count} WRONG`),
    `${'changes'.padEnd(26)} ${changes}`,
    `${'live objects'.padEnd(26)} ${heap[0].toFixed(1)} MB after a third, ${heap[1].toFixed(1)} MB at the end`,
  ];
  process.stdout.write(`${rows.join('\n')}\n`);
  return Object.keys(errors).length === 0 ? 0 : 1;
}
