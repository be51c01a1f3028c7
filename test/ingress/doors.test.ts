// Who gets in and what the ConfigMap adds: satisfy, verdicts that are remembered, bcrypt, block lists, snippets, error pages.

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import { systemExec } from '../../src/system/exec.ts';
import { expect, onTestFinished, test } from 'vitest';
import { portOf, raw, startBackend } from './plane.ts';
import { site } from './site.ts';
import { ingress, service } from './world.ts';

/** htpasswd -B -C 5: user:pass. */
const BCRYPT = '$2b$05$p2CLprl5BLl04xdGG8jNAei0cDrS4Pf2U7V4rZszLKUrPeyB.SHfy';
/** Of no password; a check takes a quarter of a second. */
const BCRYPT_SLOW = BCRYPT.replace('$05$', '$12$');
const right = { authorization: `Basic ${Buffer.from('user:pass').toString('base64')}` };
const wrong = { authorization: `Basic ${Buffer.from('user:nope').toString('base64')}` };
const secret = (text: string) => ({
  secrets: [{ namespace: 'default', name: 'users', type: 'Opaque', data: new Map([['auth', text]]) }],
});
const BASIC = { 'auth-type': 'basic', 'auth-secret': 'users' };

/** Answers with `status()`, and keeps what it was asked. */
async function other(status: () => number, fields: Readonly<Record<string, string>> = {}) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    response
      .writeHead(status(), { 'content-type': 'text/plain', ...fields })
      .end(`page for ${String(request.headers['x-code'])}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { requests, address: `127.0.0.1:${portOf(server)}` };
}

test('bcrypt: while passwords are guessed, what needs none is answered at once', async () => {
  const guarded = ingress({
    name: 'b',
    rules: [{ host: 'b.example', paths: [{ service: 'echo' }] }],
    annotations: BASIC,
  });
  const { ask } = await site({}, {}, { ...secret(`user:${BCRYPT_SLOW}\n`), ingresses: [guarded] });
  const guess = (i: number): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(`user:guess ${i}`).toString('base64')}`,
  });
  let checked = 0;
  const guesses = Array.from({ length: 4 }, async (_, i) => {
    const { status } = await ask({ host: 'b.example', headers: guess(i) });
    checked++;
    return status;
  });
  for (let i = 0; i < 10; i++) expect((await ask()).status).toBe(200);
  // Each check takes some tenths of a second of a processor, and they go one after the other.
  expect(checked).toBeLessThan(4);
  expect(await Promise.all(guesses)).toEqual([401, 401, 401, 401]);
});

test('bcrypt: the right password passes and is remembered, a wrong one does not; many at once wait their turn', async () => {
  const { ask, backend } = await site(BASIC, {}, secret(`user:${BCRYPT}\n`));
  expect((await ask({ headers: wrong })).status).toBe(401);
  const all = await Promise.all(Array.from({ length: 10 }, () => ask({ headers: right })));
  expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200));
  expect((await ask({ headers: right })).seen.headers['authorization']).toBeUndefined();
  expect((await ask()).status).toBe(401);
  expect(backend.requests).toHaveLength(11);
});

test('satisfy any: an address that is listed needs no password, another one does; without it both are needed', async () => {
  const world = secret(`user:${BCRYPT}\n`);
  const elsewhere = { ...BASIC, 'allowlist-source-range': '203.0.113.0/24' };
  const { ask, update } = await site({ ...elsewhere, satisfy: 'any' }, {}, world);
  expect([
    (await ask()).status,
    (await ask({ headers: wrong })).status,
    (await ask({ headers: right })).status,
  ]).toEqual([401, 401, 200]);
  update({ ...BASIC, 'allowlist-source-range': '127.0.0.0/8', satisfy: 'any' }, world);
  expect((await ask()).status).toBe(200);
  update(elsewhere, world);
  expect((await ask({ headers: right })).status).toBe(403);
  update({ ...BASIC, 'denylist-source-range': '127.0.0.0/8', satisfy: 'any' }, world);
  expect([(await ask()).status, (await ask({ headers: right })).status]).toEqual([401, 200]);
  update({ ...elsewhere, satisfy: 'some' }, world);
  expect((await ask({ headers: right })).status).toBe(503);
});

test('auth-cache-key: a verdict is asked for once for each key, as long as auth-cache-duration says for its status', async () => {
  let status = 200;
  const auth = await other(() => status, { 'x-user': 'anna' });
  const annotations = {
    'auth-url': `http://${auth.address}/check`,
    'auth-response-headers': 'X-User',
    'auth-cache-key': '$cookie_session',
    'auth-cache-duration': '200 401 5m',
  };
  const { ask } = await site(annotations);
  const as = (session: string) => ask({ headers: { cookie: `session=${session}` } });
  expect((await as('a')).seen.headers['x-user']).toBe('anna');
  expect((await as('a')).seen.headers['x-user']).toBe('anna');
  expect(auth.requests).toHaveLength(1);
  status = 401;
  expect([(await as('b')).status, (await as('b')).status, (await as('a')).status]).toEqual([401, 401, 200]);
  expect(auth.requests).toHaveLength(2);
  // No time is given for this status: it is asked for each time.
  status = 403;
  expect([(await as('c')).status, (await as('c')).status]).toEqual([403, 403]);
  expect(auth.requests).toHaveLength(4);
});

test('global-auth-url guards every Ingress that does not opt out, but for no-auth-locations', async () => {
  const auth = await other(() => 401);
  const paths = [
    { path: '/', service: 'echo' },
    { path: '/.well-known/acme-challenge', service: 'echo' },
  ];
  const settings = { 'global-auth-url': `http://${auth.address}/`, 'global-auth-method': 'HEAD' };
  const guarded = await site({}, { paths }, { settings });
  expect((await guarded.ask()).status).toBe(401);
  expect(auth.requests[0]?.method).toBe('HEAD');
  expect((await guarded.ask({ path: '/.well-known/acme-challenge/x' })).status).toBe(200);
  const open = await site({ 'enable-global-auth': 'false' }, { paths }, { settings });
  expect((await open.ask()).status).toBe(200);
});

test('auth-proxy-set-headers: fields of a ConfigMap for the auth service, held to the rules of annotations', async () => {
  const auth = await other(() => 200);
  const annotations = { 'auth-url': `http://${auth.address}/`, 'auth-proxy-set-headers': 'asked' };
  const map = (data: Readonly<Record<string, string>>) => ({
    configMaps: [{ namespace: 'default', name: 'asked', data: new Map(Object.entries(data)) }],
  });
  const { ask, update } = await site(annotations, {}, map({ 'X-Path': '$request_uri', 'X-Team': 'blue' }));
  expect((await ask({ path: '/a?b' })).status).toBe(200);
  expect(auth.requests[0]?.headers).toMatchObject({ 'x-path': '/a?b', 'x-team': 'blue' });
  update(annotations, map({ 'X-Bad': 'a\r\nX-Forged: b' }));
  expect((await ask()).status).toBe(503);
  update(annotations);
  expect((await ask()).status).toBe(503);
});

test('block lists of the ConfigMap hold for every host: addresses, user agents, referers', async () => {
  const settings = { 'block-user-agents': 'curl/8, ~*badbot', 'block-referers': '~^https?://evil\\.' };
  const { ask } = await site({}, {}, { settings });
  expect((await ask()).status).toBe(200);
  expect((await ask({ headers: { 'user-agent': 'curl/8' } })).status).toBe(403);
  expect((await ask({ headers: { 'user-agent': 'the BadBot 1' } })).status).toBe(403);
  expect((await ask({ headers: { referer: 'http://evil.example/' } })).status).toBe(403);
  expect((await ask({ host: 'unknown.example', headers: { 'user-agent': 'curl/8' } })).status).toBe(403);
  const closed = await site({}, {}, { settings: { 'block-cidrs': '127.0.0.0/8' } });
  expect((await closed.ask()).status).toBe(403);
});

test('add-headers, hide-headers and proxy-set-headers of the ConfigMap hold for answers and requests', async () => {
  const map = (name: string, data: Readonly<Record<string, string>>) => ({
    namespace: 'system',
    name,
    data: new Map(Object.entries(data)),
  });
  const settings = {
    'add-headers': 'system/added',
    'proxy-set-headers': 'system/asked',
    'hide-headers': 'content-type',
  };
  const configMaps = [map('added', { 'X-Frame-Options': 'DENY' }), map('asked', { 'X-Where': '$host$uri' })];
  const { ask } = await site({}, {}, { settings, configMaps });
  const got = await ask({ path: '/x', headers: { 'x-where': 'forged' } });
  expect(got.headers['x-frame-options']).toBe('DENY');
  expect(got.headers['content-type']).toBeUndefined();
  expect(got.seen.headers['x-where']).toBe('a.example/x');
  expect((await ask({ host: 'unknown.example' })).headers['x-frame-options']).toBe('DENY');
});

test('custom-http-errors: the default-backend Service gives the page and the status, and is told what failed', async () => {
  const pages = await other(() => 418);
  const failing = await other(() => 503);
  const annotations = { 'custom-http-errors': '404,503', 'default-backend': 'pages' };
  const services = [
    service({ name: 'pages', endpoints: [pages.address] }),
    service({ name: 'failing', endpoints: [failing.address] }),
    service({ name: 'empty' }),
  ];
  const paths = [
    { path: '/', service: 'echo' },
    { path: '/failing', service: 'failing' },
    { path: '/empty', service: 'empty' },
  ];
  const { ask } = await site(annotations, { paths }, { services });
  const got = await ask({ path: '/failing?x=1', method: 'POST', body: 'hello', headers: { accept: 'text/html' } });
  expect([got.status, got.text]).toEqual([418, 'page for 503']);
  expect(pages.requests[0]).toMatchObject({ method: 'GET', url: '/' });
  expect(pages.requests[0]?.headers).toMatchObject({
    'x-code': '503',
    'x-format': 'text/html',
    'x-original-uri': '/failing?x=1',
    'x-namespace': 'default',
    'x-ingress-name': 'a',
    'x-service-name': 'failing',
    'x-service-port': '80',
  });
  expect(failing.requests).toHaveLength(1);
  expect((await ask()).status).toBe(200);
  // There is no endpoint: the request itself goes to the default backend.
  expect((await ask({ path: '/empty' })).text).toBe('page for 503');
  expect(pages.requests.at(-1)).toMatchObject({ url: '/empty' });
});

test('the verdict of an auth service is final: custom errors change neither 401 nor 403', async () => {
  const pages = await other(() => 200);
  const auth = await other(() => 403);
  const annotations = {
    'custom-http-errors': '401,403',
    'default-backend': 'pages',
    'auth-url': `http://${auth.address}/`,
  };
  const { ask, backend } = await site(
    annotations,
    {},
    { services: [service({ name: 'pages', endpoints: [pages.address] })] },
  );
  expect((await ask()).status).toBe(403);
  expect([backend.requests.length, pages.requests.length]).toEqual([0, 0]);
});

const ALLOWED = { settings: { 'allow-snippet-annotations': 'true', 'annotations-risk-level': 'Critical' } };

test('configuration-snippet: the known directives are carried out', async () => {
  const snippet = `
    # comment
    more_set_headers "X-One: 1" "Content-Type: text/x";
    add_header X-Two "two words";
    add_header X-Always yes always;
    proxy_set_header X-Path $uri;
    proxy_set_header User-Agent "";
    if ($http_x_old = "yes") { return 410; }
    if ($request_uri ~* ^/Old/(.*)) { rewrite ^/old/(.*)$ /new/$1 permanent; }
    rewrite ^/in/(.*)$ /out/$1 break;
    expires 1h;
  `;
  const { ask } = await site({ 'configuration-snippet': snippet }, {}, ALLOWED);
  const got = await ask({ path: '/in/x?y', headers: { 'user-agent': 'u' } });
  expect(got.headers).toMatchObject({
    'x-one': '1',
    'content-type': 'text/x',
    'x-two': 'two words',
    'x-always': 'yes',
    'cache-control': 'max-age=3600',
  });
  expect(got.seen).toMatchObject({ url: '/out/x?y' });
  expect(got.seen.headers).toMatchObject({ 'x-path': '/in/x' });
  expect(got.seen.headers['user-agent']).toBeUndefined();
  expect((await ask({ headers: { 'x-old': 'yes' } })).status).toBe(410);
  const moved = await ask({ path: '/old/page' });
  expect([moved.status, moved.headers.location]).toEqual([301, 'http://a.example/new/page']);
});

test('snippets: deny and allow in order, return with text, and add_header without always leaves errors alone', async () => {
  const { ask, update } = await site(
    { 'server-snippet': 'allow 10.0.0.0/8; deny all; add_header X-A b;' },
    {},
    ALLOWED,
  );
  const denied = await ask();
  expect([denied.status, denied.headers['x-a']]).toEqual([403, undefined]);
  update({ 'configuration-snippet': 'allow 127.0.0.1; deny all; if ($arg_x) { return 200 "x is $arg_x"; }' });
  expect((await ask()).status).toBe(200);
  expect((await ask({ path: '/?x=1' })).text).toBe('x is 1');
});

test.each([
  ['a directive that is not known', 'proxy_pass http://evil;'],
  ['a location that does not answer', 'location /x { expires 1h; }'],
  ['a block of another kind', 'limit_except GET { deny all; }'],
  ['Lua', 'content_by_lua_block { os.execute("x") }'],
  ['an unclosed quote', 'return 200 "x;'],
  ['a variable that is not known', 'add_header X $secret;'],
  ['a framing header', 'more_set_headers "Content-Length: 3";'],
  ['an expression that would backtrack', 'rewrite ^/(a+)\\1$ /x;'],
])('a snippet with %s shuts the location', async (_what, snippet) => {
  const { ask } = await site({ 'configuration-snippet': snippet }, {}, ALLOWED);
  expect((await ask()).status).toBe(503);
});

test('snippets have no effect where the ConfigMap does not allow them; a risk above its level and a forbidden word shut the location', async () => {
  const annotations = { 'configuration-snippet': 'add_header X y;' };
  expect((await (await site(annotations)).ask()).status).toBe(503);
  const dropped = await site(annotations, {}, { settings: { 'annotations-risk-level': 'Critical' } });
  expect([(await dropped.ask()).status, (await dropped.ask()).headers['x']]).toEqual([200, undefined]);
  const risky = await site(annotations, {}, { settings: { 'allow-snippet-annotations': 'true' } });
  expect((await risky.ask()).status).toBe(503);
  const word = await site(
    { 'upstream-vhost': 'load_module.example' },
    {},
    { settings: { 'annotation-value-word-blocklist': 'load_module,lua_package' } },
  );
  expect((await word.ask()).status).toBe(503);
  const medium = await site({ 'server-alias': 'b.example' }, {}, { settings: { 'annotations-risk-level': 'Medium' } });
  expect((await medium.ask()).status).toBe(503);
});

test.each(['balanced', 'persistent'])(
  'affinity %s with change-on-failure: who is moved by a failure stays where it was moved to',
  async (mode) => {
    const annotations = { affinity: 'cookie', 'affinity-mode': mode, 'session-cookie-change-on-failure': 'true' };
    const { ask, update } = await site(annotations);
    const first = await ask();
    const [cookie = ''] = String(first.headers['set-cookie']).split(';');
    expect((await ask({ headers: { cookie } })).headers['set-cookie']).toBeUndefined();
    // The only endpoint is gone; another one, and one that nobody listens on, are there.
    const other = await startBackend();
    const services = [service({ name: 'echo', endpoints: ['127.0.0.1:1', other.address] })];
    update(annotations, { services });
    let held = cookie;
    const moves: (string | undefined)[] = [];
    for (let i = 0; i < 4; i++) {
      const got = await ask({ headers: { cookie: held } });
      expect(got.status).toBe(200);
      moves.push(got.headers['set-cookie']?.[0]);
      held = got.headers['set-cookie']?.[0]?.split(';')[0] ?? held;
    }
    // Moved once at most: from then on the cookie is right.
    expect(moves.slice(1)).toEqual([undefined, undefined, undefined]);
    expect(other.requests).toHaveLength(4);
  },
);

test('keep-alive-requests and keep-alive of the ConfigMap end connections', async () => {
  const closes = async (settings: Readonly<Record<string, string>>): Promise<readonly (string | undefined)[]> => {
    const { port } = await site({}, {}, { settings });
    const connection = await raw(port);
    const answers: (string | undefined)[] = [];
    for (let i = 1; i <= 2; i++) {
      connection.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
      const text = await connection.until(new RegExp(`(?:HTTP/1.1 200[^]*?\\}){${i}}$`));
      answers.push(/^connection: (.*)\r$/im.exec(text.slice(text.lastIndexOf('HTTP/1.1')))?.[1]);
      if (answers.at(-1) === 'close') break;
    }
    return answers;
  };
  expect(await closes({})).toEqual([undefined, undefined]);
  expect(await closes({ 'keep-alive-requests': '2' })).toEqual([undefined, 'close']);
  expect(await closes({ 'keep-alive': '0' })).toEqual(['close']);
});

test('an Ingress that is shut leaves the others of the host alone', async () => {
  const more = {
    ingresses: [
      ingress({ name: 'b', createdAt: 5, rules: [{ host: 'a.example', paths: [{ path: '/b', service: 'echo' }] }] }),
    ],
  };
  const { ask } = await site({ 'configuration-snippet': 'x;' }, {}, { ...ALLOWED, ...more });
  expect([(await ask()).status, (await ask({ path: '/b' })).status]).toEqual([503, 200]);
});

test('auth-type digest: the right password enters once with each count, and curl and a wrong password fare as they should', async () => {
  const md5 = (text: string): string => createHash('md5').update(text).digest('hex');
  const secret = {
    namespace: 'default',
    name: 'users',
    type: 'Opaque',
    data: new Map([['auth', `ann:here:${md5('ann:here:pass')}\n`]]),
  };
  const { ask, port } = await site(
    { 'auth-type': 'digest', 'auth-secret': 'users', 'auth-realm': 'here' },
    {},
    { secrets: [secret] },
  );
  const refused = await ask({ path: '/a?b=c' });
  expect(refused.status).toBe(401);
  const nonce = /nonce="([^"]+)"/.exec(refused.headers['www-authenticate'] ?? '')?.[1] ?? '';
  expect(refused.headers['www-authenticate']).toContain('Digest realm="here", qop="auth"');
  const authorization = (password: string, uri: string, nc = '00000001', own = nonce): string => {
    const response = md5(`${md5(`ann:here:${password}`)}:${own}:${nc}:xyz:auth:${md5(`GET:${uri}`)}`);
    return `Digest username="ann", realm="here", nonce="${own}", uri="${uri}", qop=auth, nc=${nc}, cnonce="xyz", response="${response}"`;
  };
  const go = async (field: string, path = '/a?b=c') => ask({ path, headers: { authorization: field } });
  const entered = await go(authorization('pass', '/a?b=c'));
  expect([entered.status, entered.seen.headers['authorization']]).toEqual([200, undefined]);
  expect((await go(authorization('pass', '/a?b=c'))).headers['www-authenticate']).toContain('stale=true');
  expect((await go(authorization('pass', '/a?b=c', '00000002'))).status).toBe(200);
  expect((await go(authorization('wrong', '/a?b=c', '00000003'))).status).toBe(401);
  expect((await go(authorization('pass', '/other', '00000004'))).status).toBe(401);
  const forged = await go(authorization('pass', '/a?b=c', '00000001', `${nonce.slice(0, -1)}0`));
  expect(forged.status).toBe(401);
  const url = `http://127.0.0.1:${port}/x?y`;
  const curl = await systemExec.run('curl', ['-s', '--digest', '-u', 'ann:pass', '-H', 'Host: a.example', url]);
  expect(curl.stdout).toContain('"url":"/x?y"');
});
