// Questions to a server that runs a Corefile over an API server, by UDP and TCP.

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { nameText } from '../../src/dns/wire/name.ts';
import { isJson } from '../support/api-server/json.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { until } from '../support/until.ts';
import { followCluster, serveCorefile, type ClusterFeed, type CorefileWorld } from './corefile-world.ts';
import { comparable } from './comparable.ts';
import { dig, type DigReply } from './dig.ts';
import { startFakeUpstream, type FakeUpstream } from './fake-upstream.ts';
import { CLUSTER_OBJECTS, QUERY_CASES, SETUPS, type QueryCase } from './query-cases.ts';
import { upstreamAnswer } from './setup-world.ts';

vi.setConfig({ testTimeout: 30_000, hookTimeout: 30_000 });

let api: TestApiServer;
let feed: ClusterFeed;
let upstream: FakeUpstream;
const worlds = new Map<string, CorefileWorld>();

beforeAll(async () => {
  api = await startTestApiServer();
  for (const object of CLUSTER_OBJECTS) if (isJson(object)) api.apply(object);
  upstream = await startFakeUpstream(upstreamAnswer);
  feed = await followCluster(api.url);
});

afterAll(async () => {
  await Promise.all([...worlds.values()].map(({ plane }) => plane.stop()));
  await feed.close();
  await upstream.close();
  await api.stop();
});

const upstreamText = (): string => `${upstream.server.address}:${upstream.server.port}`;

/** One for each setup and, because of caches, each use. */
async function world(setup: string, use = ''): Promise<CorefileWorld> {
  const known = worlds.get(setup + use);
  if (known) return known;
  const text = (SETUPS[setup] ?? setup).replaceAll('UPSTREAM', upstreamText()).replace('lameduck 5s', 'lameduck 10ms');
  const started = await serveCorefile(text, feed);
  worlds.set(setup + use, started);
  return started;
}

const sections = ({
  rcode,
  answer,
  authority,
  additional,
}: Pick<QueryCase, 'rcode' | 'answer' | 'authority' | 'additional'>) => ({
  rcode,
  answer: comparable(answer),
  authority: comparable(authority),
  additional: comparable(additional),
});

const told = (reply: DigReply) => sections({ ...reply, rcode: reply.status ?? 'no reply' });

describe.each(['udp', 'tcp'] as const)('over %s', (transport) => {
  test.each(QUERY_CASES)('$id: $name $type', async (row) => {
    const { server } = await world(row.setup, transport);
    const words = transport === 'tcp' ? ['+tcp'] : row.tcp ? ['+tcp'] : [];
    const reply = await dig(server, '+noedns', ...words, row.name, row.type);
    expect(told(reply)).toEqual(sections(row));
  });
});

describe('plugins', () => {
  const PLUGINS = `corp.test:PORT {
    hosts /nosuch {
        192.0.2.10 a.corp.test b.corp.test
        fd00::10 six.corp.test
        192.0.2.12 *.star.corp.test
        ttl 60
        fallthrough dyn.corp.test
    }
    template IN A dyn.corp.test {
        match "^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)-(?P<c>[0-9]+)-(?P<d>[0-9]+)[.]dyn[.]corp[.]test[.]$"
        answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
    }
    log
}
deny.test:PORT {
    acl {
        block type A net *
        filter type AAAA net *
        drop type MX net *
    }
    template IN ANY deny.test {
        answer "{{ .Name }} 60 IN TXT served"
    }
}
.:PORT {
    any
    loadbalance
    chaos version-9 somebody
    nsid server-7
    bufsize 600
    minimal
    header {
        response set ra
    }
    rewrite stop {
        name regex ^(.*)\\.apps\\.example\\.test\\.?$ {1}.shop.svc.cluster.local
        answer name ^(.*)\\.shop\\.svc\\.cluster\\.local\\.?$ {1}.apps.example.test
    }
    rewrite name exact shortcut.test web.shop.svc.cluster.local
    rewrite name suffix .corp2.test .shop.svc.cluster.local answer auto
    rewrite name suffix .raw.test .shop.svc.cluster.local
    rewrite continue ttl exact www.example.test 7
    kubernetes cluster.local in-addr.arpa {
        pods insecure
    }
    forward . UPSTREAM
}
`;
  const ask = async (...words: readonly string[]): Promise<DigReply> => {
    const { plane } = await world(PLUGINS);
    const [server] = plane.addresses;
    if (!server) throw new Error('nothing is listened on');
    return dig(server, '+noedns', ...words);
  };

  // All blocks are on one port: that of the first, which the system chose.
  test.each([
    ['hosts', 'six.corp.test AAAA', 'NOERROR', ['six.corp.test. 60 IN AAAA fd00::10']],
    ['hosts, reverse', '10.2.0.192.in-addr.arpa PTR', 'NXDOMAIN', []],
    ['hosts, any one label', 'x.star.corp.test A', 'NOERROR', ['x.star.corp.test. 60 IN A 192.0.2.12']],
    ['hosts, unknown', 'none.corp.test A', 'SERVFAIL', []],
    ['template', 'ip-10-1-2-3.dyn.corp.test A', 'NOERROR', ['ip-10-1-2-3.dyn.corp.test. 60 IN A 10.1.2.3']],
    ['template without a match', 'x.dyn.corp.test A', 'SERVFAIL', []],
    ['acl block', 'x.deny.test A', 'REFUSED', []],
    ['acl filter', 'x.deny.test AAAA', 'NOERROR', []],
    ['acl allows the rest', 'x.deny.test TXT', 'NOERROR', ['x.deny.test. 60 IN TXT "served"']],
    ['any', 'www.example.test ANY', 'NOERROR', ['www.example.test. 8482 IN HINFO "ANY obsoleted" "See RFC 8482"']],
    ['chaos', 'version.bind TXT CH', 'NOERROR', ['version.bind. 0 CH TXT "version-9"']],
    ['rewrite exact', 'shortcut.test A', 'NOERROR', ['shortcut.test. 5 IN A 10.96.10.1']],
    ['rewrite regex', 'web.apps.example.test A', 'NOERROR', ['web.apps.example.test. 5 IN A 10.96.10.1']],
    ['rewrite suffix, told back', 'web.corp2.test A', 'NOERROR', ['web.corp2.test. 5 IN A 10.96.10.1']],
    ['rewrite suffix, not told back', 'web.raw.test A', 'NOERROR', ['web.shop.svc.cluster.local. 5 IN A 10.96.10.1']],
    ['rewrite ttl', 'www.example.test A', 'NOERROR', ['www.example.test. 7 IN A 192.0.2.53']],
  ])('%s', async (_, question, rcode, answer) => {
    const reply = await ask(...question.split(' '));
    expect({ status: reply.status, answer: reply.answer }).toEqual({ status: rcode, answer });
  });

  test('acl says why to clients with and without EDNS, and drops in silence', async () => {
    expect((await ask('x.deny.test', 'A')).text).toMatch(/EDE: 15/);
    expect((await ask('x.deny.test', 'MX', '+time=1')).status).toBeUndefined();
  });

  test('nsid, header and minimal change what they are for', async () => {
    const reply = await ask('+edns=0', '+nsid', '+bufsize=4096', '_http._tcp.web.shop.svc.cluster.local', 'SRV');
    expect(reply.text).toContain('server-7');
    expect(reply.flags).toContain('ra');
    expect(reply.additional).toEqual([]);
    expect(reply.edns).toContain('udp: 600');
  });

  test('log writes a line for each query in the common format', async () => {
    await ask('six.corp.test', 'AAAA');
    const { lines } = await world(PLUGINS);
    expect(lines.join('\n')).toMatch(
      /127\.0\.0\.1:\d+ - \d+ .*AAAA IN six\.corp\.test\. udp \d+ false 512.* NOERROR qr,aa,rd \d+ [\d.e-]+s/,
    );
  });
});

describe('the cache', () => {
  test('hands out what upstream said with its TTL counted down and AA, and asks once', async () => {
    const { server } = await world('.:PORT {\n  cache 30\n  forward . UPSTREAM\n}\n');
    const first = await dig(server, 'multi.example.test');
    expect(first.answer.toSorted()).toEqual([
      'multi.example.test. 30 IN A 192.0.2.61',
      'multi.example.test. 30 IN A 192.0.2.62',
    ]);
    const before = upstream.asked.length;
    const second = await dig(server, 'MULTI.example.test');
    expect(second.flags).toContain('aa');
    expect(second.answer[0]).toMatch(/^MULTI\.example\.test\. (29|30) IN A/);
    expect(upstream.asked.length).toBe(before);
  });

  test('never holds a name of the cluster: a Service is there as soon as the API server says so', async () => {
    const { server } = await world('.:PORT {\n  kubernetes cluster.local\n  cache 30\n  forward . UPSTREAM\n}\n');
    expect((await dig(server, 'later.shop.svc.cluster.local')).status).toBe('NXDOMAIN');
    api.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'shop', name: 'later' },
      spec: { type: 'ClusterIP', clusterIP: '10.96.77.7', clusterIPs: ['10.96.77.7'], ports: [{ port: 80 }] },
    });
    await until(async () => (await dig(server, 'later.shop.svc.cluster.local')).status === 'NOERROR');
    api.delete('Service', 'shop/later');
    await until(async () => (await dig(server, 'later.shop.svc.cluster.local')).status === 'NXDOMAIN');
  });
});

describe('several blocks', () => {
  test('the longest zone answers, DS goes to the parent, and what no block has is refused', async () => {
    const text = [
      'b.test:PORT {\n  template IN ANY . {\n  answer "{{ .Name }} 1 IN TXT b"\n  }\n}\n',
      'a.b.test:PORT {\n  template IN ANY . {\n  answer "{{ .Name }} 1 IN TXT a"\n  }\n}\n',
    ].join('');
    const { server } = await world(text);
    expect((await dig(server, 'x.a.b.test', 'TXT')).answer).toEqual(['x.a.b.test. 1 IN TXT "a"']);
    expect((await dig(server, 'a.b.test', 'TXT')).answer).toEqual(['a.b.test. 1 IN TXT "a"']);
    expect((await dig(server, 'a.b.test', 'DS')).answer).toEqual(['a.b.test. 1 IN TXT "b"']);
    expect((await dig(server, 'c.test', 'TXT')).status).toBe('REFUSED');
  });
});

test('a loop is reported and refused while the cluster is answered', async () => {
  // The upstream sends what it is asked back to the server.
  let target = { address: '127.0.0.1', port: 1 };
  const mirror = await startFakeUpstream(({ query }) => {
    void dig(target, '+time=1', nameText(query.key), 'HINFO');
    return [];
  });
  const at = `${mirror.server.address}:${mirror.server.port}`;
  const looping = await serveCorefile(
    `.:PORT {\n  errors\n  kubernetes cluster.local\n  loop\n  forward . ${at}\n}\n`,
    feed,
  );
  target = looping.server;
  try {
    await until(() => looping.lines.some((line) => line.includes('come back to this server')));
    expect((await dig(looping.server, 'www.example.test')).status).toBe('REFUSED');
    expect((await dig(looping.server, 'web.shop.svc.cluster.local')).status).toBe('NOERROR');
  } finally {
    await looping.plane.stop();
    await mirror.close();
  }
});

test('a changed Corefile is taken, a bad one leaves the old one in force and is counted', async () => {
  const block = (text: string): string =>
    `.:PORT {\n  reload 2s 0s\n  template IN TXT . {\n  answer "{{ .Name }} 1 IN TXT ${text}"\n  }\n}\n`;
  const running = await serveCorefile(block('one'), undefined);
  const answer = async (): Promise<string | undefined> => (await dig(running.server, 'x.test', 'TXT')).answer[0];
  try {
    expect(await answer()).toBe('x.test. 1 IN TXT "one"');
    running.rewrite(block('two'));
    await until(async () => (await answer()) === 'x.test. 1 IN TXT "two"');
    running.rewrite('. {\n  nosuch\n}\n');
    await until(async () => (await running.metrics()).includes('coredns_reload_failed_total 1'));
    expect(await answer()).toBe('x.test. 1 IN TXT "two"');
    expect(running.lines.some((line) => line.includes('/Corefile:2: there is no plugin "nosuch"'))).toBe(true);
    const shown = async (): Promise<readonly string[]> =>
      (await running.metrics()).match(/^coredns_reload_version_info\{.*/gm) ?? [];
    const before = await shown();
    running.rewrite(block('three'));
    await until(async () => (await answer()) === 'x.test. 1 IN TXT "three"');
    await until(async () => (await shown())[0] !== before[0]);
    expect([before.length, (await shown()).length]).toEqual([1, 1]);
  } finally {
    await running.plane.stop();
  }
});
