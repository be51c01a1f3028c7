// TCP as clients use it, well and badly (RFC 7766).

import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { frame, FrameReader } from '../../src/dns/wire/frame.ts';
import { parseMessage, type Message } from '../../src/dns/wire/message.ts';
import { parseName, type DnsName } from '../../src/dns/wire/name.ts';
import { encodeQuery } from '../../src/dns/wire/query.ts';
import { RR } from '../../src/dns/wire/types.ts';
import type { DnsPlaneOptions } from '../../src/dns/plane.ts';
import { until } from '../support/until.ts';
import { startFakeUpstream } from './fake-upstream.ts';
import { startWorld, type World } from './world.ts';

interface Client {
  readonly socket: Socket;
  readonly messages: readonly Message[];
  readonly state: { ended: boolean; closed: boolean };
}

const open: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function world(options: Partial<DnsPlaneOptions> = {}): Promise<World> {
  const started = await startWorld(options);
  open.push(() => started.plane.stop());
  return started;
}

async function client(to: World): Promise<Client> {
  const socket = connect({ host: to.udp.address, port: to.udp.port, allowHalfOpen: true });
  const frames = new FrameReader();
  const messages: Message[] = [];
  const state = { ended: false, closed: false };
  socket.on('data', (chunk: Buffer) => {
    for (const packet of frames.push(chunk)) {
      const message = parseMessage(packet);
      if (message) messages.push(message);
    }
  });
  socket.on('end', () => (state.ended = true));
  socket.on('close', () => (state.closed = true));
  socket.on('error', () => socket.destroy());
  open.push(() => void socket.destroy());
  await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
  return { socket, messages, state };
}

function question(id: number, text = 'web.shop.svc.cluster.local'): Buffer {
  return frame(encodeQuery({ id, flags: 0, name: parseName(text) as DnsName, type: RR.A }));
}

test('many questions in one write are all answered', async () => {
  const { socket, messages } = await client(await world());
  socket.write(Buffer.concat(Array.from({ length: 300 }, (_, id) => question(id))));
  await until(() => messages.length === 300);
  expect(new Set(messages.map((message) => message.id)).size).toBe(300);
  expect(messages.every((message) => message.answer.length === 1)).toBe(true);
});

test('a question that comes byte by byte is answered', async () => {
  const { socket, messages } = await client(await world());
  socket.setNoDelay(true);
  for (const byte of question(7)) {
    socket.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => messages.length > 0);
  expect(messages).toMatchObject([{ id: 7, rcode: 0 }]);
});

test('a client that closes its side after asking still gets its answers', async () => {
  const upstream = await startFakeUpstream(() => []);
  open.push(() => upstream.close());
  const started = await world({ upstream: { kind: 'servers', servers: [upstream.server] } });
  const { socket, messages, state } = await client(started);
  socket.end(Buffer.concat([question(1), question(2, 'www.example.test'), question(3)]));
  await until(() => messages.length === 2);
  expect(messages.map((message) => message.id)).toEqual([1, 3]);
  expect(state.ended).toBe(false);
  await upstream.close();
  await until(() => state.ended);
  expect(messages.map((message) => message.id)).toEqual([1, 3, 2]);
});

test('a malformed message is refused and the connection goes on', async () => {
  const { socket, messages } = await client(await world());
  const header = Buffer.from([0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  socket.write(Buffer.concat([frame(Buffer.from([1, 2])), frame(Buffer.alloc(0)), frame(header), question(1)]));
  await until(() => messages.length === 2);
  expect(messages.map((message) => [message.id, message.rcode])).toEqual([
    [9, 1],
    [1, 0],
  ]);
});

test('a silent connection is closed', async () => {
  const { state } = await client(await world({ idleMs: 50 }));
  await until(() => state.closed || state.ended);
  expect(state).toMatchObject({ ended: true });
});

test('a connection that trickles a message too slowly is closed', async () => {
  const { socket, state } = await client(await world({ idleMs: 200 }));
  const start = performance.now();
  socket.write(Buffer.from([0xff, 0xff]));
  await until(async () => {
    if (!socket.destroyed) socket.write(Buffer.from([0]));
    await new Promise((resolve) => setTimeout(resolve, 20));
    return state.closed || state.ended;
  });
  expect(performance.now() - start).toBeGreaterThan(150);
});

test('connections beyond the bound are closed, and room that is made is used', async () => {
  const started = await world({ maxConnections: 2 });
  const [first] = [await client(started), await client(started)];
  const third = await client(started);
  await until(() => third.state.closed || third.state.ended);
  first.socket.destroy();
  await until(async () => {
    const next = await client(started);
    next.socket.write(question(1));
    await until(() => next.messages.length === 1 || next.state.closed || next.state.ended);
    return next.messages.length === 1;
  });
  expect(started.plane.state()).toMatchObject({ tcpConnections: 2 });
});

test('a client that asks and never reads does not make the server grow', async () => {
  const started = await world();
  const { socket } = await client(started);
  socket.pause();
  const burst = Buffer.concat(Array.from({ length: 2000 }, (_, id) => question(id, 'crowd.shop.svc.cluster.local')));
  const before = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
  for (let i = 0; i < 50; i++) {
    socket.write(burst);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const after = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
  // 100,000 answers of 2.4 kB would be 240 MB; the client's own unsent questions are 5 MB.
  expect(after - before).toBeLessThan(60 << 20);
  const other = await client(started);
  other.socket.write(question(5));
  await until(() => other.messages.length === 1);
});
