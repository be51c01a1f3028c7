// Plugins over real sockets, where a table of cases does not fit: views, transfers, zone files that change.

import { createSocket } from 'node:dgram';
import { createConnection, type Socket } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { encodeReply } from '../../src/dns/encode.ts';
import { FrameReader, frame } from '../../src/dns/wire/frame.ts';
import { parseName } from '../../src/dns/wire/name.ts';
import { encodeQuery } from '../../src/dns/wire/query.ts';
import { until } from '../support/until.ts';
import { serveCorefile, type CorefileWorld } from './corefile-world.ts';
import { dig, type DigReply } from './dig.ts';
import { startFakeUpstream } from './fake-upstream.ts';

vi.setConfig({ testTimeout: 30_000 });

const running: CorefileWorld[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map(({ plane }) => plane.stop()));
});

async function serve(text: string, files: Record<string, string> = {}): Promise<CorefileWorld> {
  const world = await serveCorefile(text, undefined, files);
  running.push(world);
  return world;
}

const ask = ({ server }: CorefileWorld, ...words: readonly string[]): Promise<DigReply> =>
  dig(server, '+noedns', ...words);

const block = (view: string, text: string): string =>
  `test:PORT {\n${view}  template IN TXT test {\n    answer "{{ .Name }} 1 IN TXT ${text}"\n  }\n}\n`;

test('of blocks with one zone, the first whose view fits answers; where none does, the zone above', async () => {
  const world = await serve(
    [
      block("  view ten {\n    expr incidr(client_ip(), '127.0.0.10/32')\n  }\n", 'ten'),
      block("  view names {\n    expr name() matches '^special[.].*' && type() == 'TXT'\n  }\n", 'special'),
      '.:PORT {\n  template IN TXT . {\n    answer "{{ .Name }} 1 IN TXT rest"\n  }\n}\n',
    ].join(''),
  );
  const txt = async (...words: readonly string[]) => (await ask(world, ...words)).answer[0]?.split(' ').at(-1);
  expect(await txt('x.test', 'TXT', '-b', '127.0.0.10')).toBe('"ten"');
  expect(await txt('special.test', 'TXT')).toBe('"special"');
  expect(await txt('x.test', 'TXT')).toBe('"rest"');
  expect(await world.metrics()).toMatch(/coredns_dns_requests_total\{[^}]*zone="test\.",view="ten"[^}]*\} 1/);
});

const ZONE = (serial: number, address: string): string =>
  `@ 60 SOA ns hm ${serial} 2 3 4 5\n@ 60 NS ns\nns 60 A ${address}\nbig 60 TXT "${'x'.repeat(200)}"\n`;

test('a zone file is read again, taken when its serial changes, and those who transfer it are told', async () => {
  const notified: string[] = [];
  const secondary = createSocket('udp4');
  secondary.on('message', (packet, from) => {
    notified.push(`opcode ${(packet.readUInt16BE(2) >> 11) & 0xf} from ${from.address}`);
    packet.writeUInt16BE(packet.readUInt16BE(2) | 0x8000, 2);
    secondary.send(packet, from.port, from.address);
  });
  await new Promise<void>((resolve) => secondary.bind(0, '127.0.0.1', resolve));
  const files: Record<string, string> = { db: ZONE(7, '192.0.2.7') };
  try {
    const world = await serve(
      `z.test:PORT {\n  file db {\n    reload 20ms\n  }\n  transfer {\n    to 127.0.0.1:${secondary.address().port}\n    source 127.0.0.5\n  }\n}\n`,
      files,
    );
    expect((await ask(world, 'ns.z.test')).answer).toEqual(['ns.z.test. 60 IN A 192.0.2.7']);
    await until(() => notified.length === 1);
    files['db'] = 'broken (';
    await until(() => world.lines.some((line) => line.includes('the old one stays. /db:1: a ( is not closed')));
    files['db'] = ZONE(8, '192.0.2.8');
    await until(async () => (await ask(world, 'ns.z.test')).answer[0]?.endsWith('192.0.2.8') === true);
    await until(() => notified.length === 2);
    expect(notified).toEqual(['opcode 4 from 127.0.0.5', 'opcode 4 from 127.0.0.5']);
    const text = async (...words: readonly string[]) => (await ask(world, '+tcp', ...words)).text;
    expect((await text('z.test', 'AXFR')).match(/IN\s+SOA/g)).toHaveLength(2);
    // Whoever has the serial gets the SOA alone; any other serial gets the zone.
    expect((await text('z.test', 'IXFR=8')).match(/\sIN\s/g)).toHaveLength(1);
    expect((await text('z.test', 'IXFR=7')).match(/IN\s+SOA/g)).toHaveLength(2);
    expect((await ask(world, '+tcp', '-b', '127.0.0.2', 'z.test', 'AXFR')).text).toContain('Transfer failed');
  } finally {
    secondary.close();
  }
});

test('a transfer larger than one message comes whole', async () => {
  const many = Array.from({ length: 3000 }, (_, i) => `n${i} 60 TXT "${'y'.repeat(100)}"\n`).join('');
  const world = await serve('z.test:PORT {\n  file db\n  transfer {\n    to *\n  }\n}\n', {
    db: ZONE(1, '192.0.2.1') + many,
  });
  const { text } = await ask(world, '+tcp', 'z.test', 'AXFR');
  expect(text.match(/^n\d+\.z\.test\./gm)).toHaveLength(3000);
  expect(text).toMatch(/XFR size: 3005 records \(messages [2-9]/);
});

test('dns64 makes IPv6 addresses of IPv4 ones, for names that exist and have none', async () => {
  const world = await serve('z.test:PORT {\n  dns64 2001:db8:64::/96 {\n    allow_ipv4\n  }\n  file db\n}\n', {
    db: `${ZONE(1, '192.0.2.33')}six 60 AAAA 2001:db8::6\n`,
  });
  expect((await ask(world, 'ns.z.test', 'AAAA')).answer).toEqual(['ns.z.test. 60 IN AAAA 2001:db8:64::c000:221']);
  expect((await ask(world, 'six.z.test', 'AAAA')).answer).toEqual(['six.z.test. 60 IN AAAA 2001:db8::6']);
  expect((await ask(world, 'none.z.test', 'AAAA')).status).toBe('NXDOMAIN');
});

test('timeouts bounds the queries and the silence of a connection', async () => {
  const world = await serve('z.test:PORT {\n  timeouts {\n    idle 1s\n    maxtcpqueries 2\n  }\n  file db\n}\n', {
    db: ZONE(1, '192.0.2.1'),
  });
  const connect = async (): Promise<{
    readonly socket: Socket;
    readonly answers: () => number;
    readonly closed: () => boolean;
  }> => {
    const socket = createConnection(world.server.port, world.server.address);
    const frames = new FrameReader();
    let answers = 0;
    let closed = false;
    socket.on('data', (chunk: Buffer) => {
      answers += frames.push(chunk).length;
    });
    socket.on('close', () => {
      closed = true;
    });
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    return { socket, answers: () => answers, closed: () => closed };
  };
  const name = parseName('ns.z.test');
  if (!name) throw new Error('no name');
  const packet = frame(encodeQuery({ id: 1, flags: 0, name, type: 1 }));
  const busy = await connect();
  for (let i = 0; i < 5; i++) busy.socket.write(packet);
  await until(busy.closed);
  expect(busy.answers()).toBe(2);
  const silent = await connect();
  await until(silent.closed);
});

test('errors tells many failures of one kind as one line, at the level it was told', async () => {
  const world = await serve(
    'z.test:PORT {\n  errors {\n    consolidate 3s "^hosts has no such" warning show_first\n  }\n  hosts /nosuch\n}\n',
  );
  for (let i = 0; i < 4; i++) await ask(world, `n${i}.z.test`);
  const told = (): readonly string[] => world.lines.filter((line) => /hosts has no such/.test(line));
  expect(told()[0]).toMatch(/WARN +SERVFAIL n0\.z\.test\. A: hosts has no such name/);
  await until(() => told().some((line) => /\d errors like '\^hosts has no such' occurred in last 3s/.test(line)));
});

test('log writes what metadata knows, and debug what is for debugging', async () => {
  const upstream = await startFakeUpstream(({ query }) => [
    encodeReply(query, { kind: 'code', rcode: 3 }, 512, () => 0),
  ]);
  const at = `${upstream.server.address}:${upstream.server.port}`;
  const world = await serve(
    `.:PORT {\n  metadata\n  debug\n  log . "{name} from {local} by {/forward/upstream} {/kubernetes/service} {/nosuch}"\n  kubernetes cluster.local {\n    startup_timeout 0s\n  }\n  forward . ${at}\n}\n`,
  );
  try {
    await ask(world, 'www.example.test');
    await ask(world, '_http._tcp.web.shop.svc.cluster.local', 'SRV');
    const lines = world.lines.join('\n');
    expect(lines).toContain(`www.example.test. from 127.0.0.1 by ${at} - -`);
    expect(lines).toContain('_http._tcp.web.shop.svc.cluster.local. from 127.0.0.1 by - web -');
    expect(lines).toContain('an upstream server has answered');
  } finally {
    await upstream.close();
  }
});

test('header changes what plugins behind it see, ederror explains, and the plugins of a block are shown', async () => {
  const asked: boolean[] = [];
  const upstream = await startFakeUpstream(({ query }) => {
    asked.push((query.flags & 0x0100) !== 0);
    return [encodeReply(query, { kind: 'code', rcode: 3 }, 512, () => 0)];
  });
  const at = `${upstream.server.address}:${upstream.server.port}`;
  const world = await serve(
    `z.test:PORT {\n  template ANY ANY . {\n    rcode REFUSED\n    ederror 21 "not here"\n  }\n}\n.:PORT {\n  header {\n    query clear rd\n  }\n  forward . ${at}\n}\n`,
  );
  try {
    await ask(world, 'www.example.test');
    expect(asked).toEqual([false]);
    expect((await ask(world, 'x.z.test')).text).toMatch(/EDE: 21 .*not here/);
    expect(await world.metrics()).toMatch(
      /coredns_plugin_enabled\{server="dns:[^"]*",zone="z\.test\.",view="",name="template"\} 1/,
    );
  } finally {
    await upstream.close();
  }
});

test('a block that ends with zones of its own refuses names in none of them', async () => {
  const files = { db: ZONE(1, '192.0.2.7') };
  const alone = await serve('.:PORT {\n  file db z.test\n}\n', files);
  expect((await ask(alone, 'www.other.test')).status).toBe('REFUSED');
  expect((await ask(alone, 'nosuch.z.test')).status).toBe('NXDOMAIN');
  const others = await serve('.:PORT {\n  file db z.test\n  forward sub.test 127.0.0.1:9\n}\n', files);
  expect((await ask(others, 'www.other.test')).status).toBe('SERVFAIL');
});
