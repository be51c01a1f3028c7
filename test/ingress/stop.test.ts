// What becomes of connections when the plane is stopped: what is under way ends well, and nothing else holds the stop.

import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { DEFAULT_TIMES } from '../../src/ingress/http/engine.ts';
import type { IngressPlane, IngressPlaneOptions } from '../../src/ingress/plane.ts';
import { FLAG, FRAME, fieldBlock, rawHttp2, type Frame, type RawHttp2 } from './http2-frames.ts';
import { eventually } from '../support/until.ts';
import { LOOPBACK, httpPort, portOf, raw, routeAll, startBackend, startPlane } from './plane.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
/** The first bytes of a record that announces a ClientHello of 256 bytes. */
const HELLO_BEGINS = Buffer.from([22, 3, 1, 1, 0, 1, 0, 0, 252]);
/** So long that a test which waits for it fails. */
const HOURS = 3_600_000;

function startSlow(options: Partial<IngressPlaneOptions> = {}): Promise<IngressPlane> {
  return startPlane({ https: { address: LOOPBACK, port: 0 }, graceMs: HOURS, ...options });
}

function httpsPort(plane: IngressPlane): number {
  return plane.addresses.https?.port ?? 0;
}

/** Once it resolves, every connection of before has been taken, too. */
async function overTls(plane: IngressPlane, socket?: Duplex): Promise<TLSSocket> {
  const to = socket ? { socket } : { host: '127.0.0.1', port: httpsPort(plane) };
  const client = connectTls({ ...to, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
  onTestFinished(() => void client.destroy());
  await new Promise<void>((resolve, reject) => {
    client.once('secureConnect', resolve);
    client.once('error', reject);
  });
  return client;
}

function allOf(socket: Duplex): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  return new Promise((resolve) => {
    for (const event of ['end', 'close']) socket.once(event, () => resolve(text));
  });
}

test('a client that leaves amid its TLS handshake is let go at once', async () => {
  const plane = await startSlow();
  const client = connect({ host: '127.0.0.1', port: httpsPort(plane), allowHalfOpen: true });
  const closed = allOf(client.on('error', () => {}));
  client.end(HELLO_BEGINS);
  expect(await closed).toBe('');
});

test('connections that never finish their TLS handshake, or never say anything, do not hold the stop', async () => {
  const times = { ...DEFAULT_TIMES, firstRequestMs: 50 };
  const plane = await startSlow({ times });
  const silent = await raw(httpsPort(plane));
  const begun = await raw(httpsPort(plane));
  begun.socket.write(HELLO_BEGINS);
  const left = await raw(httpsPort(plane));
  left.socket.write(HELLO_BEGINS);
  left.socket.destroy();
  const unused = await overTls(plane);
  const plain = await raw(httpPort(plane));
  await eventually('the connections', () => plane.counts.active === 2);
  await plane.stop();
  expect(await Promise.all([silent.ended(), begun.ended(), plain.ended()])).not.toContain(undefined);
  await eventually('the end of the TLS connection', () => unused.closed || unused.readableEnded);
});

test('a client that is amid its TLS handshake when the stop comes gets its answer', async () => {
  const plane = await startSlow({ times: { ...DEFAULT_TIMES, firstRequestMs: HOURS } });
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const tcp = connect({ host: '127.0.0.1', port: httpsPort(plane) });
  const { half, answered, release } = heldBack(tcp);
  const secured = overTls(plane, half);
  await answered;
  const stopped = plane.stop();
  release();
  const client = await secured;
  const answer = allOf(client);
  client.write(GET);
  expect(await answer).toMatch(/^HTTP\/1\.1 200 [^]*Connection: close\r\n/);
  tcp.end();
  await stopped;
});

test('a request whose head has begun when the stop comes is answered, an idle kept connection ends at once', async () => {
  const plane = await startSlow({ times: { ...DEFAULT_TIMES, firstRequestMs: HOURS } });
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const [idle, begun, fresh] = [await raw(httpPort(plane)), await raw(httpPort(plane)), await raw(httpPort(plane))];
  for (const connection of [idle, begun]) {
    connection.send(GET);
    await connection.until(/"body":""\}$/);
  }
  begun.send('GET /late HTTP/1.1\r\nHos');
  // What a client has sent is read before what another one sends later.
  idle.send(GET);
  await idle.until(/"body":""\}[^]*"body":""\}$/);
  await eventually('the connections', () => plane.counts.active === 3);
  const stopped = plane.stop();
  expect(await idle.ended()).toBe('end');
  begun.send('t: a\r\n\r\n');
  await begun.until(/Connection: close\r\n[^]*"url":"\/late"/);
  fresh.send(GET);
  await fresh.until(/Connection: close\r\n[^]*"body":""\}$/);
  expect([await begun.ended(), await fresh.ended()]).toEqual(['end', 'end']);
  await stopped;
});

test('an idle connection of HTTP/2 is told that it ends (GOAWAY), and what was asked meanwhile is answered', async () => {
  const plane = await startSlow({ times: { ...DEFAULT_TIMES, firstRequestMs: HOURS, lingerMs: HOURS } });
  routeAll(plane, (await startBackend()).address);
  const clients = [await rawHttp2(httpPort(plane)), await rawHttp2(httpPort(plane))];
  const seen = async (what: string, type: number): Promise<readonly Buffer[]> => {
    const found = (frames: readonly Frame[]) => frames.filter((frame) => frame.type === type && frame.flags === 0);
    await eventually(what, () => clients.every(({ frames }) => found(frames).length > 0));
    return clients.flatMap(({ frames }) => found(frames)[0]?.payload ?? []);
  };
  await seen('the settings', FRAME.settings);
  const stopped = plane.stop();
  await seen('GOAWAY', FRAME.goAway);
  const pings = await seen('a ping', FRAME.ping);
  const [, late] = clients;
  late?.send(
    FRAME.headers,
    FLAG.endHeaders | FLAG.endStream,
    1,
    fieldBlock([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', 'a'],
      [':path', '/'],
    ]),
  );
  expect(await answerOf(late, 1)).toBe('answered');
  for (const [i, client] of clients.entries()) client.send(FRAME.ping, 1, 0, pings[i]);
  await eventually('the ends', () => clients.every(({ closed }) => closed()));
  await stopped;
});

async function answerOf(client: RawHttp2 | undefined, stream: number): Promise<string> {
  const ended = () => client?.frames.some((frame) => frame.stream === stream && (frame.flags & FLAG.endStream) !== 0);
  await eventually('an answer', () => ended() === true || client?.closed() === true);
  return ended() === true ? 'answered' : 'closed';
}

test('a WebSocket holds the stop until it ends, and no longer than worker-shutdown-timeout', async () => {
  const plane = await startPlane({ graceMs: 200 });
  const backend = await startBackend();
  const upgraded: Socket[] = [];
  backend.server.on('upgrade', (_request, socket: Socket) => {
    upgraded.push(socket);
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.on('data', (chunk) => void socket.write(chunk));
  });
  onTestFinished(() => {
    for (const socket of upgraded) socket.destroy();
  });
  routeAll(plane, backend.address);
  const client = await raw(httpPort(plane));
  client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await client.until(/^HTTP\/1\.1 101 /);
  const started = performance.now();
  const stopped = plane.stop();
  client.send('still here');
  await client.until(/still here$/);
  await client.ended();
  await stopped;
  expect(performance.now() - started).toBeGreaterThan(190);
  expect(portOf(backend.server)).toBeGreaterThan(0);
});

/** A TLS client's side of a connection that sends its first piece, and the rest once it is released. */
function heldBack(tcp: Socket): { half: Duplex; answered: Promise<void>; release: () => void } {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let first = true;
  const half = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const isFirst = first;
      first = false;
      const send = async (): Promise<void> => {
        if (!isFirst) await released;
        tcp.write(chunk, done);
      };
      void send();
    },
    final(done) {
      tcp.end(() => done());
    },
  });
  const answered = new Promise<void>((resolve) => tcp.once('data', () => resolve()));
  tcp.on('data', (chunk) => half.push(chunk));
  tcp.on('end', () => half.push(null));
  tcp.on('error', (error) => half.destroy(error));
  onTestFinished(() => void tcp.destroy());
  return { half, answered, release };
}
