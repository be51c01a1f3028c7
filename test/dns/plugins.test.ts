// Plugins over real sockets, where a table of cases does not fit: views, transfers, zone files that change.

import { createSocket } from 'node:dgram';
import { afterEach, expect, test, vi } from 'vitest';
import { serveCorefile, type CorefileWorld } from './corefile-world.ts';
import { dig, type DigReply } from './dig.ts';
import { until } from './world.ts';

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
    notified.push(`opcode ${(packet.readUInt16BE(2) >> 11) & 0xf}`);
    packet.writeUInt16BE(packet.readUInt16BE(2) | 0x8000, 2);
    secondary.send(packet, from.port, from.address);
  });
  await new Promise<void>((resolve) => secondary.bind(0, '127.0.0.1', resolve));
  const files: Record<string, string> = { db: ZONE(7, '192.0.2.7') };
  try {
    const world = await serve(
      `z.test:PORT {\n  file db {\n    reload 20ms\n  }\n  transfer {\n    to 127.0.0.1:${secondary.address().port}\n  }\n}\n`,
      files,
    );
    expect((await ask(world, 'ns.z.test')).answer).toEqual(['ns.z.test. 60 IN A 192.0.2.7']);
    await until(() => notified.length === 1);
    files['db'] = 'broken (';
    await until(() => world.lines.some((line) => line.includes('the old one stays. /db:1: a ( is not closed')));
    files['db'] = ZONE(8, '192.0.2.8');
    await until(async () => (await ask(world, 'ns.z.test')).answer[0]?.endsWith('192.0.2.8') === true);
    await until(() => notified.length === 2);
    expect(notified).toEqual(['opcode 4', 'opcode 4']);
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
