// Whose parts of the mode are taken away when kube-proxy has taken some of it over.

import { expect, test } from 'vitest';
import { CONFIG, NODE, clusterOf, type ServiceSketch } from '../../../test/rules/cluster.ts';
import type { IpFamily } from '../../lib/ip.ts';
import { silentLogger } from '../../observe/log.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import { emptyTables, save } from '../iptables/fake.ts';
import { CANARY } from '../iptables/names.ts';
import { IpvsBackend } from './apply.ts';
import { FakeIpvs } from './fake.ts';
import { removeAll } from './remove.ts';

const WEB: ServiceSketch = {
  name: 'web',
  clusterIPs: ['172.30.0.1', 'fd00:10:96::1'],
  endpoints: ['10.0.0.1:80', '[fd00:10::1]:80'],
};
const SERVERS = { 4: 'TCP 172.30.0.1:80', 6: 'TCP [fd00:10:96::1]:80' };
const ADDRESSES = { 4: '172.30.0.1', 6: 'fd00:10:96::1' };

/** A kernel that Fairlead filled, of which kube-proxy in the same mode has then written these families. */
async function takenOver(families: readonly IpFamily[]): Promise<FakeIpvs> {
  const kernel = new FakeIpvs(NODE.ips);
  const options = { config: CONFIG, exec: kernel, log: silentLogger, clock: new FakeClock(), metrics: createMetrics() };
  await new IpvsBackend(options).sync(clusterOf([WEB]).snapshot);
  for (const family of families) {
    const input = `*filter
:KUBE-PROXY-FIREWALL - [0:0]
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x00004000/0x00004000
COMMIT
`;
    const program = family === 4 ? 'iptables-restore' : 'ip6tables-restore';
    expect(await kernel.run(program, ['-w', '5', '--noflush', '--counters'], { input })).toMatchObject({ exitCode: 0 });
  }
  return kernel;
}

test.for([
  [4, 6],
  [6, 4],
] as const)('where kube-proxy has IPv%i, what it has of it stays and the rest goes', async ([theirs, ours]) => {
  const kernel = await takenOver([theirs]);
  const { filter, nat } = kernel.iptables.tables[theirs];
  expect(kernel.iptables.tables[theirs].mangle.has('KUBE-IPVS-OUT-FILTER')).toBe(true);
  const { removed, problems } = await removeAll(kernel);
  expect(problems).toEqual([]);
  expect(removed.join()).toMatch(
    /^1 IPVS virtual servers,1 addresses of kube-ipvs0,[0-9]+ chains of IPv4 .*,[0-9]+ chains of IPv6 .*,21 ipsets$/,
  );
  expect([...kernel.servers.keys()]).toEqual([SERVERS[theirs]]);
  expect([...(kernel.link ?? [])]).toEqual([ADDRESSES[theirs]]);
  const sets = [...kernel.sets.keys()];
  expect(sets).toHaveLength(17);
  expect(sets.filter((name) => name.startsWith('KUBE-6-') !== (theirs === 6))).toEqual([]);
  const mangle = new Map([...emptyTables().mangle, [CANARY, []]]);
  expect(kernel.iptables.tables[theirs]).toEqual({ filter, nat, mangle });
  expect(save(kernel.iptables.tables[ours])).toBe('');
});

test('where kube-proxy has both families, only what it would never look after is removed', async () => {
  const kernel = await takenOver([4, 6]);
  const { removed, problems } = await removeAll(kernel);
  expect(problems).toEqual([]);
  expect(removed.join()).toMatch(/^2 chains of IPv4 [^,]*,2 chains of IPv6 [^,]*,4 ipsets$/);
  expect([...kernel.servers.keys()].sort()).toEqual(Object.values(SERVERS).sort());
  expect(kernel.link?.size).toBe(2);
});

test('where kube-proxy has both families in iptables mode, its chains stay and all of IPVS goes', async () => {
  const kernel = await takenOver([]);
  const chain = 'KUBE-SVC-ABCDEFGHIJKLMNOP';
  const input = `*filter
:KUBE-PROXY-FIREWALL - [0:0]
COMMIT
*nat
:${chain} - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-SERVICES -d 172.30.0.1/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j ${chain}
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x00004000/0x00004000
COMMIT
`;
  for (const program of ['iptables-restore', 'ip6tables-restore']) {
    const text = program.startsWith('ip6') ? input.replace('172.30.0.1/32', 'fd00:10:96::1/128') : input;
    expect(await kernel.run(program, ['-w', '5', '--noflush', '--counters'], { input: text })).toMatchObject({
      exitCode: 0,
    });
  }
  const { removed, problems } = await removeAll(kernel);
  expect(problems).toEqual([]);
  expect(removed.join()).toMatch(/^2 IPVS virtual servers,link kube-ipvs0,.*,38 ipsets$/);
  for (const family of [4, 6] as const) {
    const saved = save(kernel.iptables.tables[family]);
    expect(saved).toContain(`-j ${chain}`);
    expect(saved).not.toMatch(/--match-set|KUBE-(IPVS|NODE-PORT|LOAD-BALANCER|SOURCE-RANGES)/);
  }
});
