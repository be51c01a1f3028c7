// Hostile HTTP/1.1: valid requests, and what becomes of them under a knife.

/** Mulberry32: the same seed gives the same cases on every machine. In [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Random = () => number;

export interface HttpCase {
  /** What the client sends, in these pieces. */
  readonly pieces: readonly string[];
}

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
const TOKENS = [
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  '\n\n',
  '\0',
  ' ',
  '\t',
  '\x0b',
  ':',
  ';',
  ',',
  '#',
  '\\',
  '%2e',
  '%00',
  '//',
  '/../',
  '\x7f',
  '\xff',
  'Content-Length: 5\r\n',
  'Content-Length: 0\r\n',
  'Content-Length: +5\r\n',
  'Content-Length: 5, 5\r\n',
  'content-length:\t5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: xchunked\r\n',
  'Transfer-Encoding : chunked\r\n',
  'transfer_encoding: chunked\r\n',
  'Transfer-Encoding:\x0bchunked\r\n',
  'Transfer-Encoding: chunked, chunked\r\n',
  ' Transfer-Encoding: chunked\r\n',
  'TE: trailers\r\n',
  'Host: b\r\n',
  'Connection: content-length\r\n',
  'Connection: close\r\n',
  'Expect: 100-continue\r\n',
  'Connection: upgrade\r\nUpgrade: h2c\r\n',
  '0\r\n\r\n',
  '0\r\nX: y\r\n\r\n',
  '5\r\nhello\r\n',
  '5;a=b\r\n',
  'ffffffffffffffff\r\n',
  '-1\r\n',
  '0x5\r\n',
  SMUGGLED,
  'HTTP/1.0',
  'HTTP/0.9',
  'HTTP/2.0',
];

/** The next case of the sequence. */
export function nextCase(random: Random): HttpCase {
  const kind = random();
  if (kind < 0.04) return cut(random, randomBytes(random, 1 + below(random, 300)));
  if (kind < 0.05) return cut(random, hugeHead(random));
  let text = '';
  for (let i = 1 + below(random, 3); i > 0; i--) text += validRequest(random);
  for (let i = below(random, 4); i > 0; i--) text = mutate(random, text);
  return cut(random, text);
}

function validRequest(random: Random): string {
  const method = pick(random, ['GET', 'POST', 'PUT', 'HEAD', 'DELETE', 'PROPFIND', 'get']);
  const target = pick(random, ['/', '/tea', '/a/b/c?d=e', '/%41/./x', '/tea?q=%2e%2e', 'http://a/abs']);
  const version = random() < 0.1 ? '1.0' : '1.1';
  const fields = ['Host: a\r\n'];
  if (random() < 0.5) fields.push('X-Custom: some value\r\n');
  if (random() < 0.2) fields.push('X_Under: dropped\r\n');
  if (random() < 0.2) fields.push('Connection: keep-alive\r\n');
  let body = '';
  const framing = random();
  if (framing < 0.3) {
    body = payload(random);
    fields.push(`Content-Length: ${body.length}\r\n`);
  } else if (framing < 0.6 && version === '1.1') {
    fields.push('Transfer-Encoding: chunked\r\n');
    for (let i = below(random, 4); i > 0; i--) {
      const chunk = payload(random);
      if (chunk !== '') body += `${chunk.length.toString(16)}${random() < 0.2 ? ';x=y' : ''}\r\n${chunk}\r\n`;
    }
    body += `0\r\n${random() < 0.2 ? 'X-Trailer: z\r\n' : ''}\r\n`;
  }
  if (random() < 0.3) fields.reverse();
  return `${method} ${target} HTTP/${version}\r\n${fields.join('')}\r\n${body}`;
}

function payload(random: Random): string {
  const kind = random();
  if (kind < 0.3) return SMUGGLED;
  if (kind < 0.4) return '0\r\n\r\n';
  if (kind < 0.5) return randomBytes(random, below(random, 3000));
  return 'hello'.slice(0, below(random, 6));
}

function mutate(random: Random, text: string): string {
  const at = below(random, text.length + 1);
  const end = Math.min(text.length, at + 1 + below(random, 20));
  switch (below(random, 6)) {
    case 0:
      return text.slice(0, at) + String.fromCharCode(below(random, 256)) + text.slice(at + 1);
    case 1:
      return text.slice(0, at) + text.slice(end);
    case 2:
      return text.slice(0, at) + text.slice(at, end) + text.slice(at);
    case 3: {
      // Behind a line, where a header field would stand.
      const line = text.indexOf('\r\n', at);
      const place = line < 0 ? at : line + 2;
      return text.slice(0, place) + pick(random, TOKENS) + text.slice(place);
    }
    case 4:
      return text.replace(/Content-Length: [0-9]+/, `Content-Length: ${below(random, 60)}`);
    default:
      return text.slice(0, at) + pick(random, TOKENS) + text.slice(at);
  }
}

function hugeHead(random: Random): string {
  const field = `X-Huge: ${'h'.repeat(below(random, 9000))}\r\n`;
  const line = random() < 0.3 ? `/${'u'.repeat(below(random, 12_000))}` : '/';
  return `GET ${line} HTTP/1.1\r\nHost: a\r\n${field.repeat(1 + below(random, 8))}${'Y: z\r\n'.repeat(below(random, 200))}\r\n`;
}

function cut(random: Random, text: string): HttpCase {
  const kind = random();
  if (kind < 0.4 || text.length < 2) return { pieces: [text] };
  if (kind < 0.45 && text.length < 400) return { pieces: text.split('') };
  const places = [
    ...new Set(Array.from({ length: 1 + below(random, 5) }, () => 1 + below(random, text.length - 1))),
  ].sort((a, b) => a - b);
  return { pieces: [0, ...places].map((place, i) => text.slice(place, places[i])) };
}

function randomBytes(random: Random, length: number): string {
  return String.fromCharCode(...Array.from({ length }, () => below(random, 256)));
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

function pick<T>(random: Random, list: readonly T[]): T {
  const found = list[below(random, list.length)];
  if (found === undefined) throw new Error('an empty list');
  return found;
}
