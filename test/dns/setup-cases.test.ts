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

/** What is compared of a reply, in the form of the case. */
function told(reply: DigReply, row: SetupCase): unknown {
  if (row.axfr) return comparable(reply.text.split('\n').filter((line) => line !== '' && !line.startsWith(';')));
  return {
    rcode: reply.status,
    answer: comparable(reply.answer),
    authority: comparable(reply.authority),
    additional: comparable(reply.additional),
    flags: Object.keys(row.flags ?? {}).map((flag) => [flag, reply.flags.split(' ').includes(flag)]),
    aliasFirst: row.order === 'cname-first' ? reply.answer[0]?.includes(' CNAME ') : undefined,
    opt: row.opt && [/udp: (\d+)/.exec(reply.edns ?? '')?.[1], /EDE: (\d+)/.exec(reply.text)?.[1]],
  };
}

function expected(row: SetupCase): unknown {
  if (row.axfr) return comparable(row.answer);
  return {
    rcode: row.rcode,
    answer: comparable(row.answer),
    authority: comparable(row.authority),
    additional: comparable(row.additional),
    flags: Object.entries(row.flags ?? {}).map(([flag, set]) => [flag, set === 1]),
    aliasFirst: row.order === 'cname-first' ? true : undefined,
    opt: row.opt && [String(row.opt.size), String(row.opt.ede)],
  };
}

describe.each(['udp', 'tcp'] as const)('over %s', (transport) => {
  const rows = SETUP_CASES.filter(({ tcp }) => transport === 'tcp' || !tcp);
  test.each(rows)('$id: $name $type', async (row) => {
    expect(told(await ask(row, transport), row)).toEqual(expected(row));
  });
});
