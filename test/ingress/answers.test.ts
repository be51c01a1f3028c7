// What becomes of answers on their way: proxy-redirect, proxy-cookie, limit-rate; and who is asked for them: ewma, AUTO_HTTP.

import { createServer as createTlsServer } from 'node:https';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import { LOOPBACK, exchange, httpPort, portOf, startBackend, startPlane } from './plane.ts';
import { ask, site } from './site.ts';
import { ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n';

/** A backend that answers each request with these fields, behind one Ingress. */
async function answering(
  fields: Readonly<Record<string, string | readonly string[]>>,
  annotations: Readonly<Record<string, string>>,
  settings: Readonly<Record<string, string>> = {},
) {
  const backend = await startBackend((_request, response) => {
    for (const [name, value] of Object.entries(fields)) response.setHeader(name, value);
    response.writeHead(302).end();
  });
  const plane = await startPlane({ configMap: 'system/settings' });
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ service: 'echo' }] }], annotations })],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
      configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(settings)) }],
    }),
  );
  return (await ask(httpPort(plane), {})).headers;
}

test.each([
  ['http://app.internal:8080/login', 'http://app.internal:8080/', 'https://$host/', 'https://a.example/login'],
  ['/app/login', '/app/', '/', '/login'],
  ['http://other.example/login', 'http://app.internal:8080/', '/', 'http://other.example/login'],
  ['http://app.internal/login', 'off', 'https://x/', 'http://app.internal/login'],
  ['http://app.internal/login', 'default', 'https://x/', 'http://app.internal/login'],
])('proxy-redirect: Location %s with %s %s becomes %s', async (location, from, to, expected) => {
  const annotations = { 'proxy-redirect-from': from, 'proxy-redirect-to': to };
  expect((await answering({ location }, annotations)).location).toBe(expected);
  const refresh = await answering({ refresh: `5; url=${location}` }, annotations);
  expect(refresh['refresh']).toBe(`5; url=${expected}`);
});

test('proxy-cookie-domain and proxy-cookie-path change these attributes of cookies, and nothing else of them', async () => {
  const cookies = [
    'a=/one/; Domain=.LOCALHOST; Path=/one/two; Secure',
    'b=localhost; domain=other.example; path=/three; HttpOnly',
    'c=1',
  ];
  const annotations = { 'proxy-cookie-domain': 'localhost example.org', 'proxy-cookie-path': '/one/ /' };
  const got = await answering({ 'set-cookie': cookies, 'x-path': '/one/' }, annotations);
  expect(got['set-cookie']).toEqual([
    'a=/one/; Domain=example.org; Path=/two; Secure',
    'b=localhost; domain=other.example; path=/three; HttpOnly',
    'c=1',
  ]);
  expect(got['x-path']).toBe('/one/');
});

test('the ConfigMap has the same keys, and an annotation goes before it', async () => {
  const settings = { 'proxy-cookie-path': '/one/ /', 'proxy-redirect-from': '/x/', 'proxy-redirect-to': '/y/' };
  const fields = { 'set-cookie': ['a=1; Path=/one/'], location: '/x/z' };
  const got = await answering(fields, {}, settings);
  expect([got['set-cookie'], got.location]).toEqual([['a=1; Path=/'], '/y/z']);
  const off = await answering(fields, { 'proxy-cookie-path': 'off', 'proxy-redirect-from': 'off' }, settings);
  expect([off['set-cookie'], off.location]).toEqual([['a=1; Path=/one/'], '/x/z']);
});

test('a redirect to a path is sent whole, unless relative-redirects is on', async () => {
  const annotations = { 'permanent-redirect': '/new' };
  const { ask: go, update } = await site(annotations);
  expect((await go({ host: 'a.example' })).headers.location).toBe('http://a.example/new');
  update({ ...annotations, 'relative-redirects': 'true' });
  expect((await go()).headers.location).toBe('/new');
  const keyed = await site(annotations, {}, { settings: { 'relative-redirects': 'true' } });
  expect((await keyed.ask()).headers.location).toBe('/new');
});

test('limit-rate holds a body back to its rate after limit-rate-after, and the whole of it comes', async () => {
  const body = Buffer.alloc(1024 * 1024, 'a');
  const backend = await startBackend((_request, response) => void response.end(body));
  const plane = await startPlane();
  const timed = async (annotations: Readonly<Record<string, string>>): Promise<readonly [number, number]> => {
    plane.update(
      snapshot({
        ingresses: [ingress({ name: 'a', defaultBackend: { service: 'echo' }, annotations })],
        services: [service({ name: 'echo', endpoints: [backend.address] })],
      }),
    );
    const started = performance.now();
    const answer = await exchange(httpPort(plane), GET);
    return [answer.length, performance.now() - started];
  };
  // All but the last piece that is read, of 64 KB at most, has to wait for its time: at least 0.7 s at 1 MB a second.
  const [length, ms] = await timed({ 'limit-rate': '1024', 'limit-rate-after': '128' });
  expect(length).toBeGreaterThan(body.length);
  expect(ms).toBeGreaterThan(700);
  const [whole] = await timed({ 'limit-rate': '1024', 'limit-rate-after': '4096' });
  expect(whole).toBeGreaterThan(body.length);
});

test('load-balance ewma serves, and measures each endpoint that it asks', async () => {
  const backends = [await startBackend(), await startBackend(), await startBackend()];
  const plane = await startPlane({ configMap: 'system/settings' });
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', defaultBackend: { service: 'echo' } })],
      services: [service({ name: 'echo', endpoints: backends.map(({ address }) => address) })],
      configMaps: [{ namespace: 'system', name: 'settings', data: new Map([['load-balance', 'ewma']]) }],
    }),
  );
  for (let i = 0; i < 30; i++) expect(await exchange(httpPort(plane), GET)).toMatch(/^HTTP\/1\.1 200 /);
  // By turns each would have had ten.
  expect(backends.map(({ requests }) => requests.length).reduce((sum, count) => sum + count, 0)).toBe(30);
  expect(backends.filter(({ requests }) => requests.length > 0).length).toBeGreaterThan(1);
});

test('backend-protocol AUTO_HTTP: TLS to the backend for those who come over TLS', async () => {
  const { cert, key } = selfSigned('backend', ['backend'], Date.now(), 30);
  const plain = await startBackend((_request, response) => void response.end('plain'));
  const secure = createTlsServer({ cert, key }, (_request, response) => void response.end('secure'));
  await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    secure.closeAllConnections();
    secure.close();
  });
  const plane = await startPlane({ https: { address: LOOPBACK, port: 0 } });
  const route = (endpoint: string): void =>
    plane.update(
      snapshot({
        ingresses: [
          ingress({
            name: 'a',
            defaultBackend: { service: 'echo' },
            annotations: { 'backend-protocol': 'AUTO_HTTP' },
          }),
        ],
        services: [service({ name: 'echo', endpoints: [endpoint] })],
      }),
    );
  route(plain.address);
  expect(await exchange(httpPort(plane), GET)).toMatch(/ 200 OK[^]*plain$/);
  route(`127.0.0.1:${portOf(secure)}`);
  const answer = await new Promise<string>((resolve, reject) => {
    let text = '';
    const socket = connect({ host: '127.0.0.1', port: plane.addresses.https?.port ?? 0, rejectUnauthorized: false });
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    socket.on('close', () => resolve(text));
    socket.on('error', reject);
    socket.on('secureConnect', () => socket.write(GET));
  });
  expect(answer).toMatch(/ 200 OK[^]*secure/);
});

test('limit-conn-zone-variable says whose requests count together', async () => {
  const settings = { 'limit-conn-zone-variable': '$http_x_user' };
  const { ask: go } = await site({ 'limit-rpm': '1', 'limit-burst-multiplier': '1' }, {}, { settings });
  const statuses: number[] = [];
  for (const user of ['a', 'a', 'a', 'b']) statuses.push((await go({ headers: { 'x-user': user } })).status);
  expect(statuses).toEqual([200, 200, 503, 200]);
});

test('mirror-target gets a copy of each request with its body, and nobody waits for it or sees what it answers', async () => {
  const bodies: string[] = [];
  const mirror = await startBackend((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString('latin1')));
    request.on('end', () => {
      bodies.push(body);
      response.writeHead(500).end('nobody sees this');
    });
  });
  const {
    ask: go,
    backend,
    update,
  } = await site({
    'mirror-target': `http://${mirror.address}/copy$request_uri`,
    'mirror-host': 'mirror.example',
  });
  const large = 'x'.repeat(300_000);
  expect((await go({ path: '/a?b=c' })).status).toBe(200);
  expect((await go({ method: 'POST', path: '/small', body: 'small' })).status).toBe(200);
  expect((await go({ method: 'POST', path: '/large', body: large })).status).toBe(200);
  await eventually('three copies', () => bodies.length === 3);
  expect(mirror.requests.map(({ method, url, headers }) => `${method} ${headers.host} ${url}`).sort()).toEqual([
    'GET mirror.example /copy/a?b=c',
    'POST mirror.example /copy/large',
    'POST mirror.example /copy/small',
  ]);
  expect(bodies.map((body) => body.length).sort((a, b) => a - b)).toEqual([0, 5, 300_000]);
  expect(mirror.requests.every(({ headers }) => headers['x-forwarded-host'] === 'a.example')).toBe(true);
  // Without the body; and what the doors refuse is not copied.
  update({ 'mirror-target': `http://${mirror.address}`, 'mirror-request-body': 'off' });
  expect((await go({ method: 'POST', path: '/bare', body: 'small' })).status).toBe(200);
  await eventually('a fourth copy', () => bodies.length === 4);
  const bare = mirror.requests.at(-1);
  expect([bare?.url, bodies.at(-1), bare?.headers['content-length']]).toEqual(['/bare', '', undefined]);
  update({ 'mirror-target': `http://${mirror.address}`, 'denylist-source-range': '127.0.0.0/8' });
  expect((await go()).status).toBe(403);
  // A mirror that cannot be reached is nobody's business.
  update({ 'mirror-target': 'http://127.0.0.1:1/' });
  expect((await go()).status).toBe(200);
  expect([backend.requests.length, mirror.requests.length]).toEqual([5, 4]);
});

test.each([
  ['a host that is not fixed', 'http://$host/'],
  ['a variable that is not known', 'http://m.example/$secret'],
  ['what is no URL', 'm.example'],
])('mirror-target with %s has no effect', async (_what, target) => {
  const { ask: go } = await site({ 'mirror-target': target });
  expect((await go()).status).toBe(200);
});
