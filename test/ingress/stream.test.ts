import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { exchange, httpPort, portOf, raw, routeAll, startBackend, startPlane, startRawBackend } from './plane.ts';
import { eventually } from '../support/until.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
const GET_AND_CLOSE = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

test('an answer streams: the client has its beginning while the backend is still writing', async () => {
  const plane = await startPlane();
  let finish: (() => void) | undefined;
  const backend = await startBackend((_request, response) => {
    response.write('first');
    finish = () => void response.end('last');
  });
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.send(GET);
  expect(await connection.until(/first/)).not.toMatch(/last/);
  finish?.();
  expect(await connection.until(/last\r\n0\r\n\r\n$/)).toMatch(/Transfer-Encoding: chunked/);
});

test('a request streams: the backend has the beginning of a body whose end is not yet sent, and answers before it', async () => {
  const plane = await startPlane();
  const backend = await startBackend((request, response) => {
    request.on('data', (chunk: Buffer) => response.write(`got ${chunk.toString()};`));
    request.on('end', () => response.end());
  });
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n');
  await connection.until(/got one;/);
  connection.send('3\r\ntwo\r\n0\r\n\r\n');
  await connection.until(/got two;\r\n0\r\n\r\n$/);
  expect(await connection.ended()).toBe('end');
});

test('20 MB each way arrive unchanged, and a client that does not read makes the backend wait', async () => {
  const plane = await startPlane();
  const size = 20 * 1024 * 1024;
  const block = Buffer.alloc(64 * 1024, 'fairlead');
  let written = 0;
  const backend = await startBackend((request, response) => {
    if (request.method === 'POST') {
      const hash = createHash('sha256');
      request.on('data', (chunk: Buffer) => hash.update(chunk));
      request.on('end', () => response.end(hash.digest('hex')));
      return;
    }
    response.writeHead(200, { 'content-length': size });
    const write = (): void => {
      while (written < size) {
        written += block.length;
        if (!response.write(block)) {
          response.once('drain', write);
          return;
        }
      }
      response.end();
    };
    write();
  });
  routeAll(plane, backend.address);
  const url = `http://127.0.0.1:${httpPort(plane)}/`;
  const body = Buffer.alloc(size, 'upload');
  const answer = await (await fetch(url, { method: 'POST', body })).text();
  expect(answer).toBe(createHash('sha256').update(body).digest('hex'));

  const connection = await raw(httpPort(plane));
  connection.socket.pause();
  connection.send(GET_AND_CLOSE);
  await eventually('the backend to write', () => written > 0);
  let last = -1;
  await eventually('the backend to wait', () => {
    const still = written === last;
    last = written;
    return still && written < size;
  });
  expect(written).toBeLessThan(size);
  connection.socket.resume();
  await connection.ended();
  expect(connection.text().length - connection.text().indexOf('\r\n\r\n') - 4).toBe(size);
});

test('a client that reads slowly gets the whole of an answer that ends its connection', async () => {
  const plane = await startPlane({ times: { lingerMs: 40 } });
  const size = 8 * 1024 * 1024;
  const backend = await startBackend((_request, response) => void response.end(Buffer.alloc(size, 'x')));
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.socket.pause();
  connection.send(GET_AND_CLOSE);
  await eventually('the answer to be under way', () => backend.requests.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 200));
  connection.socket.resume();
  expect(await connection.ended()).toBe('end');
  expect(connection.text().length - connection.text().indexOf('\r\n\r\n') - 4).toBe(size);
});

test('a client that goes away ends the request to the backend', async () => {
  const plane = await startPlane();
  const backend = await startBackend(() => {});
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.send(GET);
  await eventually('the request', () => backend.requests.length === 1);
  expect(backend.counts.open).toBe(1);
  connection.socket.destroy();
  await eventually('the end of it', () => backend.counts.open === 0);
});

test('a client that goes away in the middle of its body does not make a whole request', async () => {
  const plane = await startPlane();
  let request: IncomingMessage | undefined;
  const backend = await startBackend((incoming) => {
    request = incoming;
    incoming.resume();
    incoming.on('error', () => {});
  });
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf');
  await eventually('the request', () => request !== undefined);
  connection.socket.end();
  await eventually('the end of it', () => backend.counts.open === 0);
  expect(request?.complete).toBe(false);
});

test.each([
  ['of known length', 'Content-Length: 100\r\n\r\nhalf', ''],
  ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n', ''],
  ['in chunks with a malformed one', 'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n', 'zz\r\n'],
])('a backend that breaks off a body %s makes a reset, never a clean end', async (_title, begins, breaks) => {
  const plane = await startPlane();
  let backendSocket: Socket | undefined;
  const backend = await startRawBackend((_head, socket) => {
    backendSocket = socket;
    return `HTTP/1.1 200 OK\r\n${begins}`;
  });
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  connection.send(GET);
  await connection.until(/half/);
  if (breaks === '') backendSocket?.destroy();
  else backendSocket?.write(breaks);
  expect(await connection.ended()).toBe('reset');
  expect(connection.text()).not.toMatch(/\r\n0\r\n\r\n$/);
});

test('a body that ends with the connection is chunks for HTTP/1.1 and ends with the connection for HTTP/1.0', async () => {
  const plane = await startPlane();
  const backend = await startRawBackend((_head, socket) => {
    socket.end('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello');
    return undefined;
  });
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  connection.send(GET);
  expect(await connection.until(/\r\n0\r\n\r\n$/)).toMatch(/Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n/);
  const old = await exchange(httpPort(plane), 'GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n');
  expect(old).toMatch(/Connection: close\r\n\r\nhello$/);
  expect(old).not.toMatch(/chunked/i);
});

test('HTTP/1.0 ends after an answer unless it asks for more, and then keeps the connection', async () => {
  const plane = await startPlane();
  const backend = await startBackend(
    (_request, response) => void response.writeHead(200, { 'content-length': 2 }).end('ok'),
  );
  routeAll(plane, backend.address);
  expect(await exchange(httpPort(plane), 'GET / HTTP/1.0\r\nHost: a\r\n\r\n')).toMatch(/Connection: close\r\n\r\nok$/);
  const kept = await raw(httpPort(plane));
  kept.send('GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n');
  await kept.until(/Connection: keep-alive\r\n\r\nok$/);
  kept.send('GET / HTTP/1.0\r\nHost: a\r\n\r\n');
  await kept.ended();
});

test('HEAD, 204 and 304 have no body, whatever the backend says of its length, and the next answer is the next', async () => {
  const plane = await startPlane();
  const backend = await startRawBackend((head) => {
    if (head.startsWith('HEAD')) return 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n';
    if (head.startsWith('GET /204')) return 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n';
    if (head.startsWith('GET /304')) return 'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\n';
    return 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast';
  });
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  connection.send(
    'HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\nGET /304 HTTP/1.1\r\nHost: a\r\n\r\n',
  );
  connection.send(GET_AND_CLOSE);
  await connection.ended();
  expect(connection.text()).toBe(
    'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n' +
      'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\n' +
      'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast',
  );
});

test('100 Continue and 103 Early Hints are passed on, but not to HTTP/1.0', async () => {
  const plane = await startPlane();
  const backend = await startBackend((request, response) => {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' });
    request.resume();
    request.on('end', () => response.end('done'));
  });
  routeAll(plane, backend.address);
  const connection = await raw(httpPort(plane));
  connection.send('POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n');
  await connection.until(/^HTTP\/1\.1 100 Continue\r\n\r\n/);
  connection.send('body');
  await connection.until(/HTTP\/1\.1 103 Early Hints\r\nLink: [^\r]*\r\n\r\n[^]*HTTP\/1\.1 200 OK[^]*done/i);
  expect(await exchange(httpPort(plane), 'GET / HTTP/1.0\r\nHost: a\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 OK/);
});

test('a backend that refuses a body before it has come has its answer passed on and the connection ends', async () => {
  const plane = await startPlane();
  const backend = await startRawBackend(() => 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig');
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  connection.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome');
  await connection.until(/^HTTP\/1\.1 413 [^]*Connection: close\r\n\r\nbig$/);
  connection.send('GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n');
  await connection.ended();
  expect(connection.text().match(/HTTP\/1\.1 /g)).toHaveLength(1);
});

test.each([
  [
    'Content-Length with Transfer-Encoding',
    'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['two Content-Lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc'],
  ['another transfer coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'],
  ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n'],
  ['a folded field', 'HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n'],
  [
    'a switch of protocol that nobody asked for',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
  ],
  ['no HTTP at all', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ['a bad first chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
])('an answer with %s is 502', async (_title, bytes) => {
  const plane = await startPlane();
  const backend = await startRawBackend(() => bytes);
  routeAll(plane, backend);
  expect(await exchange(httpPort(plane), GET_AND_CLOSE)).toMatch(/^HTTP\/1\.1 502 /);
});

test('bytes that a backend sends behind an answer never become the next answer', async () => {
  const plane = await startPlane();
  let count = 0;
  const backend = await startRawBackend(() => {
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${++count}`;
    return count === 1 ? `${answer}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil` : answer;
  });
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  connection.send(GET);
  await connection.until(/\r\n\r\n1$/);
  connection.send(GET);
  await connection.until(/\r\n\r\n2$/);
  expect(connection.text()).not.toMatch(/evil/);
});

test('a backend that does not answer in time is 504, one that stops inside its answer makes a reset', async () => {
  const plane = await startPlane({ times: { upstreamMs: 60 } });
  let half = false;
  const backend = await startRawBackend(() => (half ? 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf' : undefined));
  routeAll(plane, backend);
  expect(await exchange(httpPort(plane), GET_AND_CLOSE)).toMatch(/^HTTP\/1\.1 504 /);
  half = true;
  const connection = await raw(httpPort(plane));
  connection.send(GET);
  await connection.until(/half$/);
  expect(await connection.ended()).toBe('reset');
});

test('a WebSocket goes through both ways, and the end of either side ends the other', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  let tunnel: Socket | undefined;
  backend.server.on('upgrade', (request: IncomingMessage, socket: Socket, early: Buffer) => {
    tunnel = socket;
    socket.on('error', () => {});
    const accept = createHash('sha1')
      .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    if (early.length > 0) socket.unshift(early);
    // Sends each masked text frame back unmasked.
    socket.on('data', (frame: Buffer) => {
      if (((frame[0] ?? 0) & 0x0f) !== 1) {
        socket.end(Buffer.from([0x88, 0]));
        return;
      }
      const mask = frame.subarray(2, 6);
      const text = frame.subarray(6).map((byte, i) => byte ^ (mask[i % 4] ?? 0));
      socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]));
    });
  });
  routeAll(plane, backend.address);
  const socket = new WebSocket(`ws://127.0.0.1:${httpPort(plane)}/chat`);
  const events: string[] = [];
  socket.addEventListener('open', () => socket.send('hello'));
  socket.addEventListener('message', (event) => {
    events.push(String(event.data));
    socket.close();
  });
  socket.addEventListener('close', () => events.push('closed'));
  await eventually('the conversation', () => events.length === 2);
  expect(events).toEqual(['hello', 'closed']);
  await eventually('the end of the tunnel', () => tunnel?.destroyed === true);
});

test('after an upgrade one side may end while the other still writes', async () => {
  const plane = await startPlane();
  const backend = await startRawBackend((_head, socket) => {
    socket.removeAllListeners('end');
    socket.on('end', () => void socket.end('farewell'));
    return 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: upgrade\r\n\r\nearly';
  });
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  connection.send('GET / HTTP/1.1\r\nHost: a\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n');
  await connection.until(/^HTTP\/1\.1 101 [^]*Upgrade: raw\r\nConnection: upgrade\r\n\r\nearly$/);
  connection.socket.end();
  await connection.until(/farewell$/);
  expect(await connection.ended()).toBe('end');
});

test('an upgrade that the backend declines is an ordinary answer, and an idle tunnel is ended', async () => {
  const plane = await startPlane({ times: { tunnelMs: 60 } });
  let accept = false;
  const backend = await startRawBackend(() =>
    accept
      ? 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: upgrade\r\n\r\n'
      : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno',
  );
  routeAll(plane, backend);
  const connection = await raw(httpPort(plane));
  const upgrade = 'GET / HTTP/1.1\r\nHost: a\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n';
  connection.send(upgrade);
  await connection.until(/\r\n\r\nno$/);
  accept = true;
  connection.send(upgrade);
  await connection.until(/ 101 /);
  expect(await connection.ended()).toBe('end');
});

test('stop() lets a request under way finish, ends idle connections at once, and ends what is left at its bound', async () => {
  const plane = await startPlane({ graceMs: 1000 });
  let finish: (() => void) | undefined;
  const backend = await startBackend((request, response) => {
    if (request.url === '/never') return;
    if (request.url === '/idle') {
      response.end('idle');
      return;
    }
    finish = () => void response.end('finished');
  });
  routeAll(plane, backend.address);
  const [busy, idle, never] = [await raw(httpPort(plane)), await raw(httpPort(plane)), await raw(httpPort(plane))];
  idle.send('GET /idle HTTP/1.1\r\nHost: a\r\n\r\n');
  await idle.until(/idle$/);
  busy.send(GET);
  never.send('GET /never HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually('the requests', () => backend.requests.length === 3);
  const port = httpPort(plane);
  const stopped = plane.stop();
  expect(await idle.ended()).toBe('end');
  finish?.();
  await busy.until(/Connection: close\r\n[^]*finished/);
  await busy.ended();
  await stopped;
  await never.ended();
  await expect(raw(port)).rejects.toThrow(/ECONNREFUSED/);
  expect(portOf(backend.server)).toBeGreaterThan(0);
});
