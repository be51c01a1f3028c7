import { connect as connectHttp2 } from 'node:http2';
import { connect, createServer as createTlsServer, type ConnectionOptions } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { IngressPlane } from '../../src/ingress/plane.ts';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import type { SecretRecord } from '../../src/model/records.ts';
import { LOOPBACK, exchange, httpPort, raw, startBackend, startPlane, type TestBackend } from './plane.ts';
import { ingress, service, snapshot, tlsSecret } from './world.ts';

const LISTEN = { address: LOOPBACK, port: 0 };
const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n';

interface Site {
  readonly plane: IngressPlane;
  readonly backend: TestBackend;
  readonly http: number;
  readonly https: number;
  readonly route: (
    annotations?: Readonly<Record<string, string>>,
    keys?: Readonly<Record<string, string>>,
    secrets?: readonly SecretRecord[],
  ) => void;
}

/** a.example with annotations and ConfigMap keys, and b.example without. */
async function site(): Promise<Site> {
  const plane = await startPlane({ https: LISTEN, configMap: 'system/settings', sslPassthrough: true });
  const backend = await startBackend();
  const { cert, key } = selfSigned('a.example', ['a.example'], Date.now(), 30);
  return {
    plane,
    backend,
    http: httpPort(plane),
    https: plane.addresses.https?.port ?? 0,
    route: (annotations = {}, keys = {}, secrets = []) =>
      plane.update(
        snapshot({
          ingresses: [
            ingress({
              name: 'a',
              rules: [{ host: 'a.example', paths: [{ service: 'echo' }] }],
              tls: [{ hosts: ['a.example'], secretName: 'a' }],
              annotations: { 'ssl-redirect': 'false', ...annotations },
            }),
            ingress({ name: 'b', rules: [{ host: 'b.example', paths: [{ service: 'echo' }] }] }),
          ],
          services: [service({ name: 'echo', endpoints: [backend.address] })],
          secrets: [tlsSecret('a', cert, key), ...secrets],
          configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(keys)) }],
        }),
      ),
  };
}

function headersOf(answer: string): Readonly<Record<string, string>> {
  const body = answer.slice(answer.indexOf('{'));
  return (JSON.parse(body) as { headers: Record<string, string> }).headers;
}

/** One request over TLS; all that comes. */
async function overTls(port: number, options: ConnectionOptions, bytes = GET): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername: 'a.example', rejectUnauthorized: false, ...options });
    onTestFinished(() => void socket.destroy());
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    socket.on('secureConnect', () => socket.write(bytes));
  });
}

test('use-proxy-protocol: the client of the header is the client, on both ports and for both versions; without a header nobody is served', async () => {
  const { route, http, https, backend } = await site();
  route(
    { 'allowlist-source-range': '203.0.113.0/24' },
    { 'use-proxy-protocol': 'true', 'proxy-protocol-header-timeout': '1' },
  );
  const one = headersOf(await exchange(http, `PROXY TCP4 203.0.113.9 10.0.0.1 5555 8088\r\n${GET}`));
  expect(one).toMatchObject({
    'x-real-ip': '203.0.113.9',
    'x-forwarded-for': '203.0.113.9',
    'x-forwarded-port': '8088',
  });
  expect(await exchange(http, `PROXY TCP4 198.51.100.1 10.0.0.1 5555 80\r\n${GET}`)).toMatch(/^HTTP\/1\.1 403 /);
  expect(await exchange(http, GET)).toBe('');
  expect(await exchange(http, '')).toBe('');
  const secure = await raw(https);
  const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c', 'latin1');
  secure.socket.write(Buffer.concat([head, Buffer.from([203, 0, 113, 7, 10, 0, 0, 1, 0, 1, 1, 0xbb])]));
  const answer = await overTls(https, { socket: secure.socket });
  expect(headersOf(answer)).toMatchObject({
    'x-real-ip': '203.0.113.7',
    'x-forwarded-port': '443',
    'x-forwarded-proto': 'https',
  });
  const before = backend.requests.length;
  route();
  expect(await exchange(http, GET)).toMatch(/^HTTP\/1\.1 200 /);
  expect(backend.requests.length).toBe(before + 1);
});

test('use-forwarded-headers believes trusted peers about address, scheme, port and host, and others about nothing', async () => {
  const { route, http } = await site();
  const asked = (fields: string) => exchange(http, GET.replace('Connection', `${fields}Connection`));
  const said =
    'X-Forwarded-For: 6.6.6.6, 198.51.100.7, 127.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Host: shop.example\r\n';
  route();
  expect(headersOf(await asked(said))).toMatchObject({
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-proto': 'http',
    'x-forwarded-host': 'a.example',
    'x-original-forwarded-for': '6.6.6.6, 198.51.100.7, 127.0.0.2',
  });
  const trusting = { 'use-forwarded-headers': 'true', 'proxy-real-ip-cidr': '127.0.0.0/8' };
  route({}, trusting);
  expect(headersOf(await asked(said))).toMatchObject({
    'x-real-ip': '198.51.100.7',
    'x-forwarded-for': '198.51.100.7',
    'x-forwarded-proto': 'https',
    'x-forwarded-scheme': 'https',
    'x-forwarded-port': '8443',
    'x-forwarded-host': 'shop.example',
    host: 'shop.example',
  });
  route({}, { ...trusting, 'compute-full-forwarded-for': 'true' });
  expect(headersOf(await asked(said))['x-forwarded-for']).toBe('6.6.6.6, 198.51.100.7, 127.0.0.2, 127.0.0.1');
  // Trusting everybody, as by default: the first of the list.
  route({}, { 'use-forwarded-headers': 'true' });
  expect(headersOf(await asked(said))['x-real-ip']).toBe('6.6.6.6');
  // What is no address ends the part of the list that is believed.
  expect(headersOf(await asked('X-Forwarded-For: 1.1.1.1, evil, 2.2.2.2\r\n'))['x-real-ip']).toBe('2.2.2.2');
  route({}, { 'use-forwarded-headers': 'true', 'proxy-real-ip-cidr': '10.0.0.0/8' });
  expect(headersOf(await asked(said))).toMatchObject({ 'x-real-ip': '127.0.0.1', 'x-forwarded-proto': 'http' });
  route({}, { 'enable-real-ip': 'true', 'forwarded-for-header': 'CF-Connecting-IP' });
  expect(headersOf(await asked(`CF-Connecting-IP: 198.51.100.8\r\n${said}`))).toMatchObject({
    'x-real-ip': '198.51.100.8',
    'x-forwarded-proto': 'http',
  });
  // The limits of a location go by the same address.
  route({ 'denylist-source-range': '198.51.100.7' }, trusting);
  expect(await asked(said)).toMatch(/^HTTP\/1\.1 403 /);
});

test('a redirect to HTTPS is not asked for where a trusted peer says that it was HTTPS', async () => {
  const { route, http } = await site();
  const asked = GET.replace('Connection', 'X-Forwarded-Proto: https\r\nConnection');
  route({ 'force-ssl-redirect': 'true' });
  expect(await exchange(http, asked)).toMatch(/^HTTP\/1\.1 308 /);
  route({ 'force-ssl-redirect': 'true' }, { 'use-forwarded-headers': 'true' });
  expect(await exchange(http, asked)).toMatch(/^HTTP\/1\.1 200 /);
});

const CLIENT = selfSigned('alice', ['alice'], Date.now(), 30);
const STRANGER = selfSigned('mallory', ['mallory'], Date.now(), 30);

function authorities(name: string, pem: string): SecretRecord {
  return { namespace: 'default', name, type: 'Opaque', data: new Map([['ca.crt', pem]]) };
}

test('client certificates: asked for by the host that wants them, judged for each request, and told to the backend', async () => {
  const { route, http, https, backend } = await site();
  const ca = [authorities('ca', CLIENT.cert)];
  const spoofed = GET.replace(
    'Connection',
    'ssl-client-verify: SUCCESS\r\nssl-client-subject-dn: CN=root\r\nConnection',
  );
  route({ 'auth-tls-secret': 'default/ca', 'auth-tls-pass-certificate-to-upstream': 'true' }, {}, ca);
  expect(await overTls(https, {})).toMatch(/^HTTP\/1\.1 400 /);
  expect(await overTls(https, STRANGER)).toMatch(/^HTTP\/1\.1 400 /);
  expect(await exchange(http, spoofed)).toMatch(/^HTTP\/1\.1 400 /);
  expect(backend.requests).toHaveLength(0);
  const told = headersOf(await overTls(https, CLIENT, spoofed));
  expect(told).toMatchObject({
    'ssl-client-verify': 'SUCCESS',
    'ssl-client-subject-dn': 'CN=alice',
    'ssl-client-issuer-dn': 'CN=alice',
  });
  expect(decodeURIComponent(told['ssl-client-cert'] ?? '')).toBe(CLIENT.cert);
  // Neither another name in the handshake nor another Host gets around it.
  expect(await overTls(https, { servername: 'b.example' })).toMatch(/^HTTP\/1\.1 421 /);
  expect(await overTls(https, CLIENT, GET.replace('a.example', 'b.example'))).toMatch(/^HTTP\/1\.1 200 /);
  expect(await overTls(https, {}, GET.replace('a.example', 'b.example'))).toMatch(/^HTTP\/1\.1 200 /);

  route({ 'auth-tls-secret': 'default/ca', 'auth-tls-verify-client': 'optional' }, {}, ca);
  expect(headersOf(await overTls(https, {}, spoofed))).toMatchObject({ 'ssl-client-verify': 'NONE' });
  expect(await overTls(https, STRANGER)).toMatch(/^HTTP\/1\.1 400 /);
  route({ 'auth-tls-secret': 'default/ca', 'auth-tls-verify-client': 'optional_no_ca' }, {}, ca);
  expect(headersOf(await overTls(https, STRANGER))['ssl-client-verify']).toMatch(/^FAILED:/);
  route({ 'auth-tls-secret': 'default/ca', 'auth-tls-error-page': 'https://help.example/certs' }, {}, ca);
  expect(await overTls(https, {})).toMatch(/^HTTP\/1\.1 302 [^]*Location: https:\/\/help\.example\/certs/);
  route({ 'auth-tls-secret': 'default/ca', 'auth-tls-match-cn': 'CN=(bob|carol)' }, {}, ca);
  expect(await overTls(https, CLIENT)).toMatch(/^HTTP\/1\.1 403 /);
  route({ 'auth-tls-secret': 'default/ca', 'auth-tls-match-cn': 'CN=(bob|alice)' }, {}, ca);
  expect(await overTls(https, CLIENT)).toMatch(/^HTTP\/1\.1 200 /);
});

test('authorities that change count for connections that are open, and ones that cannot be used shut the host', async () => {
  const { route, https } = await site();
  const annotations = { 'auth-tls-secret': 'default/ca' };
  route(annotations, {}, [authorities('ca', CLIENT.cert)]);
  const session = connectHttp2(`https://127.0.0.1:${https}`, {
    servername: 'a.example',
    rejectUnauthorized: false,
    ...CLIENT,
  });
  onTestFinished(() => session.destroy());
  const ask = () =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':path': '/', ':authority': 'a.example' });
      stream.on('response', (headers) => resolve(headers[':status']));
      stream.on('error', reject);
      stream.resume();
    });
  expect(await ask()).toBe(200);
  route(annotations, {}, [authorities('ca', STRANGER.cert)]);
  expect(await ask()).toBe(421);
  expect(await overTls(https, CLIENT)).toMatch(/^HTTP\/1\.1 400 /);
  for (const secrets of [[], [authorities('ca', 'rubbish')]]) {
    route(annotations, {}, secrets);
    expect(await overTls(https, CLIENT)).toMatch(/^HTTP\/1\.1 503 /);
  }
  expect(await overTls(https, {}, GET.replace('a.example', 'b.example'))).toMatch(/^HTTP\/1\.1 200 /);
});

test.each([
  [{ 'auth-tls-verify-client': 'on' }],
  [{ 'auth-tls-secret': 'default/ca', 'auth-tls-verify-client': 'maybe' }],
  [{ 'auth-tls-secret': 'other/ca' }],
  [{ 'auth-tls-secret': 'default/ca', 'auth-tls-match-cn': '(' }],
])('%j cannot be carried out and shuts the location', async (annotations) => {
  const { route, http } = await site();
  route(annotations, {}, [authorities('ca', CLIENT.cert)]);
  expect(await exchange(http, GET)).toMatch(/^HTTP\/1\.1 503 /);
});

test('ssl-passthrough: the backend has the handshake, the other hosts of the port are served here', async () => {
  const own = selfSigned('inside.example', ['inside.example'], Date.now(), 30);
  const server = createTlsServer(own, (socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ninside`));
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const plane = await startPlane({ https: LISTEN, sslPassthrough: true });
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [
        ingress({
          name: 'p',
          rules: [{ host: 'p.example', paths: [{ service: 'inside' }] }],
          annotations: { 'ssl-passthrough': 'true' },
        }),
        ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ service: 'echo' }] }] }),
        ingress({
          name: 'gone',
          rules: [{ host: 'gone.example', paths: [{ service: 'none' }] }],
          annotations: { 'ssl-passthrough': 'true' },
        }),
      ],
      services: [
        service({ name: 'inside', endpoints: ['127.0.0.1:1', `127.0.0.1:${(server.address() as AddressInfo).port}`] }),
        service({ name: 'echo', endpoints: [backend.address] }),
      ],
    }),
  );
  const port = plane.addresses.https?.port ?? 0;
  for (let i = 0; i < 3; i++) {
    expect(
      await overTls(port, {
        servername: 'P.example',
        ca: own.cert,
        checkServerIdentity: () => undefined,
        rejectUnauthorized: true,
      }),
    ).toMatch(/inside$/);
  }
  expect(await overTls(port, {})).toMatch(/^HTTP\/1\.1 200 [^]*"url":"\/"/);
  await expect(overTls(port, { servername: 'gone.example' })).rejects.toThrow(/ECONNRESET|disconnected|socket/);
  // A client that says half of a hello and no more holds nobody up.
  const slow = await raw(port);
  slow.socket.write(Buffer.from([22, 3, 1, 0, 200, 1]));
  expect(await overTls(port, {})).toMatch(/^HTTP\/1\.1 200 /);
});

test('ssl-protocols, ssl-ciphers and use-http2 of the ConfigMap count from the next handshake on', async () => {
  const { route, https } = await site();
  const versionOf = (options: ConnectionOptions): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({
        host: '127.0.0.1',
        port: https,
        servername: 'a.example',
        rejectUnauthorized: false,
        ALPNProtocols: ['h2', 'http/1.1'],
        ...options,
      });
      onTestFinished(() => void socket.destroy());
      socket.on('secureConnect', () =>
        resolve(`${socket.getProtocol()} ${String(socket.alpnProtocol)} ${socket.getCipher().name}`),
      );
      socket.on('error', () => resolve('refused'));
    });
  route();
  expect(await versionOf({})).toMatch(/^TLSv1\.3 h2 /);
  route({}, { 'ssl-protocols': 'TLSv1.2', 'use-http2': 'false', 'ssl-ciphers': 'ECDHE-ECDSA-AES256-GCM-SHA384' });
  expect(await versionOf({})).toBe('TLSv1.2 http/1.1 ECDHE-ECDSA-AES256-GCM-SHA384');
  expect(await versionOf({ ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' })).toBe('refused');
  route({}, { 'ssl-protocols': 'TLSv1.3', 'ssl-ciphers': 'NONSENSE' });
  expect(await versionOf({})).toMatch(/^TLSv1\.3 h2 /);
  expect(await versionOf({ maxVersion: 'TLSv1.2' })).toBe('refused');
});
