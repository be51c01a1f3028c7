// Upstream servers that are asked over TLS and HTTPS, and connections that are kept.

import { createSecureServer, type Http2Stream } from 'node:http2';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { encodeReply } from '../../src/dns/encode.ts';
import { parseRecord } from '../../src/dns/record-text.ts';
import { nameText } from '../../src/dns/wire/name.ts';
import { FrameReader, frame } from '../../src/dns/wire/frame.ts';
import { parseQuery } from '../../src/dns/wire/query.ts';
import { RCODE } from '../../src/dns/wire/types.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/api-server/certificate.ts';
import { until } from '../support/until.ts';
import { serveCorefile, type CorefileWorld } from './corefile-world.ts';
import { dig, type DigReply } from './dig.ts';

vi.setConfig({ testTimeout: 30_000 });

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function answer(packet: Buffer): Buffer {
  const query = parseQuery(packet);
  if (query.kind !== 'query') throw new Error('no query came');
  const record = parseRecord(`${nameText(query.name)} 60 IN A 192.0.2.9`);
  const sections = { answer: record ? [record] : [], authority: [], additional: [] };
  return encodeReply(query, { kind: 'message', rcode: RCODE.NOERROR, flags: 0, ...sections }, 4096, () => 0);
}

interface Secure {
  readonly port: number;
  readonly connections: Set<Socket | TLSSocket>;
  /** Connections so far. */
  readonly count: () => number;
  readonly methods: string[];
}

const TLS = { cert: TEST_CERTIFICATE, key: TEST_KEY };

async function start(kind: 'tcp' | 'tls' | 'https'): Promise<Secure> {
  const connections = new Set<Socket | TLSSocket>();
  const methods: string[] = [];
  let count = 0;
  const opened = (socket: Socket): void => {
    count++;
    connections.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => connections.delete(socket));
  };
  const stream = (socket: Socket): void => {
    opened(socket);
    const frames = new FrameReader();
    socket.on('data', (chunk: Buffer) => {
      for (const packet of frames.push(chunk)) socket.write(frame(answer(packet)));
    });
  };
  const server =
    kind === 'tcp'
      ? createTcpServer(stream)
      : kind === 'tls'
        ? createTlsServer({ ...TLS, ALPNProtocols: ['dot'] }, stream)
        : createSecureServer(TLS);
  if (kind === 'https') {
    server.on('secureConnection', opened);
    server.on('stream', (request: Http2Stream & { respond(head: object): void }, headers: Record<string, string>) => {
      const method = headers[':method'] ?? '';
      methods.push(`${method} ${headers['accept']}`);
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const inPath = Buffer.from(headers[':path']?.split('dns=')[1] ?? '', 'base64url');
        const packet = method === 'GET' ? inPath : Buffer.concat(chunks);
        request.respond({ ':status': 200, 'content-type': 'application/dns-message' });
        request.end(answer(packet));
      });
      request.resume();
    });
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(async () => {
    for (const socket of connections) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, connections, count: () => count, methods };
}

async function forwardTo(to: string, options = ''): Promise<CorefileWorld> {
  const text = `.:PORT {\n  errors\n  forward . ${to} {\n${options}  }\n}\n`;
  const world = await serveCorefile(text, undefined, { 'ca.pem': TEST_CERTIFICATE });
  closing.push(() => world.plane.stop());
  return world;
}

const ask = ({ server }: CorefileWorld, ...words: readonly string[]): Promise<DigReply> =>
  dig(server, '+noedns', ...words, 'www.example.test');

describe.each([
  ['tls', '    tls ca.pem\n'],
  ['https', '    tls ca.pem\n'],
  ['https', '    tls ca.pem\n    doh_method GET\n'],
] as const)('an upstream server over %s%s', (kind, options) => {
  test('is asked by one connection that is kept', async () => {
    const secure = await start(kind);
    const world = await forwardTo(`${kind}://127.0.0.1:${secure.port}`, options);
    for (let i = 0; i < 3; i++) expect((await ask(world)).answer).toEqual(['www.example.test. 60 IN A 192.0.2.9']);
    expect(secure.count()).toBe(1);
    expect([...new Set(secure.methods)]).toEqual(
      kind === 'tls' ? [] : [`${options.includes('GET') ? 'GET' : 'POST'} application/dns-message`],
    );
    const metrics = await world.metrics();
    const to = `to="${kind}://127.0.0.1:${secure.port}"`;
    expect(metrics).toContain(`coredns_proxy_conn_cache_hits_total{proxy_name="forward",${to},proto="tcp-tls"} 2`);
    expect(metrics).toContain(
      `coredns_proxy_request_duration_seconds_count{proxy_name="forward",${to},rcode="NOERROR"} 3`,
    );
  });

  test('goes on when the connection was closed meanwhile', async () => {
    const secure = await start(kind);
    const world = await forwardTo(`${kind}://127.0.0.1:${secure.port}`, options);
    await ask(world);
    for (const socket of secure.connections) socket.destroy();
    await until(() => secure.connections.size === 0);
    expect((await ask(world)).status).toBe('NOERROR');
  });

  test('is not asked when its certificate is not the right one', async () => {
    const secure = await start(kind);
    const named = await forwardTo(`${kind}://127.0.0.1%localhost:${secure.port}`, options);
    expect((await ask(named)).status).toBe('NOERROR');
    const wrong = await forwardTo(`${kind}://127.0.0.1:${secure.port}`, `${options}    tls_servername dns.example\n`);
    expect((await ask(wrong)).status).toBe('SERVFAIL');
    expect(wrong.lines.join('\n')).toMatch(/ERR_TLS_CERT_ALTNAME_INVALID|ERR_HTTP2/);
    const unknown = await forwardTo(`${kind}://127.0.0.1:${secure.port}`, options.replace('    tls ca.pem\n', ''));
    expect((await ask(unknown)).status).toBe('SERVFAIL');
  });
});

test('connections over TCP are kept for as long, and as many, as the Corefile says', async () => {
  const upstream = await start('tcp');
  const to = `127.0.0.1:${upstream.port}`;
  const world = await forwardTo(to, '    force_tcp\n    expire 3s\n');
  await ask(world);
  await ask(world);
  expect(upstream.count()).toBe(1);
  await until(() => upstream.connections.size === 0);
  await ask(world);
  expect(upstream.count()).toBe(2);
  const aged = await forwardTo(to, '    force_tcp\n    max_age 1ms\n');
  await ask(aged);
  await ask(aged);
  expect(upstream.count()).toBe(4);
});

test('source_address is asked from', async () => {
  const upstream = await start('tcp');
  const to = `127.0.0.1:${upstream.port}`;
  const seen: (string | undefined)[] = [];
  const world = await forwardTo(to, '    force_tcp\n    source_address 127.0.0.77\n');
  const asking = ask(world);
  await until(() => {
    for (const socket of upstream.connections) seen.push(socket.remoteAddress);
    return seen.length > 0;
  });
  await asking;
  expect(seen).toContain('127.0.0.77');
});
