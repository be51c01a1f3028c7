// rewrite over real sockets: what upstream is asked, and what the client is told.

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { readOptions } from '../../src/dns/edns-option.ts';
import { serveCorefile, type CorefileWorld } from './corefile-world.ts';
import { dig, type DigReply } from './dig.ts';
import { startFakeUpstream, type FakeUpstream } from './fake-upstream.ts';
import { upstreamAnswer } from './setup-world.ts';

vi.setConfig({ testTimeout: 30_000 });

let upstream: FakeUpstream;
let world: CorefileWorld;

beforeAll(async () => {
  upstream = await startFakeUpstream(upstreamAnswer);
});

afterEach(() => world.plane.stop());
afterAll(() => upstream.close());

async function serve(...rules: readonly string[]): Promise<void> {
  const lines = rules.map((rule) => `  rewrite ${rule}\n`).join('');
  const text = `.:PORT {\n  metadata\n${lines}  forward . ${upstream.server.address}:${upstream.server.port}\n}\n`;
  world = await serveCorefile(text, undefined);
}

const ask = (...words: readonly string[]): Promise<DigReply> => dig(world.server, '+noedns', ...words);

/** The options that upstream got with the last question, data in hexadecimal. */
function optionsSeen(): readonly string[] {
  // On a busy machine an attempt may be late, and the server be probed: that is another question.
  const { edns } = upstream.asked.findLast(({ name }) => name === 'www.example.test.')?.query ?? {};
  return readOptions(edns?.options ?? '').map(
    ({ code, data }) => `${code} ${Buffer.from(data, 'latin1').toString('hex')}`,
  );
}

describe('names', () => {
  test('an exact rule tells the name below the new one back as below the old one, in values too', async () => {
    await serve('name exact example.test other.test', 'name exact short.test example.test');
    const { authority } = await ask('short.test', 'MX');
    expect(authority).toEqual([
      'short.test. 3600 IN SOA ns.short.test. hostmaster.example.test. 1 7200 900 1209600 900',
    ]);
  });

  test('of one line, `answer` may tell names and values', async () => {
    await serve(
      'name regex (.*)\\.rv\\.test {1}.example.test answer name (.*)\\.example\\.test {1}.rv.test value (.*)\\.example\\.test {1}.rv.test',
    );
    expect((await ask('alias.rv.test')).answer).toEqual([
      'alias.rv.test. 300 IN CNAME www.rv.test.',
      'www.rv.test. 300 IN A 192.0.2.53',
    ]);
  });

  test('rules with `continue` go on, also past those that change nothing of the question', async () => {
    await serve(
      'continue ttl exact first.test 9',
      'continue name exact first.test second.test',
      'continue rcode exact nosuch.test NXDOMAIN REFUSED',
      'name exact second.test www.example.test',
    );
    expect((await ask('first.test')).answer).toEqual(['first.test. 9 IN A 192.0.2.53']);
  });
});

test.each([
  [['rcode exact nosuch.example.test NXDOMAIN NOERROR'], 'nosuch.example.test', 'NOERROR'],
  [['rcode suffix example.test SERVFAIL 5'], 'fail.example.test', 'REFUSED'],
  [['rcode regex .*[.]test 3 SERVFAIL'], 'nosuch.example.test', 'SERVFAIL'],
  [['rcode prefix fail SERVFAIL NXDOMAIN'], 'www.example.test', 'NOERROR'],
])('a response code is told as another: %s', async (rules, name, status) => {
  await serve(...rules);
  expect((await ask(name)).status).toBe(status);
});

describe('cname', () => {
  test('an alias leads elsewhere, and what is there is told', async () => {
    await serve('cname exact www.example.test v4only.example.test');
    expect((await ask('alias.example.test')).answer).toEqual([
      'alias.example.test. 300 IN CNAME v4only.example.test.',
      'v4only.example.test. 300 IN A 192.0.2.99',
    ]);
    expect((await ask('www.example.test')).answer).toEqual(['www.example.test. 300 IN A 192.0.2.53']);
  });

  test('aliases that lead back to themselves end', async () => {
    await serve('cname exact www.example.test alias.example.test');
    const { status, answer } = await ask('alias.example.test');
    expect(status).toBe('NOERROR');
    expect(answer.length).toBeGreaterThan(0);
  });
});

describe('edns0', () => {
  test.each([
    ['local set 0xffee 0x61626364', [], ['65518 61626364']],
    ['local set 0xffee hello', ['+edns', '+ednsopt=65518:00'], ['65518 68656c6c6f']],
    ['local append 0xffee {qtype}', ['+edns', '+ednsopt=65518:00'], ['65518 00', '65518 0001']],
    ['local replace 0xffee x', [], []],
    ['local replace 0xffee x', ['+edns', '+ednsopt=65518:00'], ['65518 78']],
    ['local unset 0xffee', ['+edns', '+ednsopt=65518:00', '+ednsopt=65519:01'], ['65519 01']],
    ['local set 0xffee {client_ip} revert', [], ['65518 7f000001']],
    ['local set 0xffee {protocol}', [], ['65518 756470']],
    ['local set 0xffee {no/such}', [], []],
    ['nsid set', [], ['3 ']],
    ['subnet set 24 56', [], ['8 000118007f0000']],
    ['subnet set 20 56', ['+subnet=192.0.2.0/24'], ['8 000114007f0000']],
    ['subnet unset', ['+subnet=192.0.2.0/24'], []],
  ])('%s, asked with %j', async (rule, words, options) => {
    await serve(`edns0 ${rule}`);
    const reply = await dig(world.server, ...(words.length > 0 ? words : ['+noedns']), 'www.example.test');
    expect(reply.answer).toEqual(['www.example.test. 300 IN A 192.0.2.53']);
    // A client that sent no OPT record gets none (RFC 6891 section 7).
    expect(reply.edns === undefined).toBe(words.length === 0);
    expect(optionsSeen()).toEqual(options);
  });

  test('what a client says by options goes upstream, but for what is between two neighbours', async () => {
    await serve('name exact a.test b.test');
    await dig(world.server, '+subnet=192.0.2.0/24', '+cookie=0011223344556677', '+keepalive', 'www.example.test');
    expect(optionsSeen()).toEqual(['8 00011800c00002']);
  });
});
