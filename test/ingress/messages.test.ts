// ConfigMap keys of message heads, of connections to endpoints and of TLS sessions.

import { connect, type TLSSocket } from 'node:tls';
import { randomBytes } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { LOOPBACK, exchange, httpPort, raw, startBackend, startPlane, startRawBackend } from './plane.ts';
import { site } from './site.ts';
import { ingress, service, snapshot } from './world.ts';

const keyed = (settings: Readonly<Record<string, string>>) => site({}, {}, { settings });

test('generate-request-id: false passes an id on and makes none', async () => {
  const { ask } = await keyed({ 'generate-request-id': 'false' });
  expect((await ask()).seen.headers['x-request-id']).toBeUndefined();
  expect((await ask({ headers: { 'x-request-id': 'mine' } })).seen.headers['x-request-id']).toBe('mine');
  const usual = await keyed({});
  expect((await usual.ask()).seen.headers['x-request-id']).toMatch(/^[0-9a-f]{32}$/);
});

test('proxy-add-original-uri-header tells the backend the path and query, whatever the client says there', async () => {
  const { ask } = await keyed({ 'proxy-add-original-uri-header': 'true' });
  const got = await ask({ path: '/a?b=c', headers: { 'x-original-uri': '/admin' } });
  expect(got.seen.headers['x-original-uri']).toBe('/a?b=c');
});

test('what the client says in X-Forwarded-Host is kept in X-Original-Forwarded-Host, and nothing that it says there itself', async () => {
  const { ask } = await keyed({});
  const got = await ask({ headers: { 'x-forwarded-host': 'b.example', 'x-original-forwarded-host': 'c.example' } });
  expect(got.seen.headers['x-forwarded-host']).toBe('a.example');
  expect(got.seen.headers['x-original-forwarded-host']).toBe('b.example');
});

test('enable-underscores-in-headers lets names with underscores through, but no twins of what the proxy writes', async () => {
  const headers = { x_own: '1', 'odd.name': '2', x_forwarded_for: '6.6.6.6', transfer_encoding: 'chunked' };
  const own = ({ x_own, 'odd.name': odd, x_forwarded_for, transfer_encoding }: Record<string, string>) => [
    x_own,
    odd,
    x_forwarded_for,
    transfer_encoding,
  ];
  const none = [undefined, undefined, undefined, undefined];
  expect(own((await (await keyed({})).ask({ headers })).seen.headers)).toEqual(none);
  const underscores = await keyed({ 'enable-underscores-in-headers': 'true' });
  expect(own((await underscores.ask({ headers })).seen.headers)).toEqual(['1', ...none.slice(1)]);
  const all = await keyed({ 'ignore-invalid-headers': 'false' });
  expect(own((await all.ask({ headers })).seen.headers)).toEqual(['1', '2', undefined, undefined]);
});

test('large-client-header-buffers bounds the request line and the head, at once', async () => {
  const { ask } = await keyed({ 'large-client-header-buffers': '2 16k' });
  expect((await ask({ path: `/${'a'.repeat(12_000)}` })).status).toBe(200);
  const { port, ask: askSmall } = await keyed({ 'large-client-header-buffers': '1 4k' });
  expect((await askSmall({ path: `/${'a'.repeat(5000)}` })).status).toBe(414);
  expect((await askSmall({ headers: { cookie: 'a'.repeat(3000) } })).status).toBe(200);
  const large = `GET / HTTP/1.1\r\nHost: a.example\r\nCookie: ${'a'.repeat(5000)}\r\n\r\n`;
  expect(await exchange(port, large)).toMatch(/^HTTP\/1\.1 431 /);
  const refused = await keyed({ 'large-client-header-buffers': '4000 1m' });
  expect((await refused.ask({ path: `/${'a'.repeat(9000)}` })).status).toBe(414);
});

test('the head of an answer may have 256 KB, whatever proxy-buffer-size says', async () => {
  const backend = await startRawBackend(
    () => `HTTP/1.1 200 OK\r\nX-Large: ${'a'.repeat(200_000)}\r\nContent-Length: 0\r\n\r\n`,
  );
  const plane = await startPlane();
  plane.update(
    snapshot({
      ingresses: [
        ingress({ name: 'a', defaultBackend: { service: 'raw' }, annotations: { 'proxy-buffer-size': '4k' } }),
      ],
      services: [service({ name: 'raw', endpoints: [backend] })],
    }),
  );
  const answer = await exchange(httpPort(plane), 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(answer.length).toBeGreaterThan(200_000);
});

test('Server: that of the backend is taken away as in ingress-nginx, unless it is asked for; server-tokens names the proxy', async () => {
  const backend = await startBackend((_request, response) => {
    response.writeHead(200, { server: 'backend/1.0' }).end();
  });
  const plane = await startPlane({ configMap: 'system/settings', conformance: false });
  const serverWith = async (keys: Readonly<Record<string, string>>): Promise<string | undefined> => {
    plane.update(
      snapshot({
        ingresses: [ingress({ name: 'a', defaultBackend: { service: 'echo' } })],
        services: [service({ name: 'echo', endpoints: [backend.address] })],
        configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(keys)) }],
      }),
    );
    const answer = await exchange(httpPort(plane), 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    return /^Server: (.*)$/im.exec(answer)?.[1]?.trim();
  };
  expect(await serverWith({})).toBeUndefined();
  expect(await serverWith({ 'server-tokens': 'true' })).toBe('fairlead');
  expect(await serverWith({ 'allow-backend-server-header': 'true' })).toBe('backend/1.0');
  expect(await serverWith({ 'allow-backend-server-header': 'true', 'server-tokens': 'true' })).toBe('backend/1.0');
});

test('upstream-keepalive-requests and upstream-keepalive-time end a connection to an endpoint after an answer', async () => {
  const spent = await keyed({ 'upstream-keepalive-requests': '2' });
  for (let i = 0; i < 6; i++) await spent.ask();
  expect(spent.backend.counts.accepted).toBe(3);
  const usual = await keyed({ 'upstream-keepalive-time': '1h 30m' });
  for (let i = 0; i < 6; i++) await usual.ask();
  expect(usual.backend.counts.accepted).toBe(1);
  const old = await keyed({ 'upstream-keepalive-time': '1ms' });
  // Time is looked at in ticks: a connection is older than a millisecond from the next one on.
  for (let i = 0; i < 200 && old.backend.counts.accepted < 2; i++) await old.ask();
  expect(old.backend.counts.accepted).toBeGreaterThan(1);
});

/** A plane with TLS for any name, and one handshake for `name`. */
async function tlsPlane(keys: Readonly<Record<string, string>>) {
  const backend = await startBackend();
  const plane = await startPlane({ https: { address: LOOPBACK, port: 0 }, configMap: 'system/settings' });
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ service: 'echo' }] }] })],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
      configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(keys)) }],
    }),
  );
  return plane.addresses.https?.port ?? 0;
}

interface Handshake {
  readonly reused: boolean;
  readonly session: Buffer | undefined;
  readonly error: string | undefined;
}

/** TLS 1.2, whose ticket is there with the handshake. */
function handshake(port: number, servername: string, session?: Buffer): Promise<Handshake> {
  return new Promise((resolve) => {
    const socket: TLSSocket = connect({
      host: '127.0.0.1',
      port,
      servername,
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
      ...(session ? { session } : {}),
    });
    onTestFinished(() => void socket.destroy());
    socket.on('secureConnect', () => {
      resolve({ reused: socket.isSessionReused(), session: socket.getSession(), error: undefined });
      socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ reused: false, session: undefined, error: error.code ?? error.message }),
    );
  });
}

test('ssl-reject-handshake refuses names that no Ingress has, and those that give none', async () => {
  const port = await tlsPlane({ 'ssl-reject-handshake': 'true' });
  expect((await handshake(port, 'a.example')).error).toBeUndefined();
  expect((await handshake(port, 'b.example')).error).toContain('UNRECOGNIZED_NAME');
  expect((await handshake(port, '')).error).toContain('UNRECOGNIZED_NAME');
  expect((await handshake(await tlsPlane({}), 'b.example')).error).toBeUndefined();
});

test("replicas with the same ssl-session-ticket-key take each other's sessions", async () => {
  const key = randomBytes(80).toString('base64');
  const [one, two] = [
    await tlsPlane({ 'ssl-session-ticket-key': key }),
    await tlsPlane({ 'ssl-session-ticket-key': key }),
  ];
  const { session } = await handshake(one, 'a.example');
  expect((await handshake(two, 'a.example', session)).reused).toBe(true);
  const other = await tlsPlane({ 'ssl-session-ticket-key': randomBytes(80).toString('base64') });
  expect((await handshake(other, 'a.example', session)).reused).toBe(false);
});

test('ssl-session-timeout ends a session', async () => {
  const port = await tlsPlane({ 'ssl-session-timeout': '1' });
  const { session } = await handshake(port, 'a.example');
  // OpenSSL counts whole seconds.
  let reused = true;
  for (let tries = 0; tries < 100 && reused; tries++) {
    ({ reused } = await handshake(port, 'a.example', session));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(reused).toBe(false);
});

test('ssl-ecdh-curve is what key exchange is limited to', async () => {
  const port = await tlsPlane({ 'ssl-ecdh-curve': 'secp384r1' });
  const curve = await new Promise<unknown>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername: 'a.example', rejectUnauthorized: false });
    onTestFinished(() => void socket.destroy());
    socket.on('secureConnect', () => resolve((socket.getEphemeralKeyInfo() as { name?: string } | null)?.name));
    socket.on('error', reject);
  });
  expect(curve).toBe('secp384r1');
});

test('snippets: variables, patterns, statuses and locations of their own', async () => {
  const { ask } = await site(
    {
      'configuration-snippet': `
        set $who "you-$http_x_who";
        proxy_set_header X-Who $who;
        more_set_headers -s "404 500" "X-On-Error: yes";
        more_set_headers "X-Wild-One: 1" "X-Kept: 2";
        more_clear_headers "X-Wild-*";
        more_clear_input_headers "X-Secret-*";`,
      'server-snippet': 'location = /robots.txt { return 200 "Disallow: /"; } location ~* \\.php$ { return 404; }',
    },
    {},
    { settings: { 'allow-snippet-annotations': 'true', 'annotations-risk-level': 'Critical' } },
  );
  const got = await ask({ headers: { 'x-who': 'there', 'x-secret-one': 's' } });
  expect(got.seen.headers['x-who']).toBe('you-there');
  expect(got.seen.headers['x-secret-one']).toBeUndefined();
  expect([got.headers['x-wild-one'], got.headers['x-kept'], got.headers['x-on-error']]).toEqual([
    undefined,
    '2',
    undefined,
  ]);
  expect((await ask({ path: '/robots.txt' })).text).toBe('Disallow: /');
  expect((await ask({ path: '/robots.txt/x' })).status).toBe(200);
  expect((await ask({ path: '/a/INDEX.PHP' })).status).toBe(404);
});

test('a ConfigMap snippet that cannot be carried out shuts every location', async () => {
  expect((await (await keyed({ 'location-snippet': 'proxy_pass http://evil;' })).ask()).status).toBe(503);
  const { ask } = await keyed({ 'location-snippet': 'more_set_headers "X-All: yes";' });
  expect((await ask()).headers['x-all']).toBe('yes');
});

test('a bad value of a key leaves the default in force', async () => {
  const { ask, port } = await keyed({
    'upstream-keepalive-time': 'soon',
    'ssl-session-ticket-key': 'short',
    'ssl-ecdh-curve': 'no-such-curve',
    'generate-request-id': 'perhaps',
  });
  expect((await ask()).seen.headers['x-request-id']).toBeDefined();
  const connection = await raw(port);
  connection.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
  await connection.until(/ 200 OK/);
});
