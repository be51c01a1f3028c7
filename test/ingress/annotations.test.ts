// The annotations of ingress-nginx, each with requests to a running plane: facts of its own suite and of its documentation.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { expect, onTestFinished, test } from 'vitest';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import { createLogger } from '../../src/observe/log.ts';
import { httpPort, portOf, startBackend, startPlane, type TestBackend } from './plane.ts';
import { ask, site } from './site.ts';
import { ingress, service, snapshot, type PathSpec, type World } from './world.ts';
import { ip } from '../support/values.ts';

const TLS = { tls: [{ hosts: ['a.example'], secretName: 's' }] };

test('rewrite-target puts the groups of the path in, keeps the query, and sends the prefix only with it', async () => {
  const paths: PathSpec[] = [{ path: '/something(/|$)(.*)', pathType: 'ImplementationSpecific', service: 'echo' }];
  const { ask: go } = await site({ 'rewrite-target': '/$2', 'x-forwarded-prefix': '/something' }, { paths });
  const got = await go({ path: '/Something/new/a?x=1' });
  expect(got.seen.url).toBe('/new/a?x=1');
  expect(got.seen.headers['x-forwarded-prefix']).toBe('/something');
  expect((await go({ path: '/something' })).seen.url).toBe('/');
  expect((await go({ path: '/other' })).status).toBe(404);
});

test('a rewrite that makes a dot segment of what a client sends is refused', async () => {
  const paths: PathSpec[] = [{ path: '/api/(.)(.*)', pathType: 'ImplementationSpecific', service: 'echo' }];
  const { ask: go } = await site({ 'rewrite-target': '/public/.$1/$2' }, { paths });
  expect((await go({ path: '/api/xy' })).seen.url).toBe('/public/.x/y');
  expect((await go({ path: '/api/.hidden' })).status).toBe(400);
  expect((await go({ path: '/api/.%2fhidden' })).status).toBe(400);
});

test('an absolute rewrite-target answers 302', async () => {
  const paths: PathSpec[] = [{ path: '/original(?:/(.*))?', pathType: 'ImplementationSpecific', service: 'echo' }];
  const { ask: go } = await site({ 'rewrite-target': 'https://bar.example.org/$1' }, { paths });
  const got = await go({ path: '/original/other' });
  expect([got.status, got.headers.location]).toEqual([302, 'https://bar.example.org/other']);
  expect((await go({ path: '/original' })).headers.location).toBe('https://bar.example.org/');
});

test('one Ingress with use-regex makes expressions of all paths of the host: no case, longest text first', async () => {
  const other = ingress({
    name: 'b',
    rules: [{ host: 'a.example', paths: [{ path: '/foo.+', pathType: 'ImplementationSpecific', service: 'echo' }] }],
    annotations: { 'use-regex': 'true', 'rewrite-target': '/new/backend' },
  });
  const { ask: go } = await site(
    {},
    { paths: [{ path: '/foo', pathType: 'Exact', service: 'echo' }] },
    { ingresses: [other] },
  );
  expect((await go({ path: '/foo/bar/bar' })).seen.url).toBe('/new/backend');
  expect((await go({ path: '/FOO' })).seen.url).toBe('/FOO');
});

test('an expression that linear time cannot run shuts what begins like it, and nothing else', async () => {
  const paths: PathSpec[] = [
    { path: '/admin(?=x)', pathType: 'ImplementationSpecific', service: 'echo' },
    { path: '/', pathType: 'Prefix', service: 'echo' },
  ];
  const { ask: go } = await site({ 'use-regex': 'true' }, { paths });
  expect((await go({ path: '/admin/x' })).status).toBe(503);
  expect((await go({ path: '/shop' })).status).toBe(200);
});

const REDIRECTS: readonly [string, Record<string, string>, string, number, string | undefined, boolean?][] = [
  ['app-root: / alone, without its query', { 'app-root': '/dash' }, '/?a=b', 302, 'http://a.example/dash'],
  ['app-root: not below it', { 'app-root': '/dash' }, '/other', 200, undefined],
  ['permanent-redirect', { 'permanent-redirect': 'http://b.example' }, '/x', 301, 'http://b.example'],
  [
    'permanent-redirect-code',
    { 'permanent-redirect': 'http://b', 'permanent-redirect-code': '308' },
    '/',
    308,
    'http://b',
  ],
  [
    'a code that is none: 301',
    { 'permanent-redirect': 'http://b', 'permanent-redirect-code': '200' },
    '/',
    301,
    'http://b',
  ],
  ['variables', { 'permanent-redirect': 'https://b.example$request_uri' }, '/x?y=1', 301, 'https://b.example/x?y=1'],
  ['temporal wins', { 'permanent-redirect': 'http://b', 'temporal-redirect': 'http://c' }, '/', 302, 'http://c'],
  [
    'temporal-redirect-code',
    { 'temporal-redirect': 'http://c', 'temporal-redirect-code': '307' },
    '/',
    307,
    'http://c',
  ],
  [
    'force-ssl-redirect keeps path and query',
    { 'force-ssl-redirect': 'true' },
    '/p?k=v',
    308,
    'https://a.example/p?k=v',
  ],
  ['ssl-redirect without tls: none', { 'ssl-redirect': 'true' }, '/', 200, undefined],
  ['ssl-redirect is the default with tls', {}, '/', 308, 'https://a.example', true],
  ['ssl-redirect false', { 'ssl-redirect': 'false' }, '/', 200, undefined, true],
  ['preserve-trailing-slash', { 'preserve-trailing-slash': 'true' }, '/', 308, 'https://a.example/', true],
  ['ACME challenges are never sent to HTTPS', {}, '/.well-known/acme-challenge/x', 200, undefined, true],
];

test.each(REDIRECTS)('redirects: %s', async (_what, annotations, path, status, location, tls) => {
  const { ask: go } = await site(annotations, tls ? TLS : {});
  const got = await go({ path });
  expect([got.status, got.headers.location]).toEqual([status, location]);
});

test('server-alias names the whole host; a name that is a host of its own keeps its routes; www is redirected', async () => {
  const others = [
    ingress({ name: 'b', rules: [{ host: 'a.example', paths: [{ path: '/b', service: 'echo' }] }] }),
    ingress({ name: 'c', rules: [{ host: 'own.example', paths: [{ path: '/own', service: 'echo' }] }] }),
  ];
  const annotations = { 'server-alias': 'bar.example, own.example', 'from-to-www-redirect': 'true' };
  const { ask: go } = await site(annotations, { paths: [{ path: '/a', service: 'echo' }] }, { ingresses: others });
  const got = await go({ host: 'bar.example', path: '/b' });
  expect([got.status, got.seen.headers['host']]).toEqual([200, 'bar.example']);
  expect((await go({ host: 'own.example', path: '/a' })).status).toBe(404);
  const www = await go({ host: 'www.a.example:8080', path: '/a?x=1' });
  expect([www.status, www.headers.location]).toEqual([308, 'http://a.example:8080/a?x=1']);
});

test('proxy-body-size: 1m where nobody says, more or less by annotation, with and without a length', async () => {
  const { ask: go, update } = await site({});
  const post = (size: number, headers: Record<string, string> = {}): Promise<number> =>
    go({ method: 'POST', body: 'x'.repeat(size), headers }).then(({ status }) => status);
  expect([await post(1024 * 1024), await post(1024 * 1024 + 1)]).toEqual([200, 413]);
  update({ 'proxy-body-size': '1k' });
  expect([await post(500), await post(2048)]).toEqual([200, 413]);
  expect(await post(2048, { 'transfer-encoding': 'chunked' })).toBe(413);
  update({ 'proxy-body-size': '0' });
  expect(await post(2 * 1024 * 1024)).toBe(200);
});

test('proxy-read-timeout ends the wait for an answer with 504', async () => {
  const silent = await startBackend(() => {});
  const more = { services: [service({ name: 'silent', endpoints: [silent.address] })] };
  const { ask: go } = await site({ 'proxy-read-timeout': '1' }, { paths: [{ service: 'silent' }] }, more);
  expect((await go()).status).toBe(504);
});

test('proxy-next-upstream http_503 sends the request again with its body, as often as the tries allow', async () => {
  let failures = 2;
  let requests = 0;
  const flaky = await startBackend((request: IncomingMessage, response: ServerResponse) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      requests++;
      response.statusCode = failures-- > 0 ? 503 : 200;
      response.end(body);
    });
  });
  const more = { services: [service({ name: 'flaky', endpoints: [flaky.address] })] };
  const annotations = { 'proxy-next-upstream': 'error timeout http_503', 'proxy-next-upstream-tries': '3' };
  const { ask: go } = await site(annotations, { paths: [{ service: 'flaky' }] }, more);
  const got = await go({ method: 'PUT', body: 'b'.repeat(500) });
  expect([got.status, got.text.length, requests]).toEqual([200, 500, 3]);
  [failures, requests] = [9, 0];
  expect([(await go({ method: 'PUT' })).status, requests]).toEqual([503, 3]);
  [failures, requests] = [9, 0];
  expect([(await go({ method: 'POST', body: 'x' })).status, requests]).toEqual([503, 1]);
});

test('upstream-vhost replaces Host for the backend', async () => {
  const { ask: go } = await site({ 'upstream-vhost': 'inner.example' });
  const { seen } = await go();
  expect([seen.headers['host'], seen.headers['x-forwarded-host']]).toEqual(['inner.example', 'a.example']);
});

const LISTS: readonly [string, Record<string, string>, number][] = [
  ['an allow list without the client', { 'allowlist-source-range': '10.0.0.0/8' }, 403],
  ['an allow list with the client', { 'whitelist-source-range': '10.0.0.0/8, 127.0.0.1' }, 200],
  [
    'allowlist wins over whitelist',
    { 'whitelist-source-range': '127.0.0.1', 'allowlist-source-range': '10.0.0.1' },
    403,
  ],
  ['a deny list with the client', { 'denylist-source-range': '127.0.0.0/8' }, 403],
  ['a deny list without the client', { 'denylist-source-range': '10.0.0.0/8' }, 200],
  ['deny goes before allow', { 'denylist-source-range': '127.0.0.1', 'allowlist-source-range': '127.0.0.1' }, 403],
  ['a list that cannot be read shuts the location', { 'denylist-source-range': 'nonsense' }, 503],
];

test.each(LISTS)('address lists: %s', async (_what, annotations, status) => {
  const { ask: go } = await site(annotations);
  expect((await go({ headers: { 'x-forwarded-for': '10.0.0.1' } })).status).toBe(status);
});

test.each([
  ['auth-tls-secret', 'default/ca'],
  ['satisfy', 'some'],
  ['enable-modsecurity', 'true'],
  ['configuration-snippet', 'return 200;'],
  ['auth-snippet', 'x'],
  ['auth-type', 'digest'],
  ['auth-something-new', 'yes'],
  ['proxy-ssl-verify', 'on'],
  ['backend-protocol', 'FCGI'],
  ['auth-url', 'javascript:alert(1)'],
  ['auth-url', 'http://auth.example/\nX: y'],
  ['auth-realm', 'a"b'],
  ['auth-realm', 'a\u200aX-Injected: 1'],
])('fails closed: %s = %s answers 503 and touches no other Ingress', async (name, value) => {
  const other = ingress({ name: 'b', rules: [{ host: 'b.example', paths: [{ service: 'echo' }] }] });
  const annotations =
    name === 'auth-realm' ? { 'auth-type': 'basic', 'auth-secret': 's', [name]: value } : { [name]: value };
  const { ask: go } = await site(annotations, {}, { ingresses: [other] });
  expect((await go()).status).toBe(503);
  expect((await go({ host: 'b.example' })).status).toBe(200);
});

test.each([
  ['enable-modsecurity', 'false'],
  ['satisfy', 'all'],
  ['proxy-buffering', 'on'],
  ['mirror-target', 'http://x'],
  ['proxy-body-size', 'lots'],
  ['ssl-redirect', 'perhaps'],
])('does not fail: %s = %s serves', async (name, value) => {
  const { ask: go } = await site({ [name]: value });
  expect((await go()).status).toBe(200);
});

const CORS: readonly [string, Record<string, string>, string, string | undefined][] = [
  ['* is the default', {}, 'https://any.example', '*'],
  [
    'one of a list, with its port',
    { 'cors-allow-origin': 'https://o.example:8080, https://p.example' },
    'https://o.example:8080',
    'https://o.example:8080',
  ],
  ['none of a list', { 'cors-allow-origin': 'https://p.example' }, 'https://o.example', undefined],
  [
    'an entry without scheme is dropped',
    { 'cors-allow-origin': 'o.example:8080, https://p.example' },
    'o.example:8080',
    undefined,
  ],
  ['a port more is another origin', { 'cors-allow-origin': 'http://o.example:8080' }, 'http://o.example', undefined],
  [
    '* for one label',
    { 'cors-allow-origin': 'http://*.o.example' },
    'http://bar-foo.o.example',
    'http://bar-foo.o.example',
  ],
  ['* not for two labels', { 'cors-allow-origin': 'http://*.o.example' }, 'http://a.b.o.example', undefined],
  ['the start counts', { 'cors-allow-origin': 'http://o.example' }, 'http://evil.test?http://o.example', undefined],
];

test.each(CORS)('CORS: %s', async (_what, annotations, origin, allowed) => {
  const { ask: go } = await site({ 'enable-cors': 'true', ...annotations });
  const got = await go({ headers: { origin } });
  expect(got.headers['access-control-allow-origin']).toBe(allowed);
  expect(got.headers['access-control-allow-credentials']).toBe(allowed === undefined ? undefined : 'true');
});

test('a preflight is answered here with 204 and never asks the backend', async () => {
  const { ask: go, backend } = await site({ 'enable-cors': 'true', 'cors-max-age': '60', 'cors-allow-methods': 'GET' });
  const got = await go({ method: 'OPTIONS', headers: { origin: 'https://x', 'access-control-request-method': 'GET' } });
  expect([got.status, got.headers['access-control-allow-methods'], got.headers['access-control-max-age']]).toEqual([
    204,
    'GET',
    '60',
  ]);
  expect(backend.requests).toEqual([]);
});

function secret(name: string, data: Readonly<Record<string, string>>): NonNullable<World['secrets']>[number] {
  return { namespace: 'default', name, type: 'Opaque', data: new Map(Object.entries(data)) };
}

const basic = (pair: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(pair).toString('base64')}`,
});
// `openssl passwd -apr1 -salt abcdefgh 'secret word'`.
const FILE = 'ann:$apr1$abcdefgh$sAT51V/DnRGRtxDJCf7lm/\nsha:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nempty:\n';

test('basic auth: right, wrong, missing and malformed credentials; the backend never sees them', async () => {
  const annotations = { 'auth-type': 'basic', 'auth-secret': 'users', 'auth-realm': 'the house' };
  const { ask: go } = await site(annotations, {}, { secrets: [secret('users', { auth: FILE })] });
  const first = await go();
  expect([first.status, first.headers['www-authenticate']]).toEqual([401, 'Basic realm="the house"']);
  for (const pair of ['ann:secret word', 'sha:password', 'ann:secret word']) {
    const got = await go({ headers: basic(pair) });
    expect([pair, got.status, got.seen.headers['authorization']]).toEqual([pair, 200, undefined]);
  }
  for (const pair of ['ann:wrong', 'empty:', 'empty:x', 'nobody:x', 'ann']) {
    expect([pair, (await go({ headers: basic(pair) })).status]).toEqual([pair, 401]);
  }
});

test('basic auth fails closed: no Secret, no key, bcrypt, another namespace; and opens when the Secret is mended', async () => {
  const annotations = { 'auth-type': 'basic', 'auth-secret': 'users' };
  const { ask: go, update } = await site(annotations);
  expect((await go({ headers: basic('ann:secret word') })).status).toBe(503);
  update(annotations, { secrets: [secret('users', { other: FILE })] });
  expect((await go()).status).toBe(503);
  update(annotations, { secrets: [secret('users', { auth: 'ann:$2y$05$abcdefghijklmnopqrstuv' })] });
  expect((await go()).status).toBe(503);
  update({ ...annotations, 'auth-secret': 'other/users' }, { secrets: [secret('users', { auth: FILE })] });
  expect((await go()).status).toBe(503);
  update(annotations, { secrets: [secret('users', { auth: FILE })] });
  expect((await go({ headers: basic('ann:secret word') })).status).toBe(200);
  update({ ...annotations, 'auth-secret-type': 'auth-map' }, { secrets: [secret('users', { ann: '{PLAIN}x' })] });
  expect((await go({ headers: basic('ann:x') })).status).toBe(200);
});

async function authService(): Promise<TestBackend> {
  return startBackend((request, response) => {
    const pass = request.headers['x-pass'] === 'yes';
    const status = request.url?.startsWith('/broken')
      ? 500
      : pass
        ? 200
        : request.url?.startsWith('/forbid')
          ? 403
          : 401;
    response.writeHead(status, {
      'x-user': 'ann',
      'x-other': 'no',
      'set-cookie': 'alma=armud',
      'www-authenticate': 'Basic',
    });
    response.end(request.method === 'HEAD' ? undefined : 'verdict');
  });
}

test('external auth: 2xx passes with the listed headers, 401 and 403 are the answer, the rest is 500', async () => {
  const auth = await authService();
  const url = `http://${auth.address}`;
  const {
    ask: go,
    update,
    backend,
  } = await site({ 'auth-url': `${url}/check`, 'auth-response-headers': 'X-User, X-Gone' });
  const got = await go({ path: '/p?q=1', headers: { 'x-pass': 'yes', 'x-user': 'forged', 'x-gone': 'forged' } });
  expect([got.status, got.seen.headers['x-user'], got.seen.headers['x-gone'], got.seen.headers['x-other']]).toEqual([
    200,
    'ann',
    undefined,
    undefined,
  ]);
  expect(got.headers['set-cookie']).toEqual(['alma=armud']);
  expect(auth.requests[0]).toMatchObject({
    method: 'GET',
    url: '/check',
    headers: {
      host: auth.address,
      'x-original-url': 'http://a.example/p?q=1',
      'x-original-method': 'GET',
      'x-auth-request-redirect': '/p?q=1',
      'x-sent-from': 'nginx-ingress-controller',
      'x-pass': 'yes',
    },
  });
  const refused = await go({ method: 'POST', body: 'x'.repeat(100), headers: { 'x-original-url': 'http://forged' } });
  expect([refused.status, refused.headers['www-authenticate']]).toEqual([401, 'Basic']);
  expect(auth.requests[1]?.headers['x-original-url']).toBe('http://a.example/');
  update({ 'auth-url': `${url}/forbid` });
  expect((await go()).status).toBe(403);
  update({ 'auth-url': `${url}/broken` });
  expect((await go()).status).toBe(500);
  update({ 'auth-url': 'http://127.0.0.1:1/' });
  expect((await go({ headers: { 'x-pass': 'yes' } })).status).toBe(500);
  expect(backend.requests.length).toBe(1);
  update({ 'auth-url': `${url}/check`, 'auth-method': 'POST' });
  const body = 'x'.repeat(300_000);
  expect((await go({ method: 'POST', headers: { 'x-pass': 'yes' }, body })).status).toBe(200);
  expect(auth.requests.at(-1)).toMatchObject({
    method: 'POST',
    headers: { 'x-original-uri': '/', 'content-length': '0' },
  });
});

test('external auth: 401 goes to auth-signin with the way back', async () => {
  const auth = await authService();
  const annotations = { 'auth-url': `http://${auth.address}/check`, 'auth-signin': 'http://$host/auth/start' };
  const { ask: go, update } = await site(annotations);
  const got = await go({ path: '/?a=b&c=d' });
  expect([got.status, got.headers.location]).toEqual([
    302,
    'http://a.example/auth/start?rd=http://a.example%2F%3Fa%3Db%26c%3Dd',
  ]);
  update({ ...annotations, 'auth-signin': 'https://login.example/start?rd=/home' });
  expect((await go()).headers.location).toBe('https://login.example/start?rd=/home');
});

test('limit-rps lets the burst through and answers 503 after it, through changes of configuration', async () => {
  const { ask: go, update } = await site({ 'limit-rps': '1' });
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) {
    statuses.push((await go()).status);
    update({ 'limit-rps': '1', 'proxy-read-timeout': String(10 + i) });
  }
  expect(statuses.slice(0, 6)).toEqual([200, 200, 200, 200, 200, 200]);
  expect(statuses.slice(6)).toContain(503);
});

test('limit-connections counts requests under way and forgets those that are over', async () => {
  const waiting: ServerResponse[] = [];
  const slow = await startBackend((_request, response) => void waiting.push(response));
  const more = { services: [service({ name: 'slow', endpoints: [slow.address] })] };
  const { ask: go } = await site({ 'limit-connections': '2' }, { paths: [{ service: 'slow' }] }, more);
  const held = [go(), go()];
  await expect.poll(() => waiting.length).toBe(2);
  expect((await go()).status).toBe(503);
  for (const response of waiting) response.end('ok');
  expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200]);
  const next = go();
  await expect.poll(() => waiting.length).toBe(3);
  waiting[2]?.end('ok');
  expect((await next).status).toBe(200);
});

test('canary: header, value, pattern, cookie and weight, in this order; a canary without its primary is nothing', async () => {
  const canary = await startBackend((_request, response) => response.end('canary'));
  const world = (annotations: Record<string, string>): Partial<World> => ({
    ingresses: [
      ingress({
        name: 'c',
        rules: [
          { host: 'a.example', paths: [{ service: 'canary' }] },
          { host: 'lonely.example', paths: [{ service: 'canary' }] },
        ],
        annotations: { canary: 'true', ...annotations },
      }),
    ],
    services: [service({ name: 'canary', endpoints: [canary.address] })],
  });
  const { ask: go, update } = await site(
    {},
    {},
    world({ 'canary-by-header': 'X-Canary', 'canary-by-cookie': 'beta', 'canary-weight': '0' }),
  );
  const isCanary = async (headers: Record<string, string>): Promise<boolean> =>
    (await go({ headers })).text === 'canary';
  expect(await isCanary({})).toBe(false);
  expect(await isCanary({ 'x-canary': 'always' })).toBe(true);
  expect(await isCanary({ 'x-canary': 'never', cookie: 'beta=always' })).toBe(false);
  expect(await isCanary({ cookie: 'other=1; beta=always' })).toBe(true);
  expect((await go({ host: 'lonely.example' })).status).toBe(404);
  update({}, world({ 'canary-by-header': 'X-Canary', 'canary-by-header-value': 'me', 'canary-weight': '100' }));
  expect(await isCanary({ 'x-canary': 'me' })).toBe(true);
  expect(await isCanary({})).toBe(true);
  update({}, world({ 'canary-by-header': 'X-Canary', 'canary-by-header-pattern': '^(a+)+$' }));
  expect(await isCanary({ 'x-canary': `${'a'.repeat(5000)}!` })).toBe(false);
  expect(await isCanary({ 'x-canary': 'aaa' })).toBe(true);
});

test.each(['balanced', 'persistent'])('affinity %s: the cookie keeps a client on its endpoint', async (mode) => {
  const pods = await Promise.all(
    ['1', '2', '3'].map((name) => startBackend((_request, response) => response.end(name))),
  );
  const pick = (backends: readonly TestBackend[]): Partial<World> => ({
    services: [service({ name: 'pods', endpoints: backends.map(({ address }) => address) })],
  });
  const annotations = {
    affinity: 'cookie',
    'affinity-mode': mode,
    'session-cookie-name': 'SERVERID',
    'session-cookie-max-age': '60',
    'session-cookie-expires': '172800',
  };
  const { ask: go, update } = await site(annotations, { paths: [{ path: '/foo/bar', service: 'pods' }] }, pick(pods));
  const first = await go({ path: '/foo/bar' });
  const cookie = first.headers['set-cookie']?.[0] ?? '';
  expect(cookie).toMatch(
    /^SERVERID=[0-9a-f]+\|[0-9a-f]{32}; Expires=[^;]+ GMT; Max-Age=60; Path=\/foo\/bar; HttpOnly$/,
  );
  const headers = { cookie: cookie.slice(0, cookie.indexOf(';')) };
  for (let i = 0; i < 6; i++) {
    const got = await go({ path: '/foo/bar', headers });
    expect([got.text, got.headers['set-cookie']]).toEqual([first.text, undefined]);
  }
  update(annotations, pick(pods.filter((_, i) => String(i + 1) !== first.text)));
  const moved = await go({ path: '/foo/bar', headers });
  expect(moved.status).toBe(200);
  expect(moved.headers['set-cookie'] === undefined).toBe(mode === 'balanced');
});

test('custom-headers come from a ConfigMap, only with allowed names; without the ConfigMap 503', async () => {
  const settings = {
    namespace: 'system',
    name: 'settings',
    data: new Map([['global-allowed-response-headers', 'X-One']]),
  };
  const map = (data: Record<string, string>) => ({
    namespace: 'default',
    name: 'headers',
    data: new Map(Object.entries(data)),
  });
  const { ask: go, update } = await site({ 'custom-headers': 'default/headers' });
  expect((await go()).status).toBe(503);
  update({ 'custom-headers': 'default/headers' }, { configMaps: [settings, map({ 'X-One': '1' })] });
  expect((await go()).headers['x-one']).toBe('1');
  update({ 'custom-headers': 'default/headers' }, { configMaps: [settings, map({ 'X-Two': '1' })] });
  expect((await go()).status).toBe(503);
});

test('the ConfigMap holds for every Ingress, an annotation wins, a change is live, and a guard in it fails closed', async () => {
  const settings = (data: Record<string, string>) => ({
    configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(data)) }],
  });
  const { ask: go, update } = await site({}, TLS, settings({ 'ssl-redirect': 'false', 'proxy-body-size': '1k' }));
  expect((await go()).status).toBe(200);
  expect((await go({ method: 'POST', body: 'x'.repeat(2000) })).status).toBe(413);
  update({ 'proxy-body-size': '3k' }, settings({ 'ssl-redirect': 'false', 'proxy-body-size': '1k' }));
  expect((await go({ method: 'POST', body: 'x'.repeat(2000) })).status).toBe(200);
  update({}, settings({ 'http-redirect-code': '301' }));
  expect((await go()).status).toBe(301);
  update({}, settings({ 'ssl-redirect': 'false', 'enable-modsecurity': 'true' }));
  expect((await go()).status).toBe(503);
  update({}, settings({ 'ssl-redirect': 'false', 'denylist-source-range': '127.0.0.0/8' }));
  expect((await go()).status).toBe(403);
  update({});
  expect((await go()).status).toBe(308);
});

test.each(['\u200a', '\u010a', '\u0085', '\n', '\r'])(
  'no character of an annotation becomes a line break: %j',
  async (char) => {
    const evil = `x${char}X-Injected: 1`;
    const { ask: go } = await site({
      'enable-cors': 'true',
      'cors-allow-methods': `GET${char},${char}X-Injected`,
      'cors-expose-headers': `A,${char}B`,
      'x-forwarded-prefix': evil,
      'rewrite-target': '/y',
      affinity: 'cookie',
      'session-cookie-path': `/${evil}`,
      'session-cookie-domain': evil,
      'upstream-vhost': 'inner',
    });
    const got = await go();
    expect(got.status).toBe(200);
    expect([got.headers['x-injected'], got.seen.headers['x-injected']]).toEqual([undefined, undefined]);
    expect(got.headers['access-control-expose-headers']).toBe(undefined);
    expect(got.seen.headers['x-forwarded-prefix']).toBe(undefined);
  },
);

test('the log names each annotation without effect once, with its Ingress, and what shuts a location', async () => {
  const lines: string[] = [];
  const log = createLogger({ format: 'text', verbosity: 0, now: () => 0, write: (line) => void lines.push(line) });
  const plane = await startPlane({ log, annotationsPrefix: 'my.prefix' });
  const annotated = (annotations: Record<string, string>) => ({
    ...ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ service: 'echo' }] }] }),
    annotations: new Map(Object.entries(annotations)),
  });
  plane.update(
    snapshot({
      ingresses: [annotated({ 'my.prefix/mirror-target': 'x', 'nginx.ingress.kubernetes.io/app-root': '/' })],
    }),
  );
  const first = snapshot({ ingresses: [annotated({ 'my.prefix/mirror-target': 'x', 'my.prefix/satisfy': 'some' })] });
  plane.update(first);
  const told = lines.filter((line) => line.includes('annotation'));
  expect(told.filter((line) => line.includes('my.prefix/mirror-target') && line.includes('default/a')).length).toBe(1);
  expect(told.filter((line) => line.includes('my.prefix/satisfy') && line.includes('503')).length).toBe(1);
  expect(told.length).toBe(2);
});

test('--default-backend-service takes unknown hosts and paths, --watch-namespace leaves other namespaces out', async () => {
  const backend = await startBackend();
  const plane = await startPlane({
    defaultBackend: { namespace: 'system', service: 'fallback' },
    watchNamespace: 'default',
  });
  plane.update(
    snapshot({
      ingresses: [
        ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ path: '/a', service: 'none' }] }] }),
        ingress({ name: 'b', namespace: 'other', rules: [{ host: 'b.example', paths: [{ service: 'none' }] }] }),
      ],
      services: [
        service({
          name: 'fallback',
          namespace: 'system',
          portNumber: 8080,
          portName: 'web',
          endpoints: [backend.address],
        }),
      ],
    }),
  );
  const port = httpPort(plane);
  expect((await ask(port, { host: 'nobody.example' })).status).toBe(200);
  expect((await ask(port, { host: 'b.example' })).status).toBe(200);
  expect((await ask(port, { path: '/other' })).status).toBe(200);
  expect((await ask(port, { path: '/a' })).status).toBe(503);
});

test('backend-protocol HTTPS speaks TLS to the endpoint, service-upstream uses the Service address', async () => {
  const pair = selfSigned('backend', ['backend'], Date.now(), 1);
  const server = createTlsServer(pair, (_request, response) => response.end('by TLS'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const more = { services: [service({ name: 'tls', endpoints: [`127.0.0.1:${portOf(server)}`] })] };
  const {
    ask: go,
    update,
    backend,
  } = await site({ 'backend-protocol': 'https' }, { paths: [{ service: 'tls' }] }, more);
  expect((await go()).text).toBe('by TLS');
  expect((await go()).text).toBe('by TLS');
  // Nothing listens on the endpoint; the Service address leads to a backend that does.
  const number = Number(backend.address.split(':')[1]);
  const by = service({ name: 'tls', portNumber: number, endpoints: ['127.0.0.1:1'] });
  const ports = by.ports.map((one) => ({ ...one, clusterIP: ip('127.0.0.1') }));
  const second = ingress({
    name: 'b',
    rules: [{ host: 'b.example', paths: [{ service: 'tls', port: number }] }],
    annotations: { 'service-upstream': 'true' },
  });
  update({}, { ingresses: [second], services: [{ ...by, ports }] });
  expect((await go({ host: 'b.example' })).status).toBe(200);
});

test('nothing is served before the ConfigMap of --configmap was there; when it goes, the defaults hold', async () => {
  const plane = await startPlane({ configMap: 'system/settings' });
  const backend = await startBackend();
  const world = {
    ingresses: [ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ service: 'echo' }] }] })],
    services: [service({ name: 'echo', endpoints: [backend.address] })],
  };
  const before = snapshot(world);
  plane.update(before);
  expect([plane.ready, (await ask(httpPort(plane), {})).status]).toEqual([false, 503]);
  const data = new Map([['denylist-source-range', '127.0.0.1']]);
  const there = snapshot({ configMaps: [{ namespace: 'system', name: 'settings', data }] }, before);
  plane.update(there);
  expect([plane.ready, (await ask(httpPort(plane), {})).status]).toEqual([true, 403]);
  plane.update(snapshot({ configMaps: [] }, there));
  expect((await ask(httpPort(plane), {})).status).toBe(200);
});
