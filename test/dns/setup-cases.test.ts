// Questions to servers whose Corefile needs a cluster or files of its own.

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { dig, type DigReply } from './dig.ts';
import { comparable } from './comparable.ts';
import { startFakeUpstream, type FakeUpstream } from './fake-upstream.ts';
import { OWN_SETUPS, SETUP_CASES } from './setup-cases.ts';
import { startSetup, upstreamAnswer, type SetupCase, type SetupWorld } from './setup-world.ts';

vi.setConfig({ testTimeout: 30_000, hookTimeout: 60_000 });

let upstream: FakeUpstream;
const worlds = new Map<string, SetupWorld>();

beforeAll(async () => {
  upstream = await startFakeUpstream(upstreamAnswer);
  const at = `${upstream.server.address}:${upstream.server.port}`;
  for (const [name, setup] of Object.entries(OWN_SETUPS)) worlds.set(name, await startSetup(setup, at));
});

afterAll(async () => {
  await Promise.all([...worlds.values()].map((world) => world.close()));
  await upstream.close();
});

async function ask(row: SetupCase, transport: 'udp' | 'tcp'): Promise<DigReply> {
  const world = worlds.get(row.setup);
  if (!world) throw new Error(`there is no setup ${row.setup}`);
  const words = transport === 'tcp' || row.tcp ? ['+tcp'] : [];
  const edns = row.edns ? [`+bufsize=${row.edns.size}`] : ['+noedns'];
  return dig(world.server, ...edns, ...words, ...(row.client ? ['-b', row.client] : []), row.name, row.type);
}

describe.each(['udp', 'tcp'] as const)('over %s', (transport) => {
  const rows = SETUP_CASES.filter(({ tcp }) => transport === 'tcp' || !tcp);
  test.each(rows)('$id: $name $type', async (row) => {
    const reply = await ask(row, transport);
    if (row.axfr) {
      const records = reply.text.split('\n').filter((line) => line !== '' && !line.startsWith(';'));
      expect(comparable(records)).toEqual(comparable(row.answer));
      return;
    }
    const { answer, authority, additional } = row;
    expect({
      rcode: reply.status,
      answer: comparable(reply.answer),
      authority: comparable(reply.authority),
      additional: comparable(reply.additional),
    }).toEqual({
      rcode: row.rcode,
      answer: comparable(answer),
      authority: comparable(authority),
      additional: comparable(additional),
    });
    for (const [flag, set] of Object.entries(row.flags ?? {}))
      expect([flag, reply.flags.split(' ').includes(flag)]).toEqual([flag, set === 1]);
    if (row.order === 'cname-first') expect(reply.answer[0]).toContain(' CNAME ');
    if (row.opt) {
      expect(reply.edns).toContain(`udp: ${row.opt.size}`);
      expect(reply.text).toMatch(new RegExp(`EDE: ${row.opt.ede}\\b`));
    }
  });
});
