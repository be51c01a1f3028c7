import {
  Client,
  Metadata,
  Server,
  ServerCredentials,
  credentials,
  status,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { createServer } from 'node:http2';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { IngressPlane } from '../../src/ingress/plane.ts';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import type { SecretRecord } from '../../src/model/records.ts';
import { exchange, httpPort, startPlane, startRawBackend } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n';

function routeTo(
  plane: IngressPlane,
  endpoint: string | readonly string[],
  annotations: Readonly<Record<string, string>>,
  secrets: readonly SecretRecord[] = [],
): void {
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', defaultBackend: { service: 'echo' }, annotations })],
      services: [service({ name: 'echo', endpoints: [endpoint].flat() })],
      secrets,
    }),
  );
}

function secret(name: string, data: Readonly<Record<string, string>>): SecretRecord {
  return { namespace: 'default', name, type: 'Opaque', data: new Map(Object.entries(data)) };
}

/** A backend that answers each connection once, over TLS; tells the name that it was asked for. */
async function startTlsBackend(options: TlsOptions): Promise<{ readonly address: string; readonly names: unknown[] }> {
  const names: unknown[] = [];
  const server = createTlsServer(options, (socket) => {
    names.push(socket.servername);
    socket.on('error', () => {});
    socket.on('data', () => {
      const { subject } = socket.getPeerCertificate() as { subject?: { CN?: string } };
      const text = `${subject?.CN ?? 'nobody'} ${socket.getProtocol()}`;
      socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
    });
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, names };
}

const bytes = (value: Buffer): Buffer => value;

/** Unary, and a stream both ways that answers each message. */
async function startGrpcBackend(creds: ServerCredentials): Promise<string> {
  const server = new Server();
  const method = (path: string, streams: boolean) => ({
    path,
    requestStream: streams,
    responseStream: streams,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  });
  server.addService(
    { unary: method('/echo.Echo/Unary', false), chat: method('/echo.Echo/Chat', true) },
    {
      unary: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        if (call.request.toString() === 'fail') {
          done({ code: status.FAILED_PRECONDITION, details: 'not today' });
          return;
        }
        const trailer = new Metadata();
        trailer.set('x-trailer', 'last');
        done(null, Buffer.from(`${call.request.toString()} ${String(call.metadata.get('x-own')[0])}`), trailer);
      },
      chat: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (message: Buffer) => call.write(Buffer.from(message.toString().toUpperCase())));
        call.on('end', () => call.end());
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', creds, (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  onTestFinished(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

function grpcClient(plane: IngressPlane): Client {
  const client = new Client(`127.0.0.1:${httpPort(plane)}`, credentials.createInsecure());
  onTestFinished(() => client.close());
  return client;
}

function unary(client: Client, text: string): Promise<{ readonly body: string; readonly trailer: unknown }> {
  return new Promise((resolve, reject) => {
    const metadata = new Metadata();
    metadata.set('x-own', 'mine');
    let trailer: unknown;
    const call = client.makeUnaryRequest(
      '/echo.Echo/Unary',
      bytes,
      bytes,
      Buffer.from(text),
      metadata,
      { deadline: Date.now() + 10_000 },
      (error: ServiceError | null, value?: Buffer) =>
        error ? reject(error) : setImmediate(() => resolve({ body: value?.toString() ?? '', trailer })),
    );
    call.on('status', ({ metadata: fields }) => (trailer = fields.get('x-trailer')[0]));
  });
}

test('gRPC: calls, errors in trailers and without a body, and streams both ways at the same time', async () => {
  const plane = await startPlane();
  routeTo(plane, await startGrpcBackend(ServerCredentials.createInsecure()), {
    'backend-protocol': 'GRPC',
    'proxy-body-size': '0',
  });
  const client = grpcClient(plane);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => unary(client, `call ${i}`)));
  expect(answers.map(({ body }) => body)).toEqual(Array.from({ length: 20 }, (_, i) => `call ${i} mine`));
  expect(answers[0]?.trailer).toBe('last');
  await expect(unary(client, 'fail')).rejects.toMatchObject({ code: status.FAILED_PRECONDITION, details: 'not today' });
  const chat = client.makeBidiStreamRequest('/echo.Echo/Chat', bytes, bytes, new Metadata(), {
    deadline: Date.now() + 10_000,
  });
  const heard: string[] = [];
  let code: number | undefined;
  chat.on('data', (message: Buffer) => heard.push(message.toString()));
  chat.on('status', (result) => (code = result.code));
  for (const word of ['one', 'two', 'three']) {
    chat.write(Buffer.from(word));
    // Each answer comes while the request is still open.
    await eventually(word, () => heard.includes(word.toUpperCase()));
  }
  const large = Buffer.alloc(2 * 1024 * 1024, 'a');
  chat.write(large);
  await eventually('a large message', () => heard.at(-1)?.length === large.length, 15_000);
  chat.end();
  await eventually('the status', () => code === status.OK);
  await expect(unary(client, 'after')).resolves.toMatchObject({ body: 'after mine' });
});

test('gRPC: an endpoint that is not there is UNAVAILABLE, a wrong service UNIMPLEMENTED', async () => {
  const plane = await startPlane();
  const client = grpcClient(plane);
  routeTo(plane, '127.0.0.1:1', { 'backend-protocol': 'grpc' });
  await expect(unary(client, 'x')).rejects.toMatchObject({ code: status.UNAVAILABLE });
  const server = new Server();
  const port = await new Promise<number>((resolve) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_error, bound) => resolve(bound)),
  );
  onTestFinished(() => server.forceShutdown());
  routeTo(plane, `127.0.0.1:${port}`, { 'backend-protocol': 'grpc' });
  await expect(unary(client, 'x')).rejects.toMatchObject({ code: status.UNIMPLEMENTED });
});

test('GRPCS meets the backend by TLS, verified where the annotations ask for it', async () => {
  const plane = await startPlane();
  const { cert, key } = selfSigned('grpc.example', ['grpc.example'], Date.now(), 30);
  const creds = ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(cert), private_key: Buffer.from(key) }]);
  const address = await startGrpcBackend(creds);
  const client = grpcClient(plane);
  routeTo(plane, address, { 'backend-protocol': 'GRPCS' });
  await expect(unary(client, 'open')).resolves.toMatchObject({ body: 'open mine' });
  const verified = {
    'backend-protocol': 'GRPCS',
    'proxy-ssl-secret': 'ca',
    'proxy-ssl-verify': 'on',
    'proxy-ssl-name': 'grpc.example',
  };
  routeTo(plane, address, verified, [secret('ca', { 'ca.crt': cert })]);
  await expect(unary(client, 'verified')).resolves.toMatchObject({ body: 'verified mine' });
  const other = selfSigned('grpc.example', ['grpc.example'], Date.now(), 30);
  routeTo(plane, address, verified, [secret('ca', { 'ca.crt': other.cert })]);
  await expect(unary(client, 'x')).rejects.toMatchObject({ code: status.UNAVAILABLE });
});

test('a client of HTTP/1.1 reaches an HTTP/2 backend too, with bodies of known and unknown length', async () => {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      response.setHeader('x-version', request.httpVersion);
      response.end(`${request.method} ${request.url} ${body}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const plane = await startPlane();
  routeTo(plane, `127.0.0.1:${(server.address() as AddressInfo).port}`, { 'backend-protocol': 'GRPC' });
  const port = httpPort(plane);
  const head = 'POST /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\n';
  expect(await exchange(port, `${head}Content-Length: 3\r\n\r\nabc`)).toMatch(/x-version: 2\.0\r\n[^]*POST \/p abc/);
  expect(await exchange(port, `${head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n`)).toMatch(
    /POST \/p abcde/,
  );
  expect(await exchange(port, GET)).toMatch(/^HTTP\/1\.1 200 [^]*GET \/ /);
  expect(await exchange(port, GET.replace('GET', 'HEAD'))).toMatch(/^HTTP\/1\.1 200 [^]*\r\n\r\n$/);
});

test('a backend of HTTP/2 that resets a stream in the middle is a cut answer, not a whole one', async () => {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    stream.write('part');
    setTimeout(() => stream.destroy(new Error('gone')), 20);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const plane = await startPlane();
  routeTo(plane, `127.0.0.1:${(server.address() as AddressInfo).port}`, { 'backend-protocol': 'GRPC' });
  const answer = await exchange(httpPort(plane), GET);
  expect(answer).toMatch(/4\r\npart\r\n/);
  expect(answer).not.toMatch(/\r\n0\r\n\r\n$/);
});

test('an HTTPS backend is verified by authority and name, told the name, and shown a certificate, as the annotations say', async () => {
  const plane = await startPlane();
  const server = selfSigned('b.example', ['b.example'], Date.now(), 30);
  const own = selfSigned('the-proxy', ['the-proxy'], Date.now(), 30);
  const backend = await startTlsBackend({ ...server, requestCert: true, rejectUnauthorized: false });
  const port = httpPort(plane);
  const https = { 'backend-protocol': 'HTTPS' };
  routeTo(plane, backend.address, https);
  expect(await exchange(port, GET)).toMatch(/^HTTP\/1\.1 200 [^]*nobody TLSv1\.3$/);
  expect(backend.names).toEqual([false]);
  const data = { 'tls.crt': own.cert, 'tls.key': own.key, 'ca.crt': server.cert };
  const verified = { ...https, 'proxy-ssl-secret': 'own', 'proxy-ssl-verify': 'on', 'proxy-ssl-name': 'b.example' };
  routeTo(plane, backend.address, { ...verified, 'proxy-ssl-server-name': 'on', 'proxy-ssl-protocols': 'TLSv1.2' }, [
    secret('own', data),
  ]);
  expect(await exchange(port, GET)).toMatch(/^HTTP\/1\.1 200 [^]*the-proxy TLSv1\.2$/);
  expect(backend.names.at(-1)).toBe('b.example');
  const before = backend.names.length;
  routeTo(plane, backend.address, { ...verified, 'proxy-ssl-name': 'c.example' }, [secret('own', data)]);
  expect(await exchange(port, GET)).toMatch(/^HTTP\/1\.1 502 /);
  routeTo(plane, backend.address, verified, [secret('own', { ...data, 'ca.crt': own.cert })]);
  expect(await exchange(port, GET)).toMatch(/^HTTP\/1\.1 502 /);
  // No request was sent to a backend that could not be verified.
  expect(backend.names.slice(before).length).toBeLessThanOrEqual(2);
});

test.each([
  ['the Secret is not there', { 'proxy-ssl-secret': 'none', 'backend-protocol': 'HTTPS' }],
  ['verification without authorities', { 'proxy-ssl-verify': 'on', 'backend-protocol': 'HTTPS' }],
  ['a Secret without ca.crt', { 'proxy-ssl-verify': 'on', 'proxy-ssl-secret': 'bare', 'backend-protocol': 'HTTPS' }],
  ['a Secret of another namespace', { 'proxy-ssl-secret': 'other/own', 'backend-protocol': 'HTTPS' }],
  ['ciphers that nobody knows', { 'proxy-ssl-ciphers': 'NO-SUCH-CIPHER', 'backend-protocol': 'HTTPS' }],
  ['FastCGI', { 'backend-protocol': 'FCGI' }],
  ['a name that is none', { 'proxy-ssl-name': 'a b', 'backend-protocol': 'HTTPS' }],
])('%s: the location answers 503', async (_name, annotations) => {
  const plane = await startPlane();
  const { cert, key } = selfSigned('x', ['x'], Date.now(), 30);
  const backend = await startTlsBackend({ cert, key });
  routeTo(plane, backend.address, annotations, [secret('bare', { 'tls.crt': cert, 'tls.key': key })]);
  expect(await exchange(httpPort(plane), GET)).toMatch(/^HTTP\/1\.1 503 /);
  expect(backend.names).toHaveLength(0);
});

test('an endpoint that fails again and again is asked only where no other is left, and comes back', async () => {
  const plane = await startPlane();
  let asked = 0;
  let sound = false;
  const flaky = await startRawBackend((_head, socket) => {
    asked++;
    if (sound) return 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';
    socket.destroy();
    return undefined;
  });
  const good = await startRawBackend(() => 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  routeTo(plane, [flaky, good], {});
  const port = httpPort(plane);
  const post = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';
  const statuses: string[] = [];
  for (let i = 0; i < 40; i++) statuses.push((await exchange(port, post)).slice(9, 12));
  expect(asked).toBeLessThan(10);
  expect(statuses.filter((code) => code !== '200').length).toBe(asked);
  routeTo(plane, flaky, {});
  sound = true;
  // There is no other: it is asked at once.
  expect(await exchange(port, post)).toMatch(/^HTTP\/1\.1 200 /);
});

test('a TLS backend that does not agree to HTTP/2 gets no request of GRPCS', async () => {
  const { cert, key } = selfSigned('x', ['x'], Date.now(), 30);
  const plane = await startPlane();
  for (const options of [{}, { ALPNProtocols: ['http/1.1'] }]) {
    const backend = await startTlsBackend({ cert, key, ...options });
    routeTo(plane, backend.address, { 'backend-protocol': 'GRPCS' });
    expect(await exchange(httpPort(plane), GET)).toMatch(/^HTTP\/1\.1 502 /);
  }
});
