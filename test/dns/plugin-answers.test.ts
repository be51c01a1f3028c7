// What plugins answer by themselves, asked by dig.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { serveCorefile, type CorefileWorld } from './corefile-world.ts';
import { dig, type DigReply } from './dig.ts';
import { startFakeUpstream, type FakeUpstream } from './fake-upstream.ts';
import { upstreamAnswer } from './setup-world.ts';

vi.setConfig({ testTimeout: 30_000 });

const COREFILE = `deny.test:PORT {
  acl {
    allow net 127.0.0.9/32
    block type A net *
    filter type AAAA net *
    drop type TXT net *
  }
  template IN ANY deny.test {
    answer "{{ .Name }} 60 IN TXT served"
  }
}
hosts.test:PORT {
  hosts /hosts {
    192.0.2.9 inline.hosts.test
  }
}
.:PORT {
  nsid here
  hosts /hosts . {
    fallthrough
  }
  local
  cache 30 {
    disable success multi.example.test
  }
  forward . UPSTREAM
}
`;

let upstream: FakeUpstream;
let world: CorefileWorld;

beforeAll(async () => {
  upstream = await startFakeUpstream(upstreamAnswer);
  const at = `${upstream.server.address}:${upstream.server.port}`;
  const files = { hosts: '192.0.2.12 *.w.hosts.test\n192.0.2.10 a.hosts.test\n' };
  world = await serveCorefile(COREFILE.replace('UPSTREAM', at), undefined, files);
});

afterAll(async () => {
  await world.plane.stop();
  await upstream.close();
});

const ask = (...words: readonly string[]): Promise<DigReply> => dig(world.server, ...words);

test.each([
  ['localhost', 'A', 'NOERROR', ['localhost. 604800 IN A 127.0.0.1']],
  ['x.localhost', 'AAAA', 'NOERROR', ['x.localhost. 604800 IN AAAA ::1']],
  ['localhost.example.org', 'A', 'NOERROR', ['localhost.example.org. 604800 IN A 127.0.0.1']],
  ['x.localhost', 'MX', 'NOERROR', []],
  ['127.in-addr.arpa', 'NS', 'NOERROR', ['127.in-addr.arpa. 604800 IN NS localhost.']],
  ['1.0.0.127.in-addr.arpa', 'PTR', 'NOERROR', ['1.0.0.127.in-addr.arpa. 604800 IN PTR localhost.']],
  ['2.0.0.127.in-addr.arpa', 'PTR', 'NXDOMAIN', []],
])('local answers %s %s', async (name, type, status, answer) => {
  const reply = await ask('+noedns', name, type);
  expect([reply.status, reply.flags, reply.answer]).toEqual([status, 'qr rd', answer]);
});

test('what acl keeps from a client is no answer with authority, and is counted', async () => {
  const blocked = await ask('+noedns', 'a.deny.test', 'A');
  expect([blocked.status, blocked.flags]).toEqual(['REFUSED', 'qr rd']);
  const filtered = await ask('+noedns', 'a.deny.test', 'AAAA');
  expect([filtered.status, filtered.flags]).toEqual(['NOERROR', 'qr rd']);
  expect((await ask('+noedns', 'a.deny.test', 'MX')).answer).toHaveLength(1);
  const text = await world.metrics();
  expect(text).toMatch(/coredns_acl_blocked_requests_total\{server="[^"]+",view="",zone="deny\.test\."\} 1/);
  expect(text).toMatch(/coredns_acl_filtered_requests_total\{[^}]+\} 1/);
  expect(text).toMatch(/coredns_acl_allowed_requests_total\{server="[^"]+",view=""\} 1/);
});

test('a name that stands for any in hosts is the name of no address', async () => {
  expect((await ask('x.w.hosts.test')).answer).toHaveLength(1);
  expect((await ask('12.2.0.192.in-addr.arpa', 'PTR')).status).toBe('NXDOMAIN');
  expect((await ask('10.2.0.192.in-addr.arpa', 'PTR')).answer).toHaveLength(1);
});

test('what the cache does not keep has the TTLs of what it keeps', async () => {
  const multi = await ask('+noedns', 'multi.example.test');
  expect(multi.answer.map((line) => line.split(' ')[1])).toEqual(['30', '30']);
  expect((await ask('+noedns', 'alias.example.test', 'AAAA')).answer).toEqual([
    'alias.example.test. 30 IN CNAME www.example.test.',
  ]);
});

test.each([
  ['100', 'udp: 100'],
  ['700', 'udp: 700'],
  ['4096', 'udp: 4096'],
])("a reply repeats the client's size, whoever made it: %s", async (size, told) => {
  for (const name of ['localhost', 'www.example.test', 'v4only.example.test'])
    expect((await ask(`+bufsize=${size}`, name)).edns).toContain(told);
});

test('the name of the server is told with answers of others, too', async () => {
  for (const name of ['localhost', 'www.example.test', 'www.example.test'])
    expect((await ask('+nsid', name)).text).toContain('; NSID: 68 65 72 65 ("here")');
});
