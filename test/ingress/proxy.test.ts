import { createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { exchange, httpPort, portOf, raw, routeAll, startBackend, startPlane } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

const CLOSE = 'Connection: close\r\n';

function bodyOf(text: string): { url: string; method: string; body: string; headers: Record<string, string> } {
  return JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as ReturnType<typeof bodyOf>;
}

test('answers 503 before the first Snapshot, 404 for a host that no rule names, and forwards what a rule names', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  const port = httpPort(plane);
  expect(plane.ready).toBe(false);
  expect(await exchange(port, `GET / HTTP/1.1\r\nHost: a.example\r\n${CLOSE}\r\n`)).toMatch(/^HTTP\/1\.1 503 /);
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ path: '/tea', service: 'tea' }] }] })],
      services: [service({ name: 'tea', endpoints: [backend.address] })],
    }),
  );
  expect(plane.ready).toBe(true);
  expect(await exchange(port, `GET / HTTP/1.1\r\nHost: b.example\r\n${CLOSE}\r\n`)).toMatch(/^HTTP\/1\.1 404 /);
  expect(await exchange(port, `GET /coffee HTTP/1.1\r\nHost: a.example\r\n${CLOSE}\r\n`)).toMatch(/^HTTP\/1\.1 404 /);
  const answer = await exchange(port, `GET /tea/green?x=1 HTTP/1.1\r\nHost: A.example:80\r\n${CLOSE}\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(bodyOf(answer)).toMatchObject({ method: 'GET', url: '/tea/green?x=1' });
});

test('forwarding headers are made here, hop-by-hop and underscore headers stay behind, and a sane request id is kept', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const port = httpPort(plane);
  const answer = await exchange(
    port,
    'GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\n' +
      'Forwarded: for=6.6.6.6\r\nProxy: http://evil\r\nX_Real_IP: 6.6.6.6\r\nX-Custom: kept\r\nX-Request-ID: abc-1\r\nTE: trailers\r\n' +
      'Keep-Alive: timeout=5\r\nX-Secret: gone\r\nConnection: close, x-secret\r\n\r\n',
  );
  const { headers } = bodyOf(answer);
  expect(headers).toEqual({
    host: 'a.example',
    'x-custom': 'kept',
    'x-request-id': 'abc-1',
    'x-real-ip': '127.0.0.1',
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': 'a.example',
    'x-forwarded-port': String(port),
    'x-forwarded-proto': 'http',
    'x-forwarded-scheme': 'http',
    'x-scheme': 'http',
    'x-original-forwarded-for': '6.6.6.6',
  });
});

test('a request id that logs could not carry is replaced by 128 random bits', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const answer = await exchange(httpPort(plane), `GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: a b;c\r\n${CLOSE}\r\n`);
  expect(bodyOf(answer).headers['x-request-id']).toMatch(/^[0-9a-f]{32}$/);
});

test('what is matched is what the backend gets: dot segments, doubled slashes and needless escapes are resolved', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', rules: [{ paths: [{ path: '/public', service: 'echo' }] }] })],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
    }),
  );
  const ask = (target: string) => exchange(httpPort(plane), `GET ${target} HTTP/1.1\r\nHost: a\r\n${CLOSE}\r\n`);
  expect(bodyOf(await ask('/x/../public//%61?q=%2e%2e/..')).url).toBe('/public/a?q=%2e%2e/..');
  expect(await ask('/public/../private')).toMatch(/^HTTP\/1\.1 404 /);
  expect(await ask('/public/%2e%2e/private')).toMatch(/^HTTP\/1\.1 404 /);
  expect(await ask('/public/..%2fprivate')).toMatch(/^HTTP\/1\.1 400 /);
  expect(await ask('/public/%00')).toMatch(/^HTTP\/1\.1 400 /);
  expect(await ask('/../public')).toMatch(/^HTTP\/1\.1 400 /);
});

test('bodies with a length and in chunks arrive whole, and pipelined requests are answered in order', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.send(
    'POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello' +
      'POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: gone\r\n\r\n' +
      'GET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
  );
  await connection.ended();
  const answers = connection.text().split('HTTP/1.1 200 OK').slice(1);
  expect(answers.map((text) => bodyOf(text)).map(({ url, body }) => [url, body])).toEqual([
    ['/1', 'hello'],
    ['/2', 'abcdefg'],
    ['/3', ''],
    ['/4', ''],
  ]);
  expect(backend.requests[1]?.headers).not.toHaveProperty('x-trailer');
});

test('a request that comes byte by byte is the same request', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  const bytes =
    'POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n';
  for (const byte of bytes) {
    connection.send(byte);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await connection.ended();
  expect(bodyOf(connection.text())).toMatchObject({ url: '/slow', body: 'hello' });
});

test('connections to a backend are kept and used again', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  for (let i = 1; i <= 20; i++) {
    connection.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually('the answer', () => connection.text().split('HTTP/1.1 200').length === i + 1);
  }
  expect(backend.counts.accepted).toBe(1);
});

test('a kept connection that the backend ends is not used, and one that dies under a GET is tried once more', async () => {
  const plane = await startPlane();
  let served = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    let first = true;
    socket.on('data', () => {
      if (!first) {
        // Dies with the second request on each connection, before it says anything.
        socket.destroy();
        return;
      }
      first = false;
      served++;
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  routeAll(plane, `127.0.0.1:${portOf(server)}`);
  const ask = (method: string) =>
    exchange(httpPort(plane), `${method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  expect(await ask('GET')).toMatch(/^HTTP\/1\.1 200 /);
  const get = await exchange(httpPort(plane), 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  expect(get).toMatch(/^HTTP\/1\.1 200 /);
  expect(served).toBe(2);
  expect(await exchange(httpPort(plane), 'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')).toMatch(
    /^HTTP\/1\.1 502 /,
  );
});

test('requests take the endpoints in turn, a dead endpoint is passed over, and with none alive the answer is 502', async () => {
  const plane = await startPlane();
  const backends = [await startBackend(), await startBackend(), await startBackend()];
  routeAll(plane, ...backends.map((backend) => backend.address), '127.0.0.1:1');
  const connection = await raw(httpPort(plane));
  for (let i = 1; i <= 24; i++) {
    connection.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually('the answer', () => connection.text().split('HTTP/1.1 200').length === i + 1);
  }
  const counts = backends.map((backend) => backend.requests.length);
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(24);
  expect(Math.min(...counts)).toBeGreaterThanOrEqual(6);
  routeAll(plane, '127.0.0.1:1');
  expect(await exchange(httpPort(plane), `GET / HTTP/1.1\r\nHost: a\r\n${CLOSE}\r\n`)).toMatch(/^HTTP\/1\.1 502 /);
  routeAll(plane);
  expect(await exchange(httpPort(plane), `GET / HTTP/1.1\r\nHost: a\r\n${CLOSE}\r\n`)).toMatch(/^HTTP\/1\.1 503 /);
});

test('under load a removed endpoint gets no request after the update, and no client sees an error', async () => {
  const plane = await startPlane();
  const [stays, goes] = [await startBackend(), await startBackend()];
  routeAll(plane, stays.address, goes.address);
  const load = { running: true };
  const statuses: number[] = [];
  const client = async (): Promise<void> => {
    while (load.running) {
      const response = await fetch(`http://127.0.0.1:${httpPort(plane)}/`);
      await response.arrayBuffer();
      statuses.push(response.status);
    }
  };
  const clients = Array.from({ length: 8 }, client);
  await eventually('traffic on both', () => stays.requests.length > 50 && goes.requests.length > 50);
  routeAll(plane, stays.address);
  // What was on its way is through once the backend has no open connection left.
  await eventually('the last connections to it to end', () => goes.counts.open === 0);
  const atRemoval = goes.requests.length;
  const before = stays.requests.length;
  await eventually('traffic on the one that stays', () => stays.requests.length > before + 100);
  load.running = false;
  await Promise.all(clients);
  expect(goes.requests.length).toBe(atRemoval);
  expect(new Set(statuses)).toEqual(new Set([200]));
});
