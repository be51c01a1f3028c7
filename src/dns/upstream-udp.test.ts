import { expect, test } from 'vitest';
import { FakeClock } from '../system/clock-fake.ts';
import type { Udp, UdpFlow } from '../system/udp.ts';
import type { Exchange } from './upstream.ts';
import { UpstreamUdp, type UpstreamUdpOptions } from './upstream-udp.ts';
import { encodeQuery } from './wire/query.ts';
import { parseName, type DnsName } from './wire/name.ts';
import { RR } from './wire/types.ts';
import { ip, port } from '../../test/support/values.ts';

/** One socket that was opened, as the server at the other end sees it. */
interface Seen {
  readonly sent: Buffer[];
  readonly hear: (data: Uint8Array) => void;
  readonly fail: (code: string) => void;
  closed: boolean;
}

function world(options: Partial<UpstreamUdpOptions> = {}) {
  const sockets: Seen[] = [];
  const clock = new FakeClock();
  const stop = new AbortController();
  let last = 0;
  let reused = 0;
  const udp: Udp = {
    listen: async () => ({ kind: 'failed', code: 'EACCES' }),
    open: ({ onMessage, onError }): UdpFlow => {
      const seen: Seen = { sent: [], hear: onMessage, fail: onError, closed: false };
      sockets.push(seen);
      return { send: (data) => void seen.sent.push(Buffer.from(data)), close: () => void (seen.closed = true) };
    },
  };
  const upstream = new UpstreamUdp({
    server: { address: ip('192.0.2.53'), port: port(53) },
    clock,
    stopped: stop.signal,
    source: undefined,
    maxIdle: 0,
    maxAgeMs: 0,
    expireMs: 10_000,
    // Any sequence will do that visits all of them.
    randomId: () => (last = (last * 75 + 74) % 65_537) % 65_536,
    onReuse: (again) => void (reused += again ? 1 : 0),
    udp,
    ...options,
  });
  const ask = (id: number): Promise<Exchange> => upstream.ask(question(id), 2000);
  /** Asks so many at once, and answers all. */
  const burst = async (count: number): Promise<void> => {
    const told = Array.from({ length: count }, (_, id) => ask(id));
    for (const socket of sockets) answerLast(socket);
    for (const one of await Promise.all(told)) expect(one.kind).toBe('reply');
  };
  return { sockets, clock, stop, ask, burst, reused: () => reused };
}

function question(id: number): Buffer {
  return encodeQuery({ id, flags: 0, name: parseName('www.example.test') as DnsName, type: RR.A });
}

function replyTo(packet: Buffer): Buffer {
  const reply = Buffer.from(packet);
  reply[2] = 0x80;
  return reply;
}

function answerLast(socket: Seen): void {
  const last = socket.sent.at(-1);
  if (last && !socket.closed) socket.hear(replyTo(last));
}

test('questions one after the other have a port each', async () => {
  const { sockets, burst, reused } = world();
  for (let i = 0; i < 60; i++) await burst(1);
  expect(sockets).toHaveLength(60);
  expect(sockets.every(({ sent }) => sent.length === 1)).toBe(true);
  expect(reused()).toBe(0);
});

test('many share ports, one question at a time on each and a bounded number in all', async () => {
  const { sockets, burst, reused } = world();
  for (let i = 0; i < 100; i++) await burst(100);
  expect(sockets.reduce((sum, { sent }) => sum + sent.length, 0)).toBe(10_000);
  expect(Math.max(...sockets.map(({ sent }) => sent.length))).toBe(32);
  // Each is worth 32 questions at the most; the fewer there are the less it costs.
  expect(sockets.length).toBeGreaterThan(10_000 / 32);
  expect(sockets.length).toBeLessThan(5_000);
  expect(reused()).toBe(10_000 - sockets.length);
  // A choice is left to make, and none is left open that has had its questions.
  expect(sockets.filter(({ closed }) => !closed).length).toBeGreaterThanOrEqual(63);
  expect(sockets.filter(({ sent, closed }) => sent.length === 32 && !closed)).toEqual([]);
});

test('a port is gone after the time that a question without an answer keeps its own', async () => {
  const { sockets, clock, burst } = world();
  await burst(100);
  await clock.advance(1999);
  await burst(1);
  expect(sockets).toHaveLength(100);
  await clock.advance(1);
  const before = sockets.length;
  await burst(80);
  expect(sockets).toHaveLength(before + 80);
  await clock.advance(4000);
  expect(sockets.filter(({ closed }) => !closed)).toEqual([]);
});

test('one whose question got no answer, or a refusal, is not used again', async () => {
  const { sockets, clock, ask, burst } = world();
  await burst(70);
  const silent = ask(7);
  const at = sockets.findIndex(({ sent }) => sent.length === 2);
  const late = sockets[at]?.sent[1];
  if (!late) throw new Error('no socket was used again');
  await clock.advance(2000);
  expect(await silent).toEqual({ kind: 'failed', code: 'TIMEOUT' });
  expect(sockets[at]?.closed).toBe(true);
  const refused = ask(8);
  sockets.at(-1)?.fail('ECONNREFUSED');
  expect(await refused).toEqual({ kind: 'failed', code: 'ECONNREFUSED' });
  expect(sockets.at(-1)?.closed).toBe(true);
});

test('what answers another question, or comes twice, is not the answer', async () => {
  const { sockets, ask, burst } = world();
  await burst(70);
  const before = sockets.map(({ sent }) => sent[0]);
  const told = ask(9);
  const socket = sockets.find(({ sent }) => sent.length === 2);
  const first = before[socket ? sockets.indexOf(socket) : 0];
  if (!socket || !first) throw new Error('no socket was used again');
  const forged = replyTo(question(10));
  for (const data of [replyTo(first), forged, forged.subarray(0, 5)]) socket.hear(data);
  answerLast(socket);
  expect(await told).toMatchObject({ kind: 'reply', packet: replyTo(question(9)) });
  answerLast(socket);
});

test('what the Corefile says of connections that are kept holds for these', async () => {
  const few = world({ maxIdle: 10 });
  await few.burst(100);
  expect(few.sockets.filter(({ closed }) => !closed)).toHaveLength(10);
  const short = world({ expireMs: 500 });
  await short.burst(100);
  await short.clock.advance(1000);
  expect(short.sockets.filter(({ closed }) => !closed)).toEqual([]);
});

test('at the end everything is closed, and who waits is told', async () => {
  const { sockets, stop, ask, burst } = world();
  await burst(5);
  const waiting = ask(1);
  stop.abort();
  expect(await waiting).toEqual({ kind: 'failed', code: 'ABORTED' });
  expect(await ask(2)).toEqual({ kind: 'failed', code: 'ABORTED' });
  expect(sockets.filter(({ closed }) => !closed)).toEqual([]);
});
