// The cache with an upstream server that changes its mind, or goes away.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { encodeReply } from '../../src/dns/encode.ts';
import { parseRecord } from '../../src/dns/record-text.ts';
import { RCODE } from '../../src/dns/wire/types.ts';
import { until } from '../support/until.ts';
import { serveCorefile, type CorefileWorld } from './corefile-world.ts';
import { dig, type DigReply } from './dig.ts';
import { startFakeUpstream, type FakeUpstream } from './fake-upstream.ts';

vi.setConfig({ testTimeout: 30_000 });

const SOA = 'example.test. 1 IN SOA ns.example.test. hm.example.test. 1 2 3 4 1';

let upstream: FakeUpstream;
let mode: 'answers' | 'denies' | 'fails' | 'silent';
let address: string;
let ttl: number;
let world: CorefileWorld | undefined;

beforeEach(async () => {
  mode = 'answers';
  address = '192.0.2.1';
  ttl = 1;
  upstream = await startFakeUpstream(({ query, name }) => {
    if (mode === 'silent') return [];
    if (mode === 'fails') return [encodeReply(query, { kind: 'code', rcode: RCODE.SERVFAIL }, 512, () => 0)];
    const answer = mode === 'answers' ? parseRecord(`${name} ${ttl} IN A ${address}`) : undefined;
    const authority = mode === 'denies' ? parseRecord(SOA) : undefined;
    const sections = { answer: answer ? [answer] : [], authority: authority ? [authority] : [], additional: [] };
    const rcode = mode === 'denies' ? RCODE.NXDOMAIN : RCODE.NOERROR;
    return [encodeReply(query, { kind: 'message', rcode, flags: 0, ...sections }, 512, () => 0)];
  });
});

afterEach(async () => {
  await world?.plane.stop();
  await upstream.close();
});

async function serve(options: string): Promise<void> {
  const at = `${upstream.server.address}:${upstream.server.port}`;
  const lines = options
    .split('\n')
    .map((line) => `    ${line}\n`)
    .join('');
  world = await serveCorefile(
    `.:PORT {\n  cache {\n    success 9984 1 0\n    denial 9984 1 0\n${lines}  }\n  forward . ${at} {\n    max_fails 0\n    read_timeout 100ms\n  }\n}\n`,
    undefined,
  );
}

function ask(...words: readonly string[]): Promise<DigReply> {
  if (!world) throw new Error('nothing is served');
  return dig(world.server, '+noedns', ...(words.length > 0 ? words : ['www.example.test']));
}

const asked = (): number => upstream.asked.length;
const addressOf = ({ answer }: DigReply): string | undefined => answer[0]?.split(' ').at(-1);

/** Asks until the cache has given the entry up for its time. */
const outlive = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1100));

describe('serve_stale', () => {
  test('gives what has run out at once with TTL 0, and asks upstream behind it', async () => {
    await serve('serve_stale 1h');
    await ask();
    await outlive();
    address = '192.0.2.2';
    const stale = await ask();
    expect(stale.answer).toEqual(['www.example.test. 0 IN A 192.0.2.1']);
    await until(async () => addressOf(await ask()) === '192.0.2.2');
    expect(await world?.metrics()).toMatch(/coredns_cache_served_stale_total\{[^}]*zones="\."[^}]*\} [1-9]/);
  });

  test('keeps the answer while upstream is silent or fails, for as long as it was told', async () => {
    await serve('serve_stale 2s');
    await ask();
    mode = 'fails';
    await outlive();
    expect(addressOf(await ask())).toBe('192.0.2.1');
    mode = 'silent';
    expect(addressOf(await ask())).toBe('192.0.2.1');
    await until(async () => (await ask('+time=2')).status === 'SERVFAIL');
  });

  test('verify asks first, and waits as long as it was told', async () => {
    await serve('serve_stale 1h verify 50ms 7s');
    await ask();
    await outlive();
    address = '192.0.2.2';
    expect(addressOf(await ask())).toBe('192.0.2.2');
    await outlive();
    mode = 'silent';
    expect((await ask()).answer).toEqual(['www.example.test. 7 IN A 192.0.2.2']);
  });

  test('a denial goes before an answer that has run out, but with prefer_positive', async () => {
    await serve('serve_stale 1h');
    await ask();
    await outlive();
    mode = 'denies';
    expect((await ask()).status).toBe('NOERROR');
    await until(async () => (await ask()).status === 'NXDOMAIN');
    await world?.plane.stop();
    mode = 'answers';
    await serve('serve_stale 1h immediate\nserve_stale_policy prefer_positive');
    await ask();
    await outlive();
    mode = 'denies';
    for (let i = 0; i < 3; i++) expect((await ask()).status).toBe('NOERROR');
  });
});

test('prefetch asks again for what is popular before it runs out', async () => {
  ttl = 60;
  const at = `${upstream.server.address}:${upstream.server.port}`;
  world = await serveCorefile(`.:PORT {\n  cache 3 {\n    prefetch 2 1m 50%\n  }\n  forward . ${at}\n}\n`, undefined);
  for (let i = 0; i < 3; i++) await ask();
  expect(asked()).toBe(1);
  await until(async () => {
    await ask();
    return asked() === 2;
  });
  expect(await world.metrics()).toMatch(/coredns_cache_prefetch_total\{server="dns:[^"]+",zones="\.",view=""\} 1/);
});

test('a failure of upstream is kept for a while, and a silence of upstream is not', async () => {
  await serve('servfail 1s');
  mode = 'fails';
  expect((await ask()).status).toBe('SERVFAIL');
  const before = asked();
  expect((await ask()).status).toBe('SERVFAIL');
  expect(asked()).toBe(before);
  mode = 'silent';
  await outlive();
  const reply = await ask('+edns=0', 'www.example.test');
  expect(reply.status).toBe('SERVFAIL');
  expect(reply.text).toContain('EDE: 22 (No Reachable Authority)');
  mode = 'answers';
  expect((await ask()).status).toBe('NOERROR');
});
