// Two sockets joined, with real ones at both ends: how ends, resets and slow readers of one side come out at the other.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { FakeClock } from '../../src/system/clock-fake.ts';
import { systemClock, type Clock } from '../../src/system/clock.ts';
import { Joint } from '../../src/system/tcp-joint.ts';
import { systemTcp, type TcpSocket } from '../../src/system/tcp.ts';
import { until } from '../support/until.ts';
import { ip } from '../support/values.ts';

/** What one end saw of its connection. */
interface Seen {
  readonly socket: Socket;
  text: string;
  ended: boolean;
  /** Undefined until it is closed. */
  how: 'end' | 'reset' | undefined;
}

interface Rig {
  readonly dial: () => Promise<Seen>;
  /** The servers' ends, in the order in which they came. */
  readonly served: readonly Seen[];
  /** Of the relay in the middle. */
  readonly pairs: readonly { readonly client: TcpSocket; readonly upstream: TcpSocket }[];
  readonly open: () => number;
}

function watch(socket: Socket): Seen {
  const seen: Seen = { socket, text: '', ended: false, how: undefined };
  let error: string | undefined;
  socket.on('data', (data) => (seen.text += data.toString('latin1')));
  socket.on('end', () => (seen.ended = true));
  socket.on('error', (cause: NodeJS.ErrnoException) => (error = cause.code));
  socket.on('close', () => (seen.how = error === undefined ? 'end' : 'reset'));
  onTestFinished(() => void socket.destroy());
  return seen;
}

async function rig(
  serve: (socket: Socket, seen: Seen) => void,
  options: { readonly clock?: Clock; readonly idleMs?: number } = {},
): Promise<Rig> {
  const { clock = systemClock, ...rest } = options;
  const address = ip('127.0.0.1');
  const served: Seen[] = [];
  const pairs: { client: TcpSocket; upstream: TcpSocket }[] = [];
  let open = 0;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const seen = watch(socket);
    served.push(seen);
    serve(socket, seen);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const bound = server.address();
  const port = typeof bound === 'object' && bound ? bound.port : 0;
  const onConnection = async (client: TcpSocket): Promise<void> => {
    client.on('error', () => {});
    const joint = new Joint(client, { clock, ...rest });
    const { signal } = new AbortController();
    const result = await systemTcp.connect({ address, port, onBytes: joint.onBytes, signal });
    if (result.kind === 'failed') throw new Error(result.code);
    open += 2;
    for (const socket of [client, result.socket]) socket.once('close', () => open--);
    pairs.push({ client, upstream: result.socket });
    joint.join(result.socket);
  };
  const listening = await systemTcp.listen({ address, port: 0, onConnection: (socket) => void onConnection(socket) });
  if (listening.kind === 'failed') throw new Error(listening.code);
  onTestFinished(() => listening.listener.close());
  const dial = async (): Promise<Seen> => {
    const socket = connect({ host: '127.0.0.1', port: listening.listener.port, allowHalfOpen: true });
    const seen = watch(socket);
    await once(socket, 'connect');
    return seen;
  };
  return { dial, served, pairs, open: () => open };
}

/** Of the only connection. */
async function joined({ dial, served, pairs }: Rig) {
  const client = await dial();
  await until(() => served.length === 1 && pairs.length === 1);
  const [server] = served;
  const [pair] = pairs;
  if (!server || !pair) throw new Error('not joined');
  return { client, server, pair };
}

/** Resolves once the number is more than none and stays the same for a while. */
async function comesToRest(read: () => number): Promise<void> {
  let before = 0;
  let still = 0;
  await until(() => {
    const now = read();
    still = now > 0 && now === before ? still + 1 : 0;
    before = now;
    return still > 10;
  });
}

test('either side may end while the other goes on', async () => {
  for (const first of ['client', 'server'] as const) {
    const world = await rig(() => {});
    const sides = await joined(world);
    const [early, late] = first === 'client' ? [sides.client, sides.server] : [sides.server, sides.client];
    early.socket.end('done');
    await until(() => late.ended);
    expect(late.text).toBe('done');
    for (const part of ['still ', 'talking']) {
      const before = early.text;
      late.socket.write(part);
      await until(() => early.text === before + part);
    }
    late.socket.end();
    await until(() => early.how === 'end' && late.how === 'end' && world.open() === 0);
  }
});

test('a client that says nothing and ends before there is an endpoint is told what the server says', async () => {
  const world = await rig((socket) => socket.write('hello'));
  const client = await world.dial();
  client.socket.end();
  await until(() => world.served[0]?.ended === true);
  world.served[0]?.socket.end(' and bye');
  await until(() => client.how === 'end' && world.open() === 0);
  expect(client.text).toBe('hello and bye');
});

test('a reset of one side is a reset at the other, behind what was said before it', async () => {
  for (const first of ['client', 'server'] as const) {
    for (const words of ['', 'last words']) {
      const world = await rig(() => {});
      const sides = await joined(world);
      const [rude, other] = first === 'client' ? [sides.client, sides.server] : [sides.server, sides.client];
      if (words === '') rude.socket.resetAndDestroy();
      else rude.socket.write(words, () => rude.socket.resetAndDestroy());
      await until(() => other.how !== undefined && world.open() === 0);
      expect([first, other.how, other.text, other.ended]).toEqual([first, 'reset', words, false]);
    }
  }
});

test('what a side has said is heard although the other writes to it when it has gone', async () => {
  for (const first of ['client', 'server'] as const) {
    for (const leave of ['resetAndDestroy', 'destroy'] as const) {
      const world = await rig(() => {});
      const sides = await joined(world);
      const [rude, other] = first === 'client' ? [sides.client, sides.server] : [sides.server, sides.client];
      // Stands still while both come: then the write is tried before the words are read.
      const middle = first === 'client' ? sides.pair.client : sides.pair.upstream;
      middle.pause();
      rude.socket.pause();
      rude.socket.write('last words', () => rude.socket[leave]());
      await until(() => rude.how !== undefined);
      other.socket.write('hello?');
      await until(() => other.socket.destroyed || (other.socket.write('more'), middle.bytesWritten > 6));
      middle.resume();
      await until(() => other.text === 'last words');
      await until(() => other.ended || other.how !== undefined);
      expect([first, leave, other.ended ? 'end' : other.how]).toEqual([
        first,
        leave,
        leave === 'destroy' ? 'end' : 'reset',
      ]);
      other.socket.end();
      await until(() => world.open() === 0);
    }
  }
});

test('what waits in a side that is closed from within is passed on once', async () => {
  const world = await rig(() => {});
  const { client, server, pair } = await joined(world);
  pair.client.pause();
  client.socket.write('last words');
  await until(() => pair.client.readableLength === 10);
  pair.client.destroy();
  await until(() => server.how !== undefined && world.open() === 0);
  expect(server.text).toBe('last words');
});

test('an answer is whole for a client that goes on sending, which is told by a reset some time after the end', async () => {
  const clock = new FakeClock();
  const world = await rig((socket) => socket.once('data', () => socket.end('no', () => socket.destroy())), { clock });
  const { client } = await joined(world);
  const sending = setInterval(() => client.socket.write('x'.repeat(1000)), 1);
  onTestFinished(() => clearInterval(sending));
  await until(() => client.ended);
  expect(client.text).toBe('no');
  await until(() => world.open() === 1);
  await clock.advance(4_999);
  expect(client.how).toBeUndefined();
  await clock.advance(1);
  await until(() => client.how === 'reset' && world.open() === 0);
});

test('a side that does not read holds the other back, and little waits in between', async () => {
  for (const first of ['client', 'server'] as const) {
    const world = await rig(() => {});
    const { client, server, pair } = await joined(world);
    const [reader, writer] = first === 'client' ? [client, server] : [server, client];
    const middle = first === 'client' ? pair.client : pair.upstream;
    const size = 32 << 20;
    const sent = randomBytes(size);
    reader.socket.removeAllListeners('data');
    reader.socket.pause();
    writer.socket.end(sent);
    await comesToRest(() => middle.bytesWritten);
    expect(middle.bytesWritten).toBeLessThan(size);
    expect(pair.client.writableLength + pair.upstream.writableLength).toBeLessThanOrEqual(1 << 20);
    expect(pair.client.readableLength + pair.upstream.readableLength).toBeLessThanOrEqual(1 << 20);
    const hash = createHash('sha256');
    reader.socket.on('data', (data) => hash.update(data));
    reader.socket.resume();
    await until(() => reader.ended);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(sent).digest('hex'));
    reader.socket.end();
    await until(() => world.open() === 0);
  }
});

test('a reader that takes nothing of what the other left behind is reset after a minute', async () => {
  const clock = new FakeClock();
  const world = await rig((socket) => socket.write(Buffer.alloc(64 << 20)), { clock });
  const { client, pair } = await joined(world);
  client.socket.pause();
  await comesToRest(() => pair.client.writableLength);
  pair.upstream.destroy();
  await until(() => pair.upstream.closed);
  await clock.advance(59_000);
  expect(pair.client.destroyed).toBe(false);
  // The system may still have taken some of it, which counts as reading.
  await until(() => clock.advance(2_000).then(() => world.open() === 0));
});

test('a side that is reset while the other takes nothing is found gone, and the other reset after a minute', async () => {
  for (const first of ['client', 'server'] as const) {
    for (const how of ['open', 'half-closed'] as const) {
      const clock = new FakeClock();
      const world = await rig(() => {}, { clock });
      const { client, server, pair } = await joined(world);
      const [rude, reader] = first === 'client' ? [client, server] : [server, client];
      const middle = first === 'client' ? pair.upstream : pair.client;
      if (how === 'half-closed') reader.socket.end();
      await until(() => how === 'open' || rude.ended);
      reader.socket.pause();
      rude.socket.write(Buffer.alloc(32 << 20));
      await comesToRest(() => middle.bytesWritten);
      rude.socket.resetAndDestroy();
      await clock.advance(59_000);
      expect([first, how, pair.client.destroyed && pair.upstream.destroyed]).toEqual([first, how, false]);
      // The system may still have taken some of it, which counts as reading.
      await until(() => clock.advance(10_000).then(() => world.open() === 0));
    }
  }
});

test('what a side has said before its reset is heard by one that reads late', async () => {
  const clock = new FakeClock();
  const world = await rig((socket) => socket.write(Buffer.alloc(32 << 20)), { clock });
  const { client, server, pair } = await joined(world);
  client.socket.pause();
  await comesToRest(() => pair.client.bytesWritten);
  server.socket.resetAndDestroy();
  await until(() => clock.advance(10_000).then(() => pair.upstream.destroyed));
  const { bytesRead } = pair.upstream;
  client.socket.resume();
  await until(() => client.text.length >= bytesRead);
  await until(() => clock.advance(100).then(() => client.how !== undefined && world.open() === 0));
  expect([client.text.length, client.how]).toEqual([bytesRead, 'reset']);
});

test('an answer that was sent to its end is whole for one that reads it minutes later', async () => {
  const size = 8 << 20;
  const clock = new FakeClock();
  const world = await rig((socket) => socket.end(Buffer.alloc(size)), { clock });
  const { client, pair } = await joined(world);
  client.socket.pause();
  client.socket.end();
  await comesToRest(() => pair.client.bytesWritten);
  for (let minutes = 0; minutes < 10; minutes++) await clock.advance(60_000);
  expect([client.ended, client.how]).toEqual([false, undefined]);
  client.socket.resume();
  await until(() => client.ended && world.open() === 0);
  expect([client.text.length, client.how]).toEqual([size, 'end']);
});

test('both sides are closed when nothing has come from either for the idle time', async () => {
  const clock = new FakeClock();
  const world = await rig(() => {}, { clock, idleMs: 1000 });
  const { client, server, pair } = await joined(world);
  await clock.advance(900);
  client.socket.write('x');
  await until(() => pair.client.bytesRead === 1);
  await clock.advance(1000);
  expect(client.how).toBeUndefined();
  await clock.advance(1000);
  await until(() => world.open() === 0);
  await until(() => client.ended && server.ended);
});

type Leave = (socket: Socket) => void;
const WAYS: Readonly<Record<string, Leave>> = {
  end: (socket) => void socket.end('bye'),
  'end and close': (socket) => void socket.end('bye', () => socket.destroy()),
  close: (socket) => void socket.destroy(),
  reset: (socket) => void socket.resetAndDestroy(),
};

test('nothing stays open, however the two sides leave and whoever is first', async () => {
  for (const [clientWay, leaveClient] of Object.entries(WAYS)) {
    for (const [serverWay, leaveServer] of Object.entries(WAYS)) {
      const world = await rig((socket) => socket.write('hello'));
      for (let order = 0; order < 4; order++) {
        const client = await world.dial();
        await until(() => world.served.length === order + 1 && client.text === 'hello');
        const server = world.served[order];
        if (!server) throw new Error('not served');
        client.socket.write('question');
        const steps = [() => leaveClient(client.socket), () => leaveServer(server.socket)];
        if (order % 2 === 1) steps.reverse();
        steps[0]?.();
        if (order >= 2) await new Promise((resolve) => setImmediate(resolve));
        steps[1]?.();
      }
      await until(
        () => world.open() === 0,
        30_000,
        () => `${world.open()} open after client: ${clientWay}, server: ${serverWay}`,
      );
      expect(world.pairs).toHaveLength(4);
    }
  }
});
