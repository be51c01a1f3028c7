// The rules of RFC 9113 that a client may break, and what it costs it; flow control; the way a connection ends.

import { createServer } from 'node:http';
import * as fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { FLAG, FRAME, fieldBlock, rawHttp2, type RawHttp2 } from './http2-frames.ts';
import { exchange, httpPort, portOf, routeAll, startBackend, startPlane, startRawBackend } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

const WINDOW_UPDATE = 8;
const GET = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a.example'],
] as const;
const POST = [[':method', 'POST'], ...GET.slice(1)] as const;
const ALL = FLAG.endHeaders | FLAG.endStream;

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function setting(name: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([0, name]), number(value)]);
}

async function goAway(client: RawHttp2): Promise<number | undefined> {
  const found = () => client.frames.find(({ type, payload }) => type === FRAME.goAway && payload.readUInt32BE(4) > 0);
  await eventually('the end of the connection', () => found() !== undefined || client.closed());
  return found()?.payload.readUInt32BE(4);
}

const BROKEN: readonly (readonly [string, number, (client: RawHttp2) => void])[] = [
  ['DATA on stream 0', 1, ({ send }) => send(FRAME.data, 0, 0, Buffer.from('a'))],
  ['DATA on a stream that was never opened', 1, ({ send }) => send(FRAME.data, 0, 7, Buffer.from('a'))],
  ['a stream of the server’s numbers', 1, ({ send }) => send(FRAME.headers, ALL, 2, fieldBlock(GET))],
  ['a request on stream 0', 1, ({ send }) => send(FRAME.headers, ALL, 0, fieldBlock(GET))],
  ['a pushed request', 1, ({ send }) => send(5, FLAG.endHeaders, 1, fieldBlock(GET))],
  ['a continuation of nothing', 1, ({ send }) => send(FRAME.continuation, FLAG.endHeaders, 1)],
  [
    'a ping amid a field block',
    1,
    ({ send }) => {
      send(FRAME.headers, 0, 1, fieldBlock(GET));
      send(FRAME.ping, 0, 0, Buffer.alloc(8));
    },
  ],
  [
    'a continuation of another stream',
    1,
    ({ send }) => {
      send(FRAME.headers, 0, 1, fieldBlock(GET));
      send(FRAME.continuation, FLAG.endHeaders, 3, fieldBlock(GET));
    },
  ],
  ['a frame that is too large', 6, ({ send }) => send(FRAME.data, 0, 1, Buffer.alloc(16_385))],
  ['a ping of seven bytes', 6, ({ send }) => send(FRAME.ping, 0, 0, Buffer.alloc(7))],
  ['a ping on a stream', 1, ({ send }) => send(FRAME.ping, 0, 1, Buffer.alloc(8))],
  ['settings of five bytes', 6, ({ send }) => send(FRAME.settings, 0, 0, Buffer.alloc(5))],
  ['settings on a stream', 1, ({ send }) => send(FRAME.settings, 0, 1)],
  ['an acknowledgement with settings', 6, ({ send }) => send(FRAME.settings, 1, 0, setting(3, 1))],
  ['a window larger than there is', 3, ({ send }) => send(FRAME.settings, 0, 0, setting(4, 0x80000000))],
  ['a push that is neither on nor off', 1, ({ send }) => send(FRAME.settings, 0, 0, setting(2, 2))],
  ['frames smaller than they may be', 1, ({ send }) => send(FRAME.settings, 0, 0, setting(5, 100))],
  ['a reset of a stream that was never opened', 1, ({ send }) => send(FRAME.reset, 0, 1, number(8))],
  ['a reset of three bytes', 6, ({ send }) => send(FRAME.reset, 0, 1, Buffer.alloc(3))],
  ['no more window for the connection', 1, ({ send }) => send(WINDOW_UPDATE, 0, 0, number(0))],
  ['more window than there is', 3, ({ send }) => send(WINDOW_UPDATE, 0, 0, number(0x7fffffff))],
  ['window for a stream that was never opened', 1, ({ send }) => send(WINDOW_UPDATE, 0, 9, number(1))],
  ['a field block that is none', 9, ({ send }) => send(FRAME.headers, ALL, 1, Buffer.from([0x80]))],
  ['padding longer than its frame', 1, ({ send }) => send(FRAME.headers, ALL | 8, 1, Buffer.from([200, 0x82]))],
  [
    'padding longer than the data',
    1,
    ({ send }) => {
      send(FRAME.headers, FLAG.endHeaders, 1, fieldBlock(POST));
      send(FRAME.data, 8, 1, Buffer.from([3, 0, 0]));
    },
  ],
  [
    'more data than a stream may have under way',
    3,
    ({ send }) => {
      send(FRAME.headers, FLAG.endHeaders, 1, fieldBlock([...POST, ['expect', '100-continue']]));
      for (let i = 0; i < 1500; i++) send(FRAME.data, 0, 1, Buffer.alloc(16_384));
    },
  ],
  [
    'a flood of pings',
    11,
    ({ send }) => {
      for (let i = 0; i < 5000; i++) send(FRAME.ping, 0, 0, Buffer.alloc(8));
    },
  ],
  [
    'a flood of settings',
    11,
    ({ send }) => {
      for (let i = 0; i < 5000; i++) send(FRAME.settings, 0, 0);
    },
  ],
  [
    'a flood of priorities',
    11,
    ({ send }) => {
      for (let i = 0; i < 5000; i++) send(2, 0, 1, Buffer.alloc(5));
    },
  ],
  [
    'a flood of streams that the server is made to reset (CVE-2025-8671)',
    11,
    ({ send }) => {
      for (let i = 1; i < 2000; i += 2) {
        send(FRAME.headers, ALL, i, fieldBlock(GET));
        send(WINDOW_UPDATE, 0, i, number(0));
      }
    },
  ],
];

test.each(BROKEN)('%s ends the connection with error %i, and others are served on', async (_what, code, play) => {
  const plane = await startPlane();
  // It takes no body and gives no answer.
  const server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  routeAll(plane, `127.0.0.1:${portOf(server)}`);
  const client = await rawHttp2(httpPort(plane));
  play(client);
  const ended = await goAway(client);
  // A client that is still sending may lose what was said to a reset.
  expect([code, undefined]).toContain(ended);
  const other = await rawHttp2(httpPort(plane));
  other.send(FRAME.ping, 0, 0, Buffer.from('are you?'));
  await eventually('an answer to the ping', () =>
    other.frames.some(
      ({ type, flags, payload }) => type === FRAME.ping && flags === 1 && payload.toString() === 'are you?',
    ),
  );
});

test('a first frame that is no SETTINGS, and a preface that is none, end the connection', async () => {
  const plane = await startPlane();
  const port = httpPort(plane);
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
  const goAwayOf = (bytes: string): string => Buffer.from(bytes, 'latin1').subarray(-17).toString('hex');
  // The last frame says GOAWAY and PROTOCOL_ERROR.
  const ping = '\0\0\x08\x06\0\0\0\0\0abcdefgh';
  expect(goAwayOf(await exchange(port, `${preface}${ping}`))).toBe('0000080700000000000000000000000001');
  expect(await exchange(port, 'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n')).toMatch(/^HTTP\/1\.1 (400|505) /);
});

test('an answer comes as the client makes room for it, and waits without harm to other streams', async () => {
  const plane = await startPlane();
  const body = 'abcdefghij'.repeat(5000);
  const backend = await startBackend((request, response) => void response.end(request.url === '/small' ? 'ok' : body));
  routeAll(plane, backend.address);
  const client = await rawHttp2(httpPort(plane));
  const received = (stream: number): string =>
    client.frames
      .filter((frame) => frame.type === FRAME.data && frame.stream === stream)
      .map(({ payload }) => payload.toString('latin1'))
      .join('');
  const whole = (stream: number): boolean =>
    client.frames.some((frame) => frame.stream === stream && frame.type <= 1 && (frame.flags & FLAG.endStream) !== 0);
  client.send(FRAME.settings, 0, 0, setting(4, 10));
  client.send(FRAME.headers, ALL, 1, fieldBlock(GET));
  await eventually('the first ten bytes', () => received(1).length === 10);
  client.send(FRAME.headers, ALL, 3, fieldBlock([...GET.slice(0, 2), [':path', '/small'], GET[3]]));
  await eventually('the small answer', () => whole(3));
  expect(received(3)).toBe('ok');
  expect(whole(1)).toBe(false);
  client.send(WINDOW_UPDATE, 0, 1, number(5));
  await eventually('five more', () => received(1).length === 15);
  // Less than nothing, then room for all.
  client.send(FRAME.settings, 0, 0, setting(4, 0));
  client.send(WINDOW_UPDATE, 0, 0, number(100_000));
  client.send(FRAME.settings, 0, 0, setting(4, 100_000));
  await eventually('the rest', () => whole(1));
  expect(received(1)).toBe(body);
});

test('an upload goes on as the backend takes it, and its padding counts too', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const client = await rawHttp2(httpPort(plane));
  client.send(FRAME.settings, 0, 0, setting(4, 2_000_000));
  client.send(WINDOW_UPDATE, 0, 0, number(2_000_000));
  client.send(FRAME.headers, FLAG.endHeaders, 1, fieldBlock(POST));
  const piece = Buffer.concat([Buffer.from([99]), Buffer.alloc(8000, 97), Buffer.alloc(99)]);
  let room = 256 * 1024;
  const credit = (): number =>
    client.frames
      .filter(({ type, stream }) => type === WINDOW_UPDATE && stream === 1)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  for (let i = 0; i < 100; i++) {
    await eventually('room for the next piece', () => room + credit() >= piece.length);
    client.send(FRAME.data, 8, 1, piece);
    room -= piece.length;
  }
  client.send(FRAME.data, FLAG.endStream, 1);
  await eventually('the answer', () =>
    client.frames.some(({ type, flags, stream }) => type === FRAME.data && stream === 1 && flags === FLAG.endStream),
  );
  const text = client.frames
    .filter(({ type, stream }) => type === FRAME.data && stream === 1)
    .map(({ payload }) => payload.toString())
    .join('');
  expect(JSON.parse(text)).toMatchObject({ body: 'a'.repeat(800_000) });
});

test('a connection that has had its share of requests loses none of those that were under way (RFC 9113 section 6.8)', async () => {
  const plane = await startPlane({ configMap: 'default/settings', times: { lingerMs: 30_000 } });
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'all', defaultBackend: { service: 'echo' } })],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
      configMaps: [{ namespace: 'default', name: 'settings', data: new Map([['keep-alive-requests', '2']]) }],
    }),
  );
  const client = await rawHttp2(httpPort(plane));
  const away = (): readonly number[] =>
    client.frames.filter(({ type }) => type === FRAME.goAway).map(({ payload }) => payload.readUInt32BE(0));
  const ask = (stream: number): void => client.send(FRAME.headers, ALL, stream, fieldBlock(GET));
  ask(1);
  ask(3);
  await eventually('the first word of the end', () => away().length === 1);
  expect(away()).toEqual([0x7fffffff]);
  const ping = client.frames.find(({ type, flags }) => type === FRAME.ping && flags === 0);
  // Sent before the client knew.
  ask(5);
  const answered = (stream: number): boolean =>
    client.frames.some((frame) => frame.stream === stream && (frame.flags & FLAG.endStream) !== 0 && frame.type <= 1);
  await eventually('all three answers', () => [1, 3, 5].every(answered));
  client.send(FRAME.ping, 1, 0, ping?.payload);
  await eventually('the last word', () => away().length === 2);
  expect(away()[1]).toBe(5);
  ask(7);
  // Everything is answered: it ends, as soon as the client has.
  client.socket.end();
  await eventually('the end', () => client.closed());
  expect(client.frames.some(({ stream }) => stream === 7)).toBe(false);
  expect(backend.requests).toHaveLength(3);
});

test('a WebSocket on which nothing moves for too long is reset, and nothing is written into it', async () => {
  const plane = await startPlane({ times: { tunnelMs: 50 } });
  const address = await startRawBackend(
    () => 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
  );
  routeAll(plane, address);
  const client = await rawHttp2(httpPort(plane));
  const fields = [[':method', 'CONNECT'], [':protocol', 'websocket'], ...GET.slice(1)] as const;
  client.send(FRAME.headers, FLAG.endHeaders, 1, fieldBlock(fields));
  await eventually('the reset', () => client.frames.some(({ type, stream }) => type === FRAME.reset && stream === 1));
  const own = client.frames.filter(({ stream }) => stream === 1).map(({ type }) => type);
  expect(own).toEqual([FRAME.headers, FRAME.reset]);
});

test('streams beyond those that may be open at once are refused, so that they can be asked again', async () => {
  const plane = await startPlane();
  const backend = await startBackend(() => {});
  routeAll(plane, backend.address);
  const client = await rawHttp2(httpPort(plane));
  for (let stream = 1; stream < 2 * 130; stream += 2) client.send(FRAME.headers, ALL, stream, fieldBlock(GET));
  await eventually('two refusals', () => client.frames.filter(({ type }) => type === FRAME.reset).length === 2);
  expect(
    client.frames.filter(({ type }) => type === FRAME.reset).map(({ stream, payload }) => [stream, payload[3]]),
  ).toEqual([
    [257, 7],
    [259, 7],
  ]);
});

test('whatever frames come, the connection ends or goes on, and the others are served', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const bytes = fc.uint8Array({ maxLength: 40 });
  const frame = fc.record({
    type: fc.integer({ min: 0, max: 10 }),
    flags: fc.oneof(fc.constantFrom(0, 1, 4, 5, 8, 0x2d), fc.integer({ min: 0, max: 255 })),
    stream: fc.constantFrom(0, 1, 1, 3, 3, 5, 2, 7),
    payload: fc.oneof(
      bytes.map((part) => Buffer.from(part)),
      fc.constantFrom(fieldBlock(GET), fieldBlock(POST), number(1), number(0), Buffer.alloc(8), Buffer.alloc(0)),
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 30 }), async (frames) => {
      const client = await rawHttp2(httpPort(plane));
      for (const { type, flags, stream, payload } of frames) client.send(type, flags, stream, payload);
      client.socket.end();
      await eventually('the end', () => client.closed());
    }),
    { numRuns: 100 },
  );
  await eventually('all connections to be gone', () => plane.counts.active === 0);
  const other = await rawHttp2(httpPort(plane));
  other.send(FRAME.headers, ALL, 1, fieldBlock(GET));
  expect(await other.outcome(1)).toBe('headers');
});
