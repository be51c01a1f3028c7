// What a browser makes of cookies, cross-origin answers and redirects: a cookie jar by RFC 6265, and the checks of the Fetch standard.

import { Cookie, CookieJar } from 'tough-cookie';
import { expect, test } from 'vitest';
import { startBackend } from './plane.ts';
import { ask, site, type Asked, type Got } from './site.ts';
import { service } from './world.ts';

/** A client that keeps cookies as a browser does, and sends them where they belong. */
function browser(port: number) {
  const jar = new CookieJar();
  const urlOf = (host: string, path: string): string => `http://${host}${path}`;
  return {
    jar,
    go: async ({ host = 'a.example', path = '/', ...rest }: Asked): Promise<Got> => {
      const cookie = await jar.getCookieString(urlOf(host, path));
      const headers = { ...rest.headers, ...(cookie === '' ? {} : { cookie }) };
      const got = await ask(port, { ...rest, host, path, headers });
      for (const line of got.headers['set-cookie'] ?? []) {
        expect(Cookie.parse(line)).toBeDefined();
        await jar.setCookie(line, urlOf(host, path));
      }
      return got;
    },
  };
}

const AFFINITY = { affinity: 'cookie', 'session-cookie-name': 'route', 'session-cookie-max-age': '3600' };

test('the affinity cookie is taken by a browser, comes back for its path alone, and keeps it on one endpoint', async () => {
  const others = [await startBackend(), await startBackend()];
  const { port, backend, update } = await site({});
  const all = [backend, ...others];
  const endpoints = all.map(({ address }) => address);
  update({ ...AFFINITY, 'session-cookie-path': '/app' }, { services: [service({ name: 'echo', endpoints })] });
  const { go, jar } = browser(port);
  expect((await go({ path: '/app' })).headers['set-cookie']).toHaveLength(1);
  for (let i = 0; i < 12; i++) {
    const again = await go({ path: '/app/page' });
    expect(again.headers['set-cookie']).toBeUndefined();
    expect(again.seen.headers['cookie']).toContain('route=');
  }
  expect(all.filter(({ requests }) => requests.length > 0)).toHaveLength(1);
  expect(await jar.getCookieString('http://a.example/other')).toBe('');
  expect(await jar.getCookieString('http://b.example/app')).toBe('');
  const [cookie] = await jar.getCookies('http://a.example/app');
  expect(cookie).toMatchObject({ httpOnly: true, maxAge: 3600, path: '/app', secure: false });
});

test('session-cookie-domain is for the names below it, and proxy-cookie-domain makes a foreign cookie one that is taken', async () => {
  const wide = await site({ ...AFFINITY, 'session-cookie-domain': 'example' });
  // A browser refuses a cookie for a public suffix; the line itself is well formed.
  await expect(browser(wide.port).go({})).rejects.toThrow(/public suffix/);
  const own = await site({ ...AFFINITY, 'session-cookie-domain': 'a.example' });
  const { go, jar } = browser(own.port);
  await go({});
  expect(await jar.getCookieString('http://deep.a.example/')).toContain('route=');
  const backend = await startBackend((_request, response) => {
    response.setHeader('set-cookie', 'sid=1; Domain=app.internal.test; Path=/backend/').end();
  });
  const world = { services: [service({ name: 'echo', endpoints: [backend.address] })] };
  const foreign = await site({}, {}, world);
  foreign.update({}, world);
  await expect(browser(foreign.port).go({})).rejects.toThrow(/domain/i);
  foreign.update({ 'proxy-cookie-domain': 'app.internal.test a.example', 'proxy-cookie-path': '/backend/ /' }, world);
  const client = browser(foreign.port);
  await client.go({});
  expect(await client.jar.getCookieString('http://a.example/x')).toBe('sid=1');
});

/** Fetch standard section 4.9, the CORS check: exactly one field, equal to the origin when there are credentials. */
function mayRead({ headers }: Got, origin: string, credentials: boolean): boolean {
  const allowed = headers['access-control-allow-origin'];
  if (allowed === undefined || allowed.includes(',')) return false;
  if (!credentials && allowed === '*') return true;
  return allowed === origin && (!credentials || headers['access-control-allow-credentials'] === 'true');
}

/** Section 4.8: a preflight is good when it is a success that allows origin, method and every field. */
function maySend(got: Got, origin: string, method: string, fields: readonly string[], credentials: boolean): boolean {
  const list = (name: string): readonly string[] =>
    String(got.headers[name] ?? '')
      .split(',')
      .map((word) => word.trim());
  const methods = list('access-control-allow-methods');
  const names = list('access-control-allow-headers').map((name) => name.toLowerCase());
  const ok = got.status >= 200 && got.status < 300 && mayRead(got, origin, credentials);
  return ok && methods.includes(method) && fields.every((field) => names.includes(field));
}

test('a page of an allowed origin sends and reads with credentials, one of another origin neither', async () => {
  const { port, backend } = await site({
    'enable-cors': 'true',
    'cors-allow-origin': 'https://app.example, https://*.team.example',
    'cors-allow-methods': 'PUT, GET',
    'cors-allow-headers': 'X-Own, Content-Type',
    'cors-expose-headers': 'X-Seen',
    'cors-max-age': '60',
  });
  const preflight = (origin: string): Promise<Got> =>
    ask(port, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'x-own' },
    });
  for (const origin of ['https://app.example', 'https://one.team.example']) {
    const asked = await preflight(origin);
    expect(maySend(asked, origin, 'PUT', ['x-own', 'content-type'], true)).toBe(true);
    expect(maySend(asked, origin, 'DELETE', [], true)).toBe(false);
    expect(maySend(asked, origin, 'PUT', ['authorization'], true)).toBe(false);
    expect(asked.headers['access-control-max-age']).toBe('60');
    const got = await ask(port, { method: 'PUT', headers: { origin, 'x-own': '1' }, body: '{}' });
    expect(mayRead(got, origin, true)).toBe(true);
    expect(got.headers['access-control-expose-headers']).toBe('X-Seen');
    // Else a cache would give the answer for one origin to another.
    expect(got.headers.vary).toMatch(/Origin/);
  }
  for (const origin of [
    'https://evil.example',
    'http://app.example',
    'https://a.b.team.example',
    'https://app.example.evil',
    'null',
  ]) {
    expect(maySend(await preflight(origin), origin, 'PUT', [], false)).toBe(false);
    expect(mayRead(await ask(port, { headers: { origin } }), origin, false)).toBe(false);
  }
  expect(backend.requests.filter(({ method }) => method === 'OPTIONS')).toEqual([]);
});

test('with any origin a browser reads, with credentials too; an error of the proxy can be read as well', async () => {
  const { port, update } = await site({ 'enable-cors': 'true' });
  const origin = 'https://anyone.example';
  expect(mayRead(await ask(port, { headers: { origin } }), origin, false)).toBe(true);
  update({ 'enable-cors': 'true', 'denylist-source-range': '127.0.0.0/8' });
  const refused = await ask(port, { headers: { origin } });
  expect([refused.status, mayRead(refused, origin, false)]).toEqual([403, true]);
});

test('redirects are followed to where they end, with the query, and never in a circle', async () => {
  const { port, update } = await site({ 'app-root': '/home' });
  const follow = async (path: string): Promise<readonly string[]> => {
    const seen: string[] = [];
    let url = new URL(path, 'http://a.example');
    for (let hops = 0; hops < 5; hops++) {
      const got = await ask(port, { host: url.host, path: url.pathname + url.search });
      seen.push(`${got.status} ${url.href}`);
      if (got.headers.location === undefined) return seen;
      url = new URL(got.headers.location, url);
    }
    throw new Error(`a circle: ${seen.join(', ')}`);
  };
  expect(await follow('/')).toEqual(['302 http://a.example/', '200 http://a.example/home']);
  update({ 'permanent-redirect': 'http://b.example$request_uri', 'permanent-redirect-code': '308' });
  expect(await follow('/x?y=z')).toEqual(['308 http://a.example/x?y=z', '404 http://b.example/x?y=z']);
});
