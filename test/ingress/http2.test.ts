import { connect as connectHttp2, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { systemExec } from '../../src/system/exec.ts';
import { FLAG, FRAME, fieldBlock, rawHttp2 } from './http2-frames.ts';
import { LOOPBACK, httpPort, portOf, routeAll, startBackend, startPlane, startRawBackend } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

interface Answer {
  readonly headers: Readonly<Record<string, string | string[] | number | undefined>>;
  readonly body: string;
  readonly trailers: Readonly<Record<string, unknown>> | undefined;
}

function session(port: number): ClientHttp2Session {
  const client = connectHttp2(`http://127.0.0.1:${port}`);
  client.on('error', () => {});
  onTestFinished(() => client.destroy());
  return client;
}

function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let headers: Answer['headers'] = {};
    let trailers: Answer['trailers'];
    let body = '';
    stream.on('response', (fields) => (headers = { ...fields }));
    stream.on('trailers', (fields) => (trailers = { ...fields }));
    stream.on('data', (chunk: Buffer) => (body += chunk.toString('latin1')));
    stream.on('end', () => resolve({ headers, body, trailers }));
    stream.on('error', reject);
  });
}

test('many requests at once on one connection without TLS, each with its own answer, fields and forwarding fields', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const client = session(httpPort(plane));
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      answerOf(
        client.request({
          ':path': `/item/${i}?q=${i}`,
          ':authority': 'shop.example',
          cookie: ['a=1', 'b=2'],
          'x-own': 'yes',
          'x-forwarded-for': '6.6.6.6',
        }),
      ),
    ),
  );
  for (const [i, { headers, body }] of answers.entries()) {
    expect(headers[':status']).toBe(200);
    expect(JSON.parse(body)).toMatchObject({
      url: `/item/${i}?q=${i}`,
      headers: {
        host: 'shop.example',
        cookie: 'a=1; b=2',
        'x-own': 'yes',
        'x-forwarded-for': '127.0.0.1',
        'x-original-forwarded-for': '6.6.6.6',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': 'shop.example',
      },
    });
  }
  expect(backend.requests).toHaveLength(100);
});

test('curl speaks HTTP/2 over TLS by ALPN, and with prior knowledge without TLS', async () => {
  const plane = await startPlane({ https: { address: LOOPBACK, port: 0 } });
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const ask = async (...words: string[]) => {
    const { stdout, stderr } = await systemExec.run('curl', [
      '-sSk',
      '-m',
      '10',
      '-w',
      '\n%{http_version} %{http_code}',
      ...words,
    ]);
    expect(stderr).toBe('');
    return stdout;
  };
  const tls = await ask(`https://127.0.0.1:${plane.addresses.https?.port}/tls`);
  expect(tls).toMatch(/\n2 200$/);
  expect(tls).toContain('"x-forwarded-proto":"https"');
  expect(await ask('--http2-prior-knowledge', `http://127.0.0.1:${httpPort(plane)}/plain`)).toMatch(/\n2 200$/);
  expect(await ask('--http1.1', `https://127.0.0.1:${plane.addresses.https?.port}/`)).toMatch(/\n1\.1 200$/);
  expect(await ask('--http2-prior-knowledge', '-I', `http://127.0.0.1:${httpPort(plane)}/plain`)).toMatch(/\n2 200$/);
  // The old upgrade is not taken, and not passed on either.
  expect(await ask('--http2', `http://127.0.0.1:${httpPort(plane)}/`)).toMatch(/\n1\.1 200$/);
});

test('bodies stream both ways with and without a length, and a client that does not read makes the backend wait', async () => {
  const plane = await startPlane();
  let taken = 0;
  const big = Buffer.alloc(8 * 1024 * 1024, 'x');
  const backend = await startBackend((request, response) => {
    if (request.url === '/slow') {
      const more = (): void => {
        while (taken < 64 * 1024 * 1024) {
          taken += 65536;
          if (!response.write(big.subarray(0, 65536))) {
            response.once('drain', more);
            return;
          }
        }
        response.end();
      };
      more();
      return;
    }
    let length = 0;
    request.on('data', (chunk: Buffer) => (length += chunk.length));
    request.on('end', () => {
      response.writeHead(200, {
        'x-framing': request.headers['content-length'] ?? request.headers['transfer-encoding'],
      });
      response.write(String(length));
      response.end(big);
    });
  });
  routeAll(plane, backend.address);
  const client = session(httpPort(plane));
  for (const [fields, framing] of [
    [{}, 'chunked'],
    [{ 'content-length': big.length }, String(big.length)],
  ] as const) {
    const stream = client.request({ ':method': 'POST', ':path': '/', ...fields });
    stream.end(big);
    const { headers, body } = await answerOf(stream);
    expect(headers['x-framing']).toBe(framing);
    expect(body.length).toBe(big.length + String(big.length).length);
    expect(body.startsWith(String(big.length))).toBe(true);
  }
  const slow = client.request({ ':path': '/slow' });
  await new Promise((resolve) => slow.once('response', resolve));
  let before = -1;
  await eventually('the backend to wait', () => {
    const still = taken === before;
    before = taken;
    return still && taken > 0;
  });
  expect(taken).toBeLessThan(64 * 1024 * 1024);
  slow.close(constants.NGHTTP2_CANCEL);
});

test('a request that the client takes back ends at the backend, and a backend that breaks off resets the stream', async () => {
  const plane = await startPlane();
  const backend = await startBackend((request, response) => {
    if (request.url === '/hang') return;
    response.write('part');
    setImmediate(() => response.destroy());
  });
  routeAll(plane, backend.address);
  const client = session(httpPort(plane));
  const hanging = client.request({ ':path': '/hang' });
  hanging.on('error', () => {});
  await eventually('the request to arrive', () => backend.requests.length === 1);
  hanging.close(constants.NGHTTP2_CANCEL);
  await eventually('its connection to end', () => backend.counts.open === 0);
  const cut = client.request({ ':path': '/cut' });
  await expect(answerOf(cut)).rejects.toThrow(/INTERNAL_ERROR/);
});

test('trailers reach a client that takes them, without those that frame a message', async () => {
  const plane = await startPlane();
  const address = await startRawBackend(
    () =>
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\nContent-Length: 5\r\nx-b: c\r\n\r\n',
  );
  routeAll(plane, address);
  const client = session(httpPort(plane));
  const { body, trailers } = await answerOf(client.request({ ':path': '/', te: 'trailers' }));
  expect(body).toBe('hi');
  expect(trailers).toMatchObject({ 'grpc-status': '0', 'x-b': 'c' });
  expect(trailers).not.toHaveProperty('content-length');
  expect((await answerOf(client.request({ ':path': '/' }))).trailers).toBeUndefined();
});

test('a WebSocket over HTTP/2 (RFC 8441) is one over HTTP/1.1 for the backend', async () => {
  const heads: string[] = [];
  const server = createTcpServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.once('data', (head) => {
      heads.push(head.toString('latin1'));
      if (head.includes('/refused')) {
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno');
        return;
      }
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello ',
      );
      socket.pipe(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const plane = await startPlane();
  routeAll(plane, `127.0.0.1:${portOf(server)}`);
  const client = session(httpPort(plane));
  await new Promise((resolve) => client.once('remoteSettings', resolve));
  const open = (path: string) =>
    client.request(
      {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':path': path,
        ':scheme': 'http',
        ':authority': 'ws.example',
        'sec-websocket-version': '13',
        'sec-websocket-protocol': 'chat',
      },
      { endStream: false },
    );
  const socket = open('/chat');
  let received = '';
  let status: unknown;
  socket.on('response', (headers) => {
    status = headers[':status'];
    expect(headers).toMatchObject({ 'sec-websocket-protocol': 'chat' });
    expect(headers).not.toHaveProperty('sec-websocket-accept');
  });
  socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
  socket.write('world');
  await eventually('the echo', () => received === 'hello world');
  expect(status).toBe(200);
  expect(heads[0]).toMatch(/^GET \/chat HTTP\/1\.1\r\nHost: ws\.example\r\n/);
  expect(heads[0]).toMatch(/\r\nConnection: upgrade\r\n/i);
  expect(heads[0]).toMatch(/\r\nUpgrade: websocket\r\n/i);
  expect(heads[0]).toMatch(/\r\nSec-WebSocket-Key: [A-Za-z0-9+/]{22}==\r\n/);
  socket.end();
  await new Promise((resolve) => socket.once('close', resolve));
  const refused = await answerOf(open('/refused'));
  expect(refused.headers[':status']).toBe(502);
});

const GET: readonly (readonly [string, string])[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a.example'],
];

function without(name: string): readonly (readonly [string, string])[] {
  return GET.filter(([field]) => field !== name);
}

const MALFORMED: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ['an upper-case name', [...GET, ['X-A', 'b']]],
  ['transfer-encoding', [...GET, ['transfer-encoding', 'chunked']]],
  ['connection', [...GET, ['connection', 'close']]],
  ['upgrade', [...GET, ['upgrade', 'websocket']]],
  ['te other than trailers', [...GET, ['te', 'gzip']]],
  ['a line break in the path', [...without(':path'), [':path', '/ HTTP/1.1\r\nx-a: b']]],
  ['a space in the path', [...without(':path'), [':path', '/a b']]],
  ['a fragment in the path', [...without(':path'), [':path', '/a#b']]],
  ['a path without a slash', [...without(':path'), [':path', 'a']]],
  ['an absolute path', [...without(':path'), [':path', 'http://b.example/']]],
  ['an empty path', [...without(':path'), [':path', '']]],
  ['no path', without(':path')],
  ['no method', without(':method')],
  ['no scheme', without(':scheme')],
  ['another scheme', [...without(':scheme'), [':scheme', 'ftp']]],
  ['a space in the method', [...without(':method'), [':method', 'GET /admin HTTP/1.1\r\nx: ']]],
  ['two paths', [...GET, [':path', '/b']]],
  ['an unknown pseudo-header field', [...GET, [':x', 'b']]],
  ['a pseudo-header field behind a field', [...without(':path'), ['x-a', 'b'], [':path', '/']]],
  ['no host at all', without(':authority')],
  ['userinfo in the authority', [...without(':authority'), [':authority', 'u@a.example']]],
  ['a slash in the authority', [...without(':authority'), [':authority', 'a.example/b']]],
  ['Host that differs from the authority', [...GET, ['host', 'b.example']]],
  ['two lengths', [...GET, ['content-length', '0'], ['content-length', '1']]],
  ['a length with a sign', [...GET, ['content-length', '+0']]],
  ['a length with zeros in front', [...GET, ['content-length', '00']]],
  [
    'a plain CONNECT',
    [
      [':method', 'CONNECT'],
      [':authority', 'a.example:80'],
    ],
  ],
  ['CONNECT to another protocol', [...without(':method'), [':method', 'CONNECT'], [':protocol', 'connect-udp']]],
  ['a path above the root', [...without(':path'), [':path', '/../admin']]],
  ['two credentials', [...GET, ['authorization', 'a'], ['authorization', 'b']]],
];

test.each(MALFORMED)('%s never reaches the backend', async (_name, fields) => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const client = await rawHttp2(httpPort(plane));
  client.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 1, fieldBlock(fields));
  await client.outcome(1);
  const heads = client.frames.filter(({ type, stream }) => type === FRAME.headers && stream === 1);
  // `:status: 400` is field 12 of the static table.
  expect(heads.map(({ payload }) => payload[0])).toEqual(heads.map(() => 0x8c));
  expect(backend.requests).toHaveLength(0);
});

/** The library passes over such a field and reads the rest. */
const PASSED_OVER: typeof MALFORMED = [
  ['a line break in a value', [...GET, ['x-a', 'b\r\nTransfer-Encoding: chunked']]],
  ['a bare line feed in a value', [...GET, ['x-a', 'b\nx-c: d']]],
  ['a second request in a value', [...GET, ['x-a', 'b\r\n\r\nGET /admin HTTP/1.1\r\nHost: a.example']]],
  ['a NUL in a value', [...GET, ['x-a', 'b\0c']]],
  ['a colon in a name', [...GET, ['x-a: b', 'c']]],
  ['a line break in a name', [...GET, ['x-a\r\nx-b', 'c']]],
  ['an empty name', [...GET, ['', 'b']]],
  ['a space in a name', [...GET, ['x a', 'b']]],
];

test.each(PASSED_OVER)('of a field with %s the backend gets nothing', async (_name, fields) => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const client = await rawHttp2(httpPort(plane));
  client.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 1, fieldBlock(fields));
  await client.outcome(1);
  for (const { url, headers } of backend.requests) {
    expect(url).toBe('/');
    expect(
      Object.keys(headers).filter(
        (name) => !/^(host|connection|x-(request-id|real-ip|scheme|forwarded-.*))$/.test(name),
      ),
    ).toEqual([]);
  }
  expect(backend.requests.length).toBeLessThan(2);
});

test('a body that is not as long as its Content-Length is no request for the backend', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  for (const [length, body] of [
    ['3', 'GET /admin HTTP/1.1'],
    ['30', 'short'],
  ] as const) {
    const client = await rawHttp2(httpPort(plane));
    const fields = [...without(':method'), [':method', 'POST'], ['content-length', length]] as const;
    client.send(FRAME.headers, FLAG.endHeaders, 1, fieldBlock(fields));
    client.send(FRAME.data, FLAG.endStream, 1, Buffer.from(body));
    await eventually('a refusal', () =>
      client.frames.some(({ type, payload }) => type === FRAME.reset || type === FRAME.goAway || payload[0] === 0x8c),
    );
  }
  expect(backend.requests.filter(({ url }) => url !== '/')).toHaveLength(0);
});

test('floods of resets, of continuations and of empty frames end the connection, too many fields are 431, and others are served on', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const port = httpPort(plane);
  const over = async (client: Awaited<ReturnType<typeof rawHttp2>>): Promise<void> => {
    await eventually(
      'the end of the connection',
      () => client.closed() || client.frames.some(({ type }) => type === FRAME.goAway),
    );
  };
  const resets = await rawHttp2(port);
  for (let stream = 1; stream < 4000 && !resets.closed(); stream += 2) {
    resets.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, stream, fieldBlock(GET));
    resets.send(FRAME.reset, 0, stream, Buffer.from([0, 0, 0, 8]));
  }
  await over(resets);
  expect(backend.requests.length).toBeLessThan(500);

  const continuations = await rawHttp2(port);
  continuations.send(FRAME.headers, FLAG.endStream, 1, fieldBlock(GET));
  for (let i = 0; i < 2000 && !continuations.closed(); i++) {
    continuations.send(FRAME.continuation, 0, 1, fieldBlock([[`x-${i}`, 'y'.repeat(1000)]]));
  }
  await over(continuations);

  const fields = await rawHttp2(port);
  fields.send(
    FRAME.headers,
    FLAG.endHeaders | FLAG.endStream,
    1,
    fieldBlock([...GET, ...Array.from({ length: 300 }, (_, i): [string, string] => [`x-${i}`, 'y'])]),
  );
  expect(await fields.outcome(1)).toBe('headers');
  // `:status` by its name's index, as a literal.
  expect(fields.frames.find(({ type }) => type === FRAME.headers)?.payload.subarray(0, 5)).toEqual(
    Buffer.from('\x08\x03431', 'latin1'),
  );

  const empty = await rawHttp2(port);
  empty.send(FRAME.headers, FLAG.endHeaders, 1, fieldBlock([...without(':method'), [':method', 'POST']]));
  for (let i = 0; i < 5000 && !empty.closed(); i++) empty.send(FRAME.data, 0, 1);
  await over(empty);

  const { headers } = await answerOf(session(port).request({ ':path': '/' }));
  expect(headers[':status']).toBe(200);
});

test('a client opens no more streams at once than it may', async () => {
  const plane = await startPlane();
  routeAll(plane);
  const client = session(httpPort(plane));
  const settings = await new Promise<{
    maxConcurrentStreams?: number | undefined;
    enableConnectProtocol?: boolean | undefined;
  }>((resolve) => client.once('remoteSettings', resolve));
  expect(settings).toMatchObject({ maxConcurrentStreams: 128, enableConnectProtocol: true });
});

test('stop() lets streams under way finish and takes no more', async () => {
  const plane = await startPlane({ graceMs: 5000 });
  let finish: (() => void) | undefined;
  const backend = await startBackend((_request, response) => {
    finish = () => void response.end('done');
  });
  routeAll(plane, backend.address);
  const client = session(httpPort(plane));
  const answer = answerOf(client.request({ ':path': '/' }));
  await eventually('the request to arrive', () => finish !== undefined);
  const goAway = new Promise((resolve) => client.once('goaway', resolve));
  const stopped = plane.stop();
  await goAway;
  finish?.();
  expect((await answer).body).toBe('done');
  await stopped;
});

test('limits, redirects and answers of our own are the same over HTTP/2', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [
        ingress({
          name: 'a',
          rules: [{ host: 'a.example', paths: [{ path: '/', service: 'echo' }] }],
          annotations: { 'proxy-body-size': '10', 'enable-cors': 'true' },
        }),
      ],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
    }),
  );
  const client = session(httpPort(plane));
  const ask = (fields: Record<string, string>, body?: string): Promise<Answer> => {
    const stream = client.request({ ':authority': 'a.example', ':path': '/', ...fields });
    stream.on('error', () => {});
    if (body !== undefined) stream.write(body);
    stream.end();
    return answerOf(stream);
  };
  expect((await ask({ ':authority': 'b.example' })).headers[':status']).toBe(404);
  expect((await ask({ ':method': 'POST' }, 'x'.repeat(100))).headers[':status']).toBe(413);
  expect((await ask({ ':method': 'POST' }, 'x'.repeat(10))).headers[':status']).toBe(200);
  const preflight = await ask({ ':method': 'OPTIONS', origin: 'https://o.example' });
  expect(preflight.headers).toMatchObject({ ':status': 204, 'access-control-allow-origin': '*' });
});

test('a TLS client that offers only other protocols gets none of ours', async () => {
  const plane = await startPlane({ https: { address: LOOPBACK, port: 0 } });
  const outcome = await new Promise<string>((resolve) => {
    const socket = connectTls({
      host: '127.0.0.1',
      port: plane.addresses.https?.port ?? 0,
      rejectUnauthorized: false,
      ALPNProtocols: ['spdy/1'],
    });
    onTestFinished(() => void socket.destroy());
    socket.on('secureConnect', () => resolve(String(socket.alpnProtocol)));
    socket.on('error', () => resolve('refused'));
  });
  expect(outcome).toBe('refused');
});

test('a client that ends its connection without a word is let go at once', async () => {
  const plane = await startPlane({ https: { address: LOOPBACK, port: 0 } });
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const plain = await rawHttp2(httpPort(plane));
  plain.send(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 1, fieldBlock(GET));
  expect(await plain.outcome(1)).toBe('headers');
  const secure = connectTls({
    host: '127.0.0.1',
    port: plane.addresses.https?.port ?? 0,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  });
  onTestFinished(() => void secure.destroy());
  secure.resume();
  await new Promise((resolve) => secure.once('secureConnect', resolve));
  secure.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
  await eventually('both connections', () => plane.counts.active === 2);
  plain.socket.end();
  secure.end();
  await eventually('both to be gone', () => plane.counts.active === 0);
});
