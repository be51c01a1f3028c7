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
tmpl.test:PORT {
  metadata
  template IN A ip.tmpl.test {
    match "^ip-(?P<hex>[0-9a-f]{8})[.]"
    var n split(group('hex'), '')
    var parts [n[0] + n[1], n[2] + n[3]]
    expr len(group(1)) == 8 && metadata('view/name') == ''
    expr type() == 'A'
    answer "{{ .Name }} 60 IN A 10.0.{{ parseInt (index .Var.parts 0) 16 8 }}.{{ parseInt (index .Var.parts 1) 16 8 }}"
    fallthrough
  }
  template IN TXT meta.tmpl.test {
    answer "{{ .Name }} 60 IN TXT \\"{{ .Remote }}{{ .Meta \\"no/such\\" }} {{ if eq .Question.Qtype 16 }}text{{ else }}other{{ end }}\\""
  }
  template IN A broken.tmpl.test {
    match "^(x)[.]"
    answer "{{ .Name }} 60 IN A {{ parseInt .Group.1 10 8 }}"
  }
  template IN A alias.tmpl.test {
    answer "{{ .Name }} 60 IN CNAME lb.example.test."
  }
  template IN A round.tmpl.test {
    answer "{{ .Name }} 60 IN CNAME again.round.tmpl.test."
    upstream
  }
  template IN A tmpl.test {
    rcode NXDOMAIN
  }
}
v.test:PORT {
  metadata
  view ten {
    expr metadata('view/name') == 'ten' && name() startsWith 'ten.'
  }
  template IN TXT v.test {
    answer "{{ .Name }} 60 IN TXT {{ .Meta \\"view/name\\" }}"
  }
}
lb.test:PORT {
  loadbalance round_robin {
    prefer 192.0.2.62/32
  }
  rewrite name exact lb.test multi.example.test
  forward . UPSTREAM
}
heavy.test:PORT {
  loadbalance weighted /weights
  rewrite name exact heavy.test multi.example.test
  forward . UPSTREAM
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
  const files = {
    hosts: '192.0.2.12 *.w.hosts.test\n192.0.2.10 a.hosts.test\n',
    weights: 'heavy.test\n192.0.2.61 255\n192.0.2.62 1\n',
  };
  world = await serveCorefile(COREFILE.replaceAll('UPSTREAM', at), undefined, files);
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

test.each([
  ['ip-0a0b0c0d.ip.tmpl.test', 'A', 'NOERROR', ['ip-0a0b0c0d.ip.tmpl.test. 60 IN A 10.0.10.11']],
  ['IP-0A0B0C0D.ip.tmpl.test', 'ANY', 'NXDOMAIN', []],
  ['a.meta.tmpl.test', 'TXT', 'NOERROR', ['a.meta.tmpl.test. 60 IN TXT "127.0.0.1 text"']],
  ['x.broken.tmpl.test', 'A', 'SERVFAIL', []],
  ['y.broken.tmpl.test', 'A', 'SERVFAIL', []],
  [
    'a.alias.tmpl.test',
    'A',
    'NOERROR',
    // Nobody else asks for lb.example.test, so it has not been counted down in the cache.
    ['a.alias.tmpl.test. 60 IN CNAME lb.example.test.', 'lb.example.test. 30 IN A 192.0.2.80'],
  ],
  ['a.alias.tmpl.test', 'ANY', 'NOERROR', ['a.alias.tmpl.test. 60 IN CNAME lb.example.test.']],
  ['ten.v.test', 'TXT', 'NOERROR', ['ten.v.test. 60 IN TXT "ten"']],
])('template answers %s %s', async (name, type, status, answer) => {
  const reply = await ask('+noedns', name, type);
  expect([reply.status, reply.answer]).toEqual([status, answer]);
});

test('aliases of a template that lead to each other end', async () => {
  const { status, answer } = await ask('+noedns', 'a.round.tmpl.test');
  expect(status).toBe('NOERROR');
  expect(answer.length).toBeLessThan(20);
});

test('template and hosts show what they have', async () => {
  await ask('+noedns', 'x.broken.tmpl.test');
  await ask('+noedns', 'www.nosuch.tmpl.test');
  const text = await world.metrics();
  expect(text).toMatch(
    /coredns_template_matches_total\{server="[^"]+",view="",zone="tmpl\.test\.",class="IN",type="A"\} \d/,
  );
  expect(text).toMatch(
    /coredns_template_template_failures_total\{[^}]*section="answer",template="\{\{ \.Name \}\} 60 IN A \{\{ parseInt \.Group\.1 10 8 \}\}"\} \d/,
  );
  expect(text).toContain('coredns_hosts_entries{hostsfile="/hosts"} ');
  expect(text).toContain('coredns_hosts_reload_timestamp_seconds ');
});

test('addresses that are preferred come first, and heavy ones more often than not', async () => {
  const firsts = async (name: string): Promise<readonly (string | undefined)[]> => {
    const found: (string | undefined)[] = [];
    for (let i = 0; i < 12; i++) found.push((await ask('+noedns', name)).answer[0]?.split(' ').at(-1));
    return found;
  };
  expect(new Set(await firsts('lb.test'))).toEqual(new Set(['192.0.2.62']));
  // One in 256 is the light one: half of twelve are not, but once in 10^12.
  const heavy = (await firsts('heavy.test')).filter((address) => address === '192.0.2.61');
  expect(heavy.length).toBeGreaterThan(6);
});
