import { expect, test } from 'vitest';
import { CONFIG, NODE, clusterOf } from '../../../test/rules/cluster.ts';
import { silentLogger } from '../../observe/log.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import { IpvsBackend } from './apply.ts';
import { FakeIpvs } from './fake.ts';
import { IpvsLeftover } from './leftover.ts';
import { ip } from '../../../test/support/values.ts';

async function withConnections(connections: number) {
  const kernel = new FakeIpvs(NODE.ips);
  const clock = new FakeClock();
  const options = { config: CONFIG, exec: kernel, log: silentLogger, clock, metrics: createMetrics() };
  const { snapshot } = clusterOf([{ name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]);
  await new IpvsBackend(options).sync(snapshot);
  const real = kernel.servers.get('TCP 172.30.0.1:80')?.reals.get('10.0.0.1:80');
  if (real) real.connections = connections;
  const leftover = new IpvsLeftover({ exec: kernel, clock, log: silentLogger, chains: { which: 'all' } });
  return { kernel, clock, real, leftover };
}

function isGone({ servers, link, sets, iptables }: FakeIpvs): boolean {
  const chains = [...iptables.tables[4].nat.keys()].some((name) => name.startsWith('KUBE-'));
  return servers.size === 0 && link === undefined && sets.size === 0 && !chains;
}

test('without a connection it goes at once', async () => {
  const { kernel, leftover } = await withConnections(0);
  const { removed, problems } = await leftover.remove();
  expect(problems).toEqual([]);
  expect(removed.join()).toMatch(/1 IPVS virtual servers.*link kube-ipvs0.*chains.*ipsets/);
  expect(isGone(kernel)).toBe(true);
  expect(await leftover.remove()).toEqual({ removed: [], problems: [] });
});

test('it stays while connections go through it', async () => {
  const { kernel, clock, real, leftover } = await withConnections(2);
  expect(await leftover.remove()).toEqual({ removed: [], problems: [] });
  await clock.advance(60_000);
  expect(kernel.servers.size).toBe(1);
  expect(kernel.link?.size).toBe(1);
  if (real) real.connections = 0;
  await clock.advance(2000);
  expect(isGone(kernel)).toBe(true);
  await leftover.stop();
});

test('it stays while one side of a connection has ended and the other goes on', async () => {
  const { kernel, clock, leftover } = await withConnections(0);
  kernel.ending.set('TCP 172.30.0.1:80', ['TIME_WAIT', 'CLOSE_WAIT']);
  expect(await leftover.remove()).toEqual({ removed: [], problems: [] });
  kernel.ending.set('TCP 172.30.0.1:80', ['TIME_WAIT']);
  await clock.advance(2000);
  expect(isGone(kernel)).toBe(true);
  await leftover.stop();
});

test('but not for longer than ten minutes', async () => {
  const { kernel, clock, leftover } = await withConnections(1);
  await leftover.remove();
  await clock.advance(9 * 60_000);
  expect(kernel.servers.size).toBe(1);
  await clock.advance(2 * 60_000);
  expect(isGone(kernel)).toBe(true);
  await leftover.stop();
});

test('a stop leaves it to the next start', async () => {
  const { kernel, clock, real, leftover } = await withConnections(1);
  await leftover.remove();
  await leftover.stop();
  if (real) real.connections = 0;
  await clock.advance(60_000);
  expect(kernel.servers.size).toBe(1);
});

test('flows of UDP that it carried are given to the other mode', async () => {
  const { kernel, leftover } = await withConnections(0);
  for (const [address, connections] of [
    ['172.30.0.1', 1],
    ['172.30.0.7', 0],
  ] as const) {
    kernel.servers.set(`UDP ${address}:53`, {
      options: '-s rr',
      reals: new Map([['10.0.0.1:53', { options: '-m -w 1', connections }]]),
    });
    kernel.link?.add(ip(address));
  }
  await leftover.remove();
  expect(isGone(kernel)).toBe(true);
  expect(kernel.written.filter(({ tool }) => tool === 'conntrack').map(({ text }) => text)).toEqual([
    '-D -f ipv4 -p udp --orig-dst 172.30.0.1',
  ]);
});
