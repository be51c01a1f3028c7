// gzip and brotli, as the ConfigMap asks for them.

import { connect as connectHttp2 } from 'node:http2';
import type { RequestListener } from 'node:http';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { httpPort, raw, startBackend, startPlane, startRawBackend, type TestBackend } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';
import type { IngressPlane } from '../../src/ingress/plane.ts';
import { eventually } from '../support/until.ts';

const TEXT = 'the same words again and again, '.repeat(100);
const ON = { 'use-gzip': 'true', 'enable-brotli': 'true' };

async function site(
  settings: Readonly<Record<string, string>>,
  backend: string | RequestListener,
): Promise<{ readonly plane: IngressPlane; readonly port: number; readonly server: TestBackend | undefined }> {
  const plane = await startPlane({ configMap: 'default/settings' });
  const server = typeof backend === 'string' ? undefined : await startBackend(backend);
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'all', defaultBackend: { service: 'echo' } })],
      services: [
        service({ name: 'echo', endpoints: [typeof backend === 'string' ? backend : (server?.address ?? '')] }),
      ],
      configMaps: [{ namespace: 'default', name: 'settings', data: new Map(Object.entries(settings)) }],
    }),
  );
  return { plane, port: httpPort(plane), server };
}

interface Got {
  readonly head: string;
  readonly body: Buffer;
}

/** One request on a connection that ends with it; chunks are put together. */
async function get(
  port: number,
  encodings: string | undefined,
  more = '',
  method = 'GET',
  version = '1.1',
): Promise<Got> {
  const connection = await raw(port);
  const accept = encodings === undefined ? '' : `Accept-Encoding: ${encodings}\r\n`;
  connection.send(`${method} / HTTP/${version}\r\nHost: a.example\r\n${accept}${more}Connection: close\r\n\r\n`);
  await connection.ended();
  const bytes = Buffer.from(connection.text(), 'latin1');
  const end = bytes.indexOf('\r\n\r\n') + 4;
  const head = bytes.toString('latin1', 0, end);
  const rest = bytes.subarray(end);
  return { head, body: /transfer-encoding: chunked/i.test(head) ? unchunked(rest) : rest };
}

function unchunked(bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; ;) {
    const line = bytes.indexOf('\r\n', at);
    const size = Number.parseInt(bytes.toString('latin1', at, line), 16);
    if (!(size > 0)) return Buffer.concat(parts);
    parts.push(bytes.subarray(line + 2, line + 2 + size));
    at = line + 4 + size;
  }
}

/** The head as a backend gives it, and its body. */
function answering(fields: Readonly<Record<string, string | number>>, status = 200, body = TEXT): RequestListener {
  return (_request, response) => {
    response.writeHead(status, {
      'content-type': 'text/html; charset=utf-8',
      'content-length': body.length,
      ...fields,
    });
    response.end(body);
  };
}

test.each([
  ['gzip', 'gzip', 'gzip'],
  ['deflate, gzip;q=1.0, *;q=0.5', 'gzip', 'gzip'],
  ['gzip, deflate, br', 'br', 'brotli'],
  ['br', 'br', 'brotli'],
] as const)(
  'a client that accepts "%s" gets %s, with Vary and a weak ETag, and no length',
  async (accepts, coding, kind) => {
    const { port } = await site(ON, answering({ etag: '"abc"', 'accept-ranges': 'bytes', 'last-modified': 'then' }));
    const { head, body } = await get(port, accepts);
    expect(head).toMatch(new RegExp(`\r\nContent-Encoding: ${coding}\r\n`));
    expect(head).toMatch(/\r\nVary: Accept-Encoding\r\n/);
    expect(head).toMatch(/\r\nETag: W\/"abc"\r\n/);
    expect(head).toMatch(/\r\nlast-modified: then\r\n/);
    expect(head).not.toMatch(/content-length|accept-ranges/i);
    expect(body.length).toBeLessThan(TEXT.length / 4);
    expect((kind === 'gzip' ? gunzipSync(body) : brotliDecompressSync(body)).toString()).toBe(TEXT);
  },
);

test.each([
  ['nothing of the kind is accepted', undefined, {}, 200, {}],
  ['gzip is refused', 'gzip;q=0, br;q=0.000', {}, 200, {}],
  ['only another coding is accepted', 'zstd', {}, 200, {}],
] as const)(
  'when %s the answer goes on as it is, and says that it varies',
  async (_why, accepts, fields, status, settings) => {
    const { port } = await site({ ...ON, ...settings }, answering(fields, status));
    const { head, body } = await get(port, accepts);
    expect(head).toMatch(/\r\nVary: Accept-Encoding\r\n/);
    expect(head).not.toMatch(/content-encoding/i);
    expect(head).toMatch(new RegExp(`\r\ncontent-length: ${TEXT.length}\r\n`));
    expect(body.toString()).toBe(TEXT);
  },
);

test.each([
  ['neither key is set', {}, 200, { 'use-gzip': 'false', 'enable-brotli': 'false' }, '', TEXT],
  ['it is encoded already', { 'content-encoding': 'zstd' }, 200, {}, '', TEXT],
  ['it must not be transformed', { 'cache-control': 'public, no-transform' }, 200, {}, '', TEXT],
  ['it is part of something', { 'content-range': `bytes 0-${TEXT.length - 1}/9999` }, 206, {}, '', TEXT],
  ['its status is another', {}, 500, {}, '', TEXT],
  ['its type is not among them', { 'content-type': 'image/png' }, 200, {}, '', TEXT],
  [
    'its type is taken out',
    { 'content-type': 'text/plain' },
    200,
    { 'gzip-types': 'text/css', 'brotli-types': 'text/css' },
    '',
    TEXT,
  ],
  ['it is too short', {}, 200, { 'brotli-min-length': '100' }, '', 'x'.repeat(99)],
] as const)('when %s the answer goes on untouched', async (_why, fields, status, settings, more, text) => {
  const { port } = await site({ ...ON, ...settings }, answering(fields, status, text));
  const { head, body } = await get(port, 'gzip, br', more);
  expect(head).not.toMatch(/vary|content-encoding: (gzip|br)/i);
  expect(body.toString()).toBe(text);
});

test('HEAD and HTTP/1.0 get no coding, and gzip-disable takes it from old browsers alone', async () => {
  const { port } = await site({ 'use-gzip': 'true', 'gzip-disable': 'msie6 Odd[0-9]' }, answering({}));
  expect((await get(port, 'gzip', '', 'HEAD')).head).not.toMatch(/content-encoding/i);
  expect((await get(port, 'gzip', '', 'GET', '1.0')).body.toString()).toBe(TEXT);
  expect((await get(port, 'gzip', 'User-Agent: Odd7\r\n')).body.toString()).toBe(TEXT);
  expect((await get(port, 'gzip', 'User-Agent: Mozilla/4.0 (MSIE 6.0)\r\n')).body.toString()).toBe(TEXT);
  expect((await get(port, 'gzip', 'User-Agent: Odd\r\n')).head).toMatch(/content-encoding: gzip/i);
});

test('what a backend sends bit by bit arrives bit by bit, with its end and its trailers', async () => {
  let more: (text: string) => void = () => {};
  let end: () => void = () => {};
  const { port } = await site(ON, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', trailer: 'x-end' });
    more = (text) => void response.write(text);
    end = () => {
      response.addTrailers({ 'x-end': 'yes' });
      response.end();
    };
    more('{"first": 1,');
  });
  const client = await raw(port);
  client.send('GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\nTE: trailers\r\nConnection: TE\r\n\r\n');
  await client.until(/\r\n\r\n[0-9a-f]+\r\n[^]{10,}/);
  const before = client.text().length;
  more(' "second": 2}');
  await eventually('the second part', () => client.text().length > before);
  end();
  await client.until(/\r\n0\r\nx-end: yes\r\n\r\n$/);
  const text = Buffer.from(client.text(), 'latin1');
  const body = unchunked(text.subarray(text.indexOf('\r\n\r\n') + 4));
  expect(gunzipSync(body).toString()).toBe('{"first": 1, "second": 2}');
  // The connection is good for another request.
  client.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
  await client.until(/HTTP\/1\.1 200[^]*HTTP\/1\.1 200/);
});

test('a large body reaches a client of HTTP/2 that reads slowly, whole', async () => {
  const big = Buffer.from(Array.from({ length: 300_000 }, (_, i) => `${(i * 7919) % 100_003} `).join(''));
  const { port } = await site({ 'use-gzip': 'true' }, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.end(big);
  });
  const client = connectHttp2(`http://127.0.0.1:${port}`);
  onTestFinished(() => client.destroy());
  const stream = client.request({ ':path': '/', ':authority': 'a.example', 'accept-encoding': 'gzip' });
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    stream.pause();
    setImmediate(() => stream.resume());
  });
  const headers = await new Promise<Readonly<Record<string, unknown>>>((resolve) => stream.once('response', resolve));
  await new Promise((resolve) => stream.once('end', resolve));
  expect(headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' });
  expect(gunzipSync(Buffer.concat(chunks)).equals(big)).toBe(true);
});

test('a backend that breaks off is seen to, and a client that goes away lets the backend go', async () => {
  const address = await startRawBackend((head, socket) => {
    if (head.includes('GET /cut')) setImmediate(() => socket.destroy());
    return 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\npart of it';
  });
  const { plane, port } = await site(ON, address);
  const cut = await raw(port);
  cut.send('GET /cut HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n');
  expect(await cut.ended()).toBe('reset');
  const gone = await raw(port);
  gone.send('GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n');
  await gone.until(/\r\n\r\n/);
  gone.socket.destroy();
  await eventually('the connection to the backend to end', () => plane.counts.upstream === 0);
});
