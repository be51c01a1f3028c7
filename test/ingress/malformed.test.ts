import { expect, test } from 'vitest';
import { exchange, httpPort, raw, routeAll, startBackend, startPlane, startRawBackend } from './plane.ts';

/** Title, bytes, expected status. Each is answered so and the connection ends; nothing of it reaches the backend. */
const REFUSED: readonly (readonly [string, string, number])[] = [
  [
    'Content-Length with Transfer-Encoding',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
  ],
  [
    'Transfer-Encoding with Content-Length',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n',
    400,
  ],
  [
    'the same Content-Length twice',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc',
    400,
  ],
  [
    'two Content-Lengths that differ',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc',
    400,
  ],
  ['a list of Content-Lengths', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc', 400],
  ['a signed Content-Length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc', 400],
  ['a hexadecimal Content-Length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc', 400],
  ['a Content-Length with zeros in front', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc', 400],
  [
    'a Content-Length beyond 2^64',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\nabc',
    400,
  ],
  ['an empty Content-Length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nabc', 400],
  ['Transfer-Encoding xchunked', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n', 400],
  [
    'Transfer-Encoding chunked, identity',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
    400,
  ],
  [
    'Transfer-Encoding identity, chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n',
    501,
  ],
  [
    'Transfer-Encoding gzip, chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    501,
  ],
  [
    'Transfer-Encoding with a vertical tab',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n',
    400,
  ],
  ['a space before the colon', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n', 400],
  [
    'two Transfer-Encodings',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
  ],
  ['Transfer-Encoding in HTTP/1.0', 'POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
  ['a folded header field', 'GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n', 400],
  ['a space before the first header field', 'GET / HTTP/1.1\r\n Host: a\r\n\r\n', 400],
  ['a bare LF behind a header field', 'GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n', 400],
  ['a bare LF behind the request line', 'GET / HTTP/1.1\nHost: a\r\n\r\n', 400],
  ['bare LFs alone', 'GET / HTTP/1.1\nHost: a\n\n', 400],
  ['a bare CR in a header field', 'GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n', 400],
  ['a NUL in a header field', 'GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n', 400],
  ['a control byte in a header name', 'GET / HTTP/1.1\r\nHost: a\r\nX\x01A: b\r\n\r\n', 400],
  ['an empty header name', 'GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n', 400],
  ['a header line without a colon', 'GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n', 400],
  ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400],
  ['no Host in HTTP/1.0', 'GET / HTTP/1.0\r\n\r\n', 400],
  ['two Hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
  ['an empty Host', 'GET / HTTP/1.1\r\nHost: \r\n\r\n', 400],
  ['a Host with a slash', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n', 400],
  ['a Host with a space', 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n', 400],
  ['a Host with userinfo', 'GET / HTTP/1.1\r\nHost: u@a\r\n\r\n', 400],
  ['a Host with a question mark', 'GET / HTTP/1.1\r\nHost: a?b\r\n\r\n', 400],
  ['a Host with a backslash', 'GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n', 400],
  ['a Host with a port that is none', 'GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n', 400],
  ['an absolute target for another host than Host', 'GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['an absolute target of another scheme', 'GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['an absolute target with userinfo', 'GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['GET *', 'GET * HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['a target of a bare authority', 'GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['a target without a slash', 'GET x HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['CONNECT', 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n', 405],
  ['TRACE', 'TRACE / HTTP/1.1\r\nHost: a\r\n\r\n', 405],
  ['a fragment', 'GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['a backslash in the path', 'GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['raw bytes above ASCII in the target', 'GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['two spaces in the request line', 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['a tab in the request line', 'GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n', 400],
  ['text behind the version', 'GET / HTTP/1.1 x\r\nHost: a\r\n\r\n', 400],
  ['HTTP/0.9', 'GET /\r\n\r\n', 505],
  ['HTTP/2.0 in a request line', 'GET / HTTP/2.0\r\nHost: a\r\n\r\n', 505],
  ['HTTP/1.2', 'GET / HTTP/1.2\r\nHost: a\r\n\r\n', 505],
  ['a lower-case protocol', 'GET / http/1.1\r\nHost: a\r\n\r\n', 400],
  [
    'an expectation that nobody knows',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n',
    417,
  ],
  [
    'Connection taking out Authorization',
    'GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nConnection: authorization\r\n\r\n',
    400,
  ],
  [
    'Connection taking out X-Forwarded-For',
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n',
    400,
  ],
  ['Authorization twice', 'GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n', 400],
  ['a request line over 8 KB', `GET /${'a'.repeat(9000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
  ['an endless request line', `GET /${'a'.repeat(40_000)}`, 414],
  ['a head over 32 KB', `GET / HTTP/1.1\r\nHost: a\r\n${`X-A: ${'a'.repeat(4000)}\r\n`.repeat(9)}\r\n`, 431],
  ['an endless head', `GET / HTTP/1.1\r\nHost: a\r\nX-A: ${'a'.repeat(40_000)}`, 431],
  [
    'more than 128 header fields, with a length hidden at the end',
    `POST / HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(200)}Content-Length: 3\r\n\r\nabc`,
    431,
  ],
  ['bytes of a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
];

/** Bodies whose chunks are malformed: the head may have gone on, but never as a whole request. */
const BAD_CHUNKS: readonly (readonly [string, string])[] = [
  ['a bare LF behind a chunk size', '3\nabc\r\n0\r\n\r\n'],
  ['a space behind a chunk size', '3 \r\nabc\r\n0\r\n\r\n'],
  ['a chunk size with a sign', '+3\r\nabc\r\n0\r\n\r\n'],
  ['a chunk size with 0x', '0x3\r\nabc\r\n0\r\n\r\n'],
  ['a chunk size that is no number', 'zz\r\nabc\r\n0\r\n\r\n'],
  ['a chunk size beyond 2^64', '10000000000000003\r\nabc\r\n0\r\n\r\n'],
  ['a chunk longer than it says', '3\r\nabcd\r\n0\r\n\r\n'],
  ['an empty chunk size', '\r\nabc\r\n0\r\n\r\n'],
  ['over 16 KB of chunk extension', `3;${'x'.repeat(17_000)}\r\nabc\r\n0\r\n\r\n`],
  ['a bare CR in a chunk extension', '3;a\rb\r\nabc\r\n0\r\n\r\n'],
  ['a folded trailer', '3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n'],
  ['a bare LF behind a trailer', '3\r\nabc\r\n0\r\nX-A: b\n\r\n'],
];

const NEXT = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';

test.each(REFUSED)('%s is refused and the connection ends', async (_title, bytes, status) => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  const answer = await exchange(httpPort(plane), bytes + NEXT);
  expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  expect(answer).toMatch(/\r\nConnection: close\r\n/);
  expect(answer.match(/HTTP\/1\.1 [0-9]/g)).toHaveLength(1);
  expect(answer).not.toMatch(/node|fairlead|v?[0-9]+\.[0-9]+\.[0-9]+/i);
  expect(backend.requests).toEqual([]);
});

test.each(BAD_CHUNKS)('%s ends the request with 400, and nothing behind it is a request', async (_title, chunks) => {
  const plane = await startPlane();
  let whole = 0;
  const backend = await startBackend((request, response) => {
    request.on('error', () => {});
    request.resume();
    request.on('end', () => {
      whole++;
      response.end('ok');
    });
  });
  routeAll(plane, backend.address);
  const head = 'POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';
  const answer = await exchange(httpPort(plane), head + chunks + NEXT);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer.match(/HTTP\/1\.1 [0-9]/g)).toHaveLength(1);
  expect(whole).toBe(0);
  expect(backend.requests.map((request) => request.url)).not.toContain('/smuggled');
});

test('unknown and lower-case methods, an absolute target, __proto__ and one empty line in front are served', async () => {
  const plane = await startPlane();
  const seen: string[] = [];
  const backend = await startRawBackend((head) => {
    seen.push(head);
    return 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';
  });
  routeAll(plane, backend);
  const close = 'Connection: close\r\n';
  for (const head of [
    'FOO / HTTP/1.1\r\nHost: a\r\n',
    'get / HTTP/1.1\r\nHost: a\r\n',
    'GET http://A:80/x HTTP/1.1\r\nHost: a\r\n',
    'GET http://a HTTP/1.1\r\nHost: a\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\n__proto__: x\r\n',
    '\r\nGET / HTTP/1.1\r\nHost: a\r\n',
    'GET / HTTP/1.1\r\nHost: [::1]:8080\r\n',
    'GET / HTTP/1.1\r\nhOsT:a\r\n',
  ]) {
    expect(await exchange(httpPort(plane), `${head}${close}\r\n`)).toMatch(/^HTTP\/1\.1 200 /);
  }
  expect(seen.map((head) => head.slice(0, head.indexOf('\r\n')))).toEqual([
    'FOO / HTTP/1.1',
    'get / HTTP/1.1',
    'GET /x HTTP/1.1',
    'GET / HTTP/1.1',
    'GET / HTTP/1.1',
    'GET / HTTP/1.1',
    'GET / HTTP/1.1',
    'GET / HTTP/1.1',
  ]);
  expect(seen.join('')).not.toMatch(/__proto__/);
});

test('OPTIONS * is answered here, and an h2c upgrade is not passed on', async () => {
  const plane = await startPlane();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  expect(await exchange(httpPort(plane), 'OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')).toMatch(
    /^HTTP\/1\.1 204 /,
  );
  const h2c =
    'GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: close, Upgrade, HTTP2-Settings\r\n\r\n';
  expect(await exchange(httpPort(plane), h2c)).toMatch(/^HTTP\/1\.1 200 /);
  expect(backend.requests).toHaveLength(1);
  expect(backend.requests[0]?.headers).not.toHaveProperty('upgrade');
  expect(backend.requests[0]?.headers).not.toHaveProperty('http2-settings');
});

test('a head that does not end gets 408 when its time is over, and a silent connection is ended', async () => {
  const plane = await startPlane({ times: { headMs: 60, lingerMs: 50 } });
  const [slow, silent] = [await raw(httpPort(plane)), await raw(httpPort(plane))];
  slow.send('GET / HTTP/1.1\r\nHost: a\r\nX-A: ');
  await slow.ended();
  expect(slow.text()).toMatch(/^HTTP\/1\.1 408 /);
  await silent.ended();
  expect(silent.text()).toBe('');
});
