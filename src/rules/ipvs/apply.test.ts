import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, NODE, clusterOf, type ServiceSketch } from '../../../test/rules/cluster.ts';
import type { IpFamily } from '../../lib/ip.ts';
import type { Resolution } from '../../model/resolve.ts';
import { silentLogger } from '../../observe/log.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import type { Exec } from '../../system/exec.ts';
import type { IpvsConfig, RulesConfig } from '../config.ts';
import { save } from '../iptables/fake.ts';
import { IpvsBackend } from './apply.ts';
import { FakeIpvs } from './fake.ts';
import { cidr, ip } from '../../../test/support/values.ts';

const WEB: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80', '10.0.0.2:80'] };
const OTHER: ServiceSketch = { name: 'other', clusterIPs: ['172.30.0.2'], endpoints: ['10.0.0.3:80'] };
const ALL: RulesConfig = { ...CONFIG, nodePortAddresses: { kind: 'all' } };
const LOCAL = [...NODE.ips, ip('192.168.7.7')];
const VIP = 'TCP 172.30.0.1:80';

function withIpvs(ipvs: Partial<IpvsConfig>): RulesConfig {
  return { ...ALL, ipvs: { ...ALL.ipvs, ...ipvs } };
}

function backendOver(
  exec: Exec,
  { clock = new FakeClock(), config = ALL }: { clock?: FakeClock; config?: RulesConfig } = {},
): IpvsBackend {
  return new IpvsBackend({ config, exec, log: silentLogger, clock, metrics: createMetrics() });
}

/** Everything that the kernel holds, in one order. */
function held(kernel: FakeIpvs): string {
  const servers = [...kernel.servers].map(([key, { options, reals }]) => {
    const list = [...reals].map(([real, own]) => `${real} ${own.options}`).sort();
    return `${key} ${options}: ${list.join(', ')}`;
  });
  const sets = [...kernel.sets].map(([name, { type, capacity, entries }]) => {
    return `${name} ${type} ${capacity}: ${[...entries].sort().join(' ')}`;
  });
  const chains = save(kernel.iptables.tables[4]) + save(kernel.iptables.tables[6]);
  return [...servers.sort(), ...sets.sort(), [...(kernel.link ?? [])].sort().join(' '), chains].join('\n');
}

/** Entries, virtual and real servers, by family. */
function countOf(kernel: FakeIpvs): Readonly<Record<IpFamily, number>> {
  const count = { 4: 0, 6: 0 };
  for (const [name, { entries }] of kernel.sets) count[name.startsWith('KUBE-6-') ? 6 : 4] += entries.size;
  for (const [key, { reals }] of kernel.servers) count[key.includes('[') ? 6 : 4] += 1 + reals.size;
  return count;
}

test('syncs upon syncs leave the kernel as one sync over it wants it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(clusters, { minLength: 2, maxLength: 4 }), async (states) => {
      const kernel = new FakeIpvs(LOCAL);
      const clock = new FakeClock();
      const backend = backendOver(kernel, { clock });
      let resolution: Resolution | undefined;
      for (const state of states) {
        resolution = clusterOf(state, resolution);
        expect(await backend.sync(resolution.snapshot)).toMatchObject({ kind: 'applied' });
        await clock.advance(200);
        const now = held(kernel);
        expect(backend.owned().elements).toEqual(countOf(kernel));
        const fresh = new FakeIpvs(LOCAL);
        await backendOver(fresh).sync(clusterOf(state).snapshot);
        expect(now).toBe(held(fresh));
        const written = kernel.written.length;
        const restart = await backendOver(kernel).sync(clusterOf(state).snapshot);
        expect(restart).toEqual({ kind: 'applied', counts: {}, full: true });
        expect(kernel.written.length).toBe(written);
      }
      await backend.stop();
    }),
    { numRuns: 60 },
  );
});

test('a change of one endpoint is one process of ipvsadm, and lists nothing', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel);
  const first = clusterOf([WEB, OTHER]);
  await backend.sync(first.snapshot);
  const { length } = kernel.written;
  const { reads } = kernel;
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80', '10.0.0.9:80@node-b'] }, OTHER], first);
  const outcome = await backend.sync(second.snapshot);
  expect(outcome).toEqual({ kind: 'applied', counts: { virtualServers: 1, entries: 1 }, full: false });
  expect(kernel.reads).toBe(reads);
  expect(kernel.written.slice(length)).toEqual([
    {
      tool: 'ipvsadm',
      text: '-a -t 172.30.0.1:80 -r 10.0.0.9:80 -m -w 1\n-e -t 172.30.0.1:80 -r 10.0.0.2:80 -m -w 0\n',
    },
    { tool: 'ipset', text: 'del KUBE-LOOP-BACK 10.0.0.2,tcp:80,10.0.0.2\n' },
  ]);
});

test('a new Service comes in the order that lets no packet pass by: sets, virtual servers, addresses; and goes the other way', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const since = (from: number): readonly string[] => kernel.written.slice(from).map(({ tool }) => tool);
  let from = kernel.written.length;
  const second = clusterOf([WEB, OTHER], first);
  await backend.sync(second.snapshot);
  expect(since(from)).toEqual(['ipset', 'ipvsadm', 'ip']);
  from = kernel.written.length;
  await backend.sync(clusterOf([WEB], second).snapshot);
  expect(since(from)).toEqual(['ipvsadm', 'ip', 'ipset']);
});

test('a removed TCP endpoint gets no new connections and goes when the old ones have ended', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const clock = new FakeClock();
  const backend = backendOver(kernel, { clock });
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const reals = kernel.servers.get(VIP)?.reals;
  const old = reals?.get('10.0.0.2:80');
  if (old) old.connections = 2;
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], first);
  await backend.sync(second.snapshot);
  await clock.advance(60_000);
  expect(old?.options).toBe('-m -w 0');
  expect(reals?.has('10.0.0.2:80')).toBe(true);
  expect(backend.state()).toMatchObject({ draining: [`${VIP} → 10.0.0.2:80`] });
  if (old) old.connections = 0;
  await clock.advance(10_000);
  expect([...(reals?.keys() ?? [])]).toEqual(['10.0.0.1:80']);
  expect(backend.state()).toMatchObject({ draining: [] });
  await backend.stop();
});

test('connections are asked of the virtual servers that drain alone, and where one of them is gone the others drain all the same', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const clock = new FakeClock();
  const backend = backendOver(kernel, { clock });
  const two: ServiceSketch = { ...OTHER, endpoints: ['10.0.0.3:80', '10.0.0.4:80'] };
  const third: ServiceSketch = { ...two, name: 'third', clusterIPs: ['172.30.0.3'] };
  const first = clusterOf([WEB, two, third]);
  await backend.sync(first.snapshot);
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }, two, third], first);
  await backend.sync(second.snapshot);
  await clock.advance(100);
  expect([...(kernel.servers.get(VIP)?.reals.keys() ?? [])]).toEqual(['10.0.0.1:80']);
  expect(kernel.tables).toBe(0);
  const one = { ...two, endpoints: ['10.0.0.3:80'] };
  await backend.sync(clusterOf([WEB, one, { ...third, endpoints: ['10.0.0.3:80'] }], second).snapshot);
  kernel.servers.delete('TCP 172.30.0.2:80');
  await clock.advance(100);
  expect([...(kernel.servers.get('TCP 172.30.0.3:80')?.reals.keys() ?? [])]).toEqual(['10.0.0.3:80']);
  expect(kernel.tables).toBe(1);
  expect(backend.state()).toMatchObject({ draining: [] });
  await backend.stop();
});

test('what drains is looked at in its time, however many changes come, and not again because something else begins to drain', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const clock = new FakeClock();
  const backend = backendOver(kernel, { clock });
  let cluster = clusterOf([WEB, OTHER]);
  const sync = async (sketches: readonly ServiceSketch[]): Promise<void> => {
    cluster = clusterOf(sketches, cluster);
    expect(await backend.sync(cluster.snapshot)).toMatchObject({ kind: 'applied' });
  };
  await sync([WEB, OTHER]);
  const web = { ...WEB, endpoints: ['10.0.0.1:80'] };
  const old = kernel.servers.get(VIP)?.reals.get('10.0.0.2:80');
  if (old) old.connections = 1;
  await sync([web, OTHER]);
  await clock.advance(60_000);
  const asked = kernel.listed.length;
  // Others come and go every two seconds, some of them with an endpoint that drains.
  for (let i = 0; i < 10; i++) {
    const others = i % 2 === 0 ? ['10.0.0.3:80', '10.0.0.4:80'] : ['10.0.0.3:80'];
    await sync([web, { ...OTHER, endpoints: others }]);
    await clock.advance(2000);
  }
  const since = kernel.listed.slice(asked);
  expect(since.filter((key) => key === VIP).length).toBeGreaterThanOrEqual(2);
  expect(since.filter((key) => key === VIP).length).toBeLessThanOrEqual(5);
  expect(since.filter((key) => key !== VIP)).toHaveLength(5);
  if (old) old.connections = 0;
  for (let i = 0; i < 5; i++) {
    await sync([web, { ...OTHER, nodePort: 30_001 + i }]);
    await clock.advance(2000);
  }
  expect([...(kernel.servers.get(VIP)?.reals.keys() ?? [])]).toEqual(['10.0.0.1:80']);
  await backend.stop();
});

test('where connections to deleted endpoints are to be reset, one that terminates drains until no slice names it', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel, { config: { ...ALL, resetTcpToDeletedEndpoints: true } });
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const reals = kernel.servers.get(VIP)?.reals;
  const old = reals?.get('10.0.0.2:80');
  if (old) old.connections = 2;
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80', '10.0.0.2:80 terminating'] }], first);
  await backend.sync(second.snapshot);
  expect(old?.options).toBe('-m -w 0');
  await backend.sync(clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], second).snapshot);
  expect([...(reals?.keys() ?? [])]).toEqual(['10.0.0.1:80']);
  expect(backend.state()).toMatchObject({ draining: [] });
  await backend.stop();
});

test('an endpoint that comes back keeps its connections', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], first);
  await backend.sync(second.snapshot);
  const { length } = kernel.written;
  await backend.sync(clusterOf([WEB], second).snapshot);
  expect(kernel.written.slice(length).find(({ tool }) => tool === 'ipvsadm')?.text).toBe(
    '-e -t 172.30.0.1:80 -r 10.0.0.2:80 -m -w 1\n',
  );
  await backend.stop();
});

test('a restart goes on with what drains, and takes back what is wanted again', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const first = clusterOf([WEB]);
  const backend = backendOver(kernel);
  await backend.sync(first.snapshot);
  const real = kernel.servers.get(VIP)?.reals.get('10.0.0.2:80');
  if (real) real.connections = 1;
  const less = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], first);
  await backend.sync(less.snapshot);
  await backend.stop();
  const clock = new FakeClock();
  const again = backendOver(kernel, { clock });
  expect(await again.sync(less.snapshot)).toEqual({ kind: 'applied', counts: {}, full: true });
  expect(again.state()).toMatchObject({ draining: [`${VIP} → 10.0.0.2:80`] });
  await again.stop();
  await backendOver(kernel).sync(clusterOf([WEB]).snapshot);
  expect(kernel.servers.get(VIP)?.reals.get('10.0.0.2:80')).toEqual({ options: '-m -w 1', connections: 1 });
});

test('flows of UDP move at once', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel);
  const dns: ServiceSketch = { ...WEB, protocol: 'UDP' };
  const first = clusterOf([dns]);
  await backend.sync(first.snapshot);
  await backend.sync(clusterOf([{ ...dns, endpoints: ['10.0.0.1:80'] }], first).snapshot);
  expect([...(kernel.servers.get('UDP 172.30.0.1:80')?.reals.keys() ?? [])]).toEqual(['10.0.0.1:80']);
});

test('virtual servers of others stay; those that an earlier run left go, also at NodePorts', async () => {
  const kernel = new FakeIpvs(LOCAL);
  await backendOver(kernel).sync(clusterOf([WEB, { ...OTHER, nodePort: 30_002 }]).snapshot);
  const foreign = ['TCP 192.168.0.2:443', 'TCP 203.0.113.9:80', 'TCP 192.168.0.2:30099'];
  for (const key of foreign) kernel.servers.set(key, { options: '-s rr', reals: new Map() });
  expect(kernel.servers.has('TCP 192.168.7.7:30002')).toBe(true);
  await backendOver(kernel).sync(clusterOf([WEB]).snapshot);
  expect([...kernel.servers.keys()].sort()).toEqual([VIP, ...foreign].sort());
});

test('excludeCIDRs keep virtual servers and addresses that would be taken for ours', async () => {
  const kernel = new FakeIpvs(LOCAL);
  await backendOver(kernel).sync(clusterOf([WEB, OTHER]).snapshot);
  const config = withIpvs({ excludeCIDRs: [cidr('172.30.0.2/32')] });
  const backend = backendOver(kernel, { config });
  await backend.sync(clusterOf([]).snapshot);
  expect([...kernel.servers.keys()]).toEqual(['TCP 172.30.0.2:80']);
  expect([...(kernel.link ?? [])]).toEqual(['172.30.0.2']);
  expect((await backend.cleanup()).problems).toEqual([]);
  expect([...kernel.servers.keys()]).toEqual(['TCP 172.30.0.2:80']);
});

test('cleanup leaves nothing but what others put there', async () => {
  const kernel = new FakeIpvs(LOCAL);
  kernel.servers.set('TCP 203.0.113.9:80', { options: '-s rr', reals: new Map() });
  kernel.sets.set('mine', { type: 'hash:ip', family: 'inet', capacity: 65_536, entries: new Set(['1.2.3.4']) });
  const backend = backendOver(kernel);
  await backend.sync(clusterOf([WEB, { ...OTHER, nodePort: 30_002, externalIPs: ['198.51.100.1'] }]).snapshot);
  const { removed, problems } = await backend.cleanup();
  expect(problems).toEqual([]);
  expect(removed.join()).toMatch(/virtual servers.*link kube-ipvs0.*chains of IPv4.*chains of IPv6.*ipsets/);
  expect([...kernel.servers.keys()]).toEqual(['TCP 203.0.113.9:80']);
  expect([...kernel.sets.keys()]).toEqual(['mine']);
  expect(kernel.link).toBeUndefined();
  expect(save(kernel.iptables.tables[4]) + save(kernel.iptables.tables[6])).toBe('');
});

const DAMAGES: readonly (readonly [string, (kernel: FakeIpvs) => void, RegExp])[] = [
  ['virtual servers are flushed', (kernel) => kernel.servers.clear(), /virtual server .* is gone/],
  ['a real server is removed', (kernel) => kernel.servers.get(VIP)?.reals.clear(), /has lost 10\.0\.0\.1:80/],
  [
    'a set is flushed',
    (kernel) => kernel.sets.get('KUBE-CLUSTER-IP')?.entries.clear(),
    /KUBE-CLUSTER-IP has 0 entries/,
  ],
  ['a set is destroyed', (kernel) => kernel.sets.delete('KUBE-6-IPVS-IPS'), /KUBE-6-IPVS-IPS is gone/],
  ['an address is removed', (kernel) => kernel.link?.clear(), /kube-ipvs0 has lost 172\.30\.0\.[12]/],
  ['the link is removed', (kernel) => (kernel.link = undefined), /link kube-ipvs0 is gone/],
  ['the node gets an address', (kernel) => kernel.local.push(ip('192.168.7.8')), /addresses of this node/],
  [
    'chains are flushed',
    (kernel) => {
      const { nat } = kernel.iptables.tables[4];
      for (const name of nat.keys()) nat.set(name, []);
    },
    /missing from iptables, IPv4/,
  ],
];

test.for(DAMAGES)('it is noticed within 4 s and mended when %s', async ([, damage, message]) => {
  const kernel = new FakeIpvs(LOCAL);
  const clock = new FakeClock();
  const backend = backendOver(kernel, { clock });
  const { snapshot } = clusterOf([WEB, { ...OTHER, nodePort: 30_002 }]);
  await backend.sync(snapshot);
  const noticed: string[] = [];
  backend.watch((what) => noticed.push(what));
  await clock.advance(10_000);
  expect(noticed).toEqual([]);
  damage(kernel);
  await clock.advance(4000);
  expect(noticed).toEqual([expect.stringMatching(message)]);
  expect(await backend.sync(snapshot)).toMatchObject({ kind: 'applied' });
  const fresh = new FakeIpvs(kernel.local);
  await backendOver(fresh).sync(snapshot);
  expect(held(kernel)).toBe(held(fresh));
  await clock.advance(10_000);
  expect(noticed).toHaveLength(1);
  await backend.stop();
});

test('a look that finds all as it was reads neither all virtual servers nor each address, but now and then', async () => {
  const kernel = new FakeIpvs(LOCAL);
  kernel.servers.set('TCP 203.0.113.9:80', { options: '-s rr', reals: new Map() });
  kernel.marks = 2;
  const clock = new FakeClock();
  const backend = backendOver(kernel, { clock });
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const { reads } = kernel;
  const noticed: string[] = [];
  backend.watch((what) => noticed.push(what));
  await clock.advance(31_000);
  expect(kernel.tables).toBe(3);
  expect(kernel.reads).toBe(reads + 1);
  // What a sync has changed is no drift, nor are virtual servers of firewall marks.
  await backend.sync(clusterOf([WEB, OTHER], first).snapshot);
  await clock.advance(31_000);
  expect(kernel.tables).toBe(5);
  expect(kernel.reads).toBe(reads + 1);
  kernel.marks = 3;
  await clock.advance(31_000);
  expect(noticed).toEqual([]);
  await backend.stop();
});

test('a look while real servers are taken away finds nothing missing', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const clock = new FakeClock();
  let release = (): void => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  const exec: Exec = {
    run: async (file, args, options) => {
      if (String(options?.input ?? '').startsWith('-d ')) await released;
      return kernel.run(file, args, options);
    },
  };
  const backend = backendOver(exec, { clock });
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  await backend.sync(clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], first).snapshot);
  const noticed: string[] = [];
  backend.watch((what) => noticed.push(what));
  await clock.advance(10_000);
  expect(backend.state()).toMatchObject({ draining: [] });
  expect(kernel.servers.get(VIP)?.reals.size).toBe(2);
  release();
  await clock.advance(10_000);
  expect(kernel.servers.get(VIP)?.reals.size).toBe(1);
  expect(noticed).toEqual([]);
  await backend.stop();
});

test('scheduler, time-outs and strictARP change while it runs, without a virtual server made anew', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel);
  const { snapshot } = clusterOf([WEB]);
  await backend.sync(snapshot);
  const { length } = kernel.written;
  backend.configure(
    withIpvs({ scheduler: 'mh', strictARP: true, tcpTimeoutMs: 900_000, tcpFinTimeoutMs: 0, udpTimeoutMs: 1500 }),
  );
  expect(await backend.sync(snapshot)).toMatchObject({ kind: 'applied' });
  expect(kernel.written.slice(length)).toEqual([{ tool: 'ipvsadm', text: '-E -t 172.30.0.1:80 -s mh -b mh-port\n' }]);
  expect(kernel.timeouts).toBe('900 0 2');
  expect(kernel.parameters.get('net/ipv4/conf/all/arp_ignore')).toBe('1');
  backend.configure(withIpvs({}));
  await backend.sync(snapshot);
  expect(kernel.parameters.get('net/ipv4/conf/all/arp_ignore')).toBe('0');
  expect(kernel.servers.get(VIP)?.options).toBe('-s rr');
});

test('an address of the node on a dummy link counts as any other: NodePorts answer there, and only ClusterIPs go to kube-ipvs0 as well', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const [own, dns] = [ip('192.0.2.7'), ip('172.30.0.10')];
  kernel.dummy.push(own, dns);
  const clusterDns = { ...OTHER, name: 'dns', clusterIPs: [dns] };
  await backendOver(kernel).sync(clusterOf([{ ...WEB, nodePort: 30_001, externalIPs: [own] }, clusterDns]).snapshot);
  for (const port of [80, 30_001]) expect(kernel.servers.get(`TCP ${own}:${port}`)?.reals.size).toBe(2);
  expect([...(kernel.link ?? [])].sort()).toEqual(['172.30.0.1', '172.30.0.10']);
  expect([...(kernel.sets.get('KUBE-IPVS-IPS')?.entries ?? [])].sort()).toEqual(['172.30.0.1', '172.30.0.10']);
});

test('an externalIP that is an API server’s address does not go to kube-ipvs0: all else of that node would be out of reach', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const backend = backendOver(kernel);
  const [master, next] = [ip('192.168.0.8'), ip('192.168.0.9')];
  const api = (...places: readonly string[]): ServiceSketch => ({
    name: 'kubernetes',
    clusterIPs: ['172.30.0.9'],
    endpoints: places.map((place) => `${place}:6443@node-b`),
  });
  const web = { ...WEB, externalIPs: [master, '203.0.113.80'], loadBalancerIPs: [next] };
  const onLink = () => [...(kernel.link ?? [])].sort();
  const others = ['172.30.0.1', '172.30.0.9'];
  let state: Resolution | undefined;
  for (const [sketches, expected] of [
    [
      [web, api(master)],
      [...others, next, '203.0.113.80'],
    ],
    [
      [web, api(next)],
      [...others, master, '203.0.113.80'],
    ],
    // The last one that stops takes itself out before.
    [
      [web, api()],
      [...others, master, '203.0.113.80'],
    ],
    [
      [web, api(master, next)],
      [...others, '203.0.113.80'],
    ],
  ] as const) {
    state = clusterOf(sketches, state);
    expect(await backend.sync(state.snapshot)).toMatchObject({ kind: 'applied' });
    expect(onLink()).toEqual([...expected].sort());
    expect([...(kernel.sets.get('KUBE-IPVS-IPS')?.entries ?? [])].sort()).toEqual(onLink());
    // The node itself reaches the Service without it.
    for (const address of [master, next]) expect(kernel.servers.get(`TCP ${address}:80`)?.reals.size).toBe(2);
  }
});

test('chains of the iptables mode go, and only when IPVS can take over', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const { IptablesBackend } = await import('../iptables/apply.ts');
  const { snapshot } = clusterOf([{ ...WEB, nodePort: 30_001 }]);
  const options = { config: ALL, log: silentLogger, clock: new FakeClock(), metrics: createMetrics() };
  await new IptablesBackend({ ...options, exec: kernel }).sync(snapshot);
  expect(save(kernel.iptables.tables[4])).toContain('KUBE-SVC-');
  const { length } = kernel.written;
  expect(await backendOver(kernel).sync(snapshot)).toMatchObject({ kind: 'applied' });
  const tools = kernel.written.slice(length).map(({ tool }) => tool);
  expect(tools).toEqual(['ipset', 'ipvsadm', 'ip', 'iptables-restore', 'ip6tables-restore']);
  const fresh = new FakeIpvs(LOCAL);
  await backendOver(fresh).sync(snapshot);
  // Jumps that both modes have stay where they are, and so does what kubelet has, too.
  const lines = (text: string): readonly string[] => text.split('\n').sort();
  const own = lines(held(kernel)).filter((line) => !line.includes('KUBE-FIREWALL'));
  expect(own).toEqual(lines(held(fresh)));
});

test('a set that is too small is exchanged for a larger one', async () => {
  const kernel = new FakeIpvs(LOCAL);
  await backendOver(kernel).sync(clusterOf([]).snapshot);
  const set = kernel.sets.get('KUBE-CLUSTER-IP');
  if (set) kernel.sets.set('KUBE-CLUSTER-IP', { ...set, capacity: 1 });
  const backend = backendOver(kernel);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  expect(await backend.sync(clusterOf([WEB, OTHER], first).snapshot)).toMatchObject({ kind: 'applied' });
  expect([...(kernel.sets.get('KUBE-CLUSTER-IP')?.entries ?? [])].sort()).toEqual([
    '172.30.0.1,tcp:80',
    '172.30.0.2,tcp:80',
  ]);
  expect(kernel.sets.has('fairlead-exchange')).toBe(false);
});

test('where IPv6 is off, nothing of it is written', async () => {
  const kernel = new FakeIpvs(LOCAL);
  kernel.hasIpv6 = false;
  const both: ServiceSketch = {
    ...WEB,
    clusterIPs: ['172.30.0.1', 'fd00:10:96::1'],
    endpoints: ['10.0.0.1:80', '[fd00:10::1]:80'],
  };
  expect(await backendOver(kernel).sync(clusterOf([both]).snapshot)).toMatchObject({ kind: 'applied' });
  expect([...kernel.servers.keys()]).toEqual([VIP]);
  expect([...(kernel.link ?? [])]).toEqual(['172.30.0.1']);
  expect(kernel.iptables.tables[6].nat.has('KUBE-SERVICES')).toBe(false);
});

test('what a tool refuses is said, and the next sync starts from what is there', async () => {
  const kernel = new FakeIpvs(LOCAL);
  kernel.schedulers = new Set(['wrr']);
  const backend = backendOver(kernel);
  const { snapshot } = clusterOf([WEB]);
  expect(await backend.sync(snapshot)).toEqual({
    kind: 'failed',
    reason: 'ipvsadm --restore: Scheduler or persistence engine not found | Service not defined | Service not defined',
    families: [4, 6],
  });
  kernel.schedulers = new Set(['rr']);
  expect(await backend.sync(snapshot)).toMatchObject({ kind: 'applied' });
  expect(kernel.servers.get(VIP)?.reals.size).toBe(2);
});

test.each([
  ['ipset', /^add KUBE-CLUSTER-IP 172\.30\.0\.2,/],
  ['ipvsadm', /^-a -t 172\.30\.0\.2:80 /],
  ['ipvsadm', /^-A -t 172\.30\.0\.2:80 /],
  ['ip', /^addr add 172\.30\.0\.2\//],
])(
  'a Service of which %s refuses %s is named and left out, the rest is in force, and it is tried again',
  async (tool, refuses) => {
    const kernel = new FakeIpvs(LOCAL);
    kernel.refuses = refuses;
    const clock = new FakeClock();
    const backend = backendOver(kernel, { clock });
    const first = clusterOf([WEB]);
    expect(await backend.sync(first.snapshot)).toMatchObject({ kind: 'applied' });
    const both = clusterOf([WEB, OTHER], first);
    const rejected = [{ service: 'default/other', families: [4, 6], reason: expect.stringContaining(tool) as unknown }];
    expect(await backend.sync(both.snapshot)).toMatchObject({ kind: 'applied', rejected });
    const without = new FakeIpvs(LOCAL);
    await backendOver(without).sync(first.snapshot);
    expect(held(kernel)).toBe(held(without));
    expect(backend.state()).toMatchObject({ leftOut: ['default/other'] });
    // What comes meanwhile is a change like any other.
    const { length } = kernel.written;
    const third = { ...WEB, name: 'third', clusterIPs: ['172.30.0.3'] };
    const all = clusterOf([WEB, OTHER, third], both);
    expect(await backend.sync(all.snapshot)).toMatchObject({ kind: 'applied', full: false, rejected });
    expect(kernel.written.slice(length).map((each) => each.tool)).toEqual(['ipset', 'ipvsadm', 'ip']);
    kernel.refuses = undefined;
    await clock.advance(30_000);
    const outcome = await backend.sync(all.snapshot);
    expect(outcome).toMatchObject({ kind: 'applied' });
    expect(outcome).not.toHaveProperty('rejected');
    const whole = new FakeIpvs(LOCAL);
    await backendOver(whole).sync(all.snapshot);
    expect(held(kernel)).toBe(held(whole));
    await backend.stop();
  },
);

test('where all Services are refused, or a tool cannot work at all, the sync has failed and nobody is named', async () => {
  const kernel = new FakeIpvs(LOCAL);
  const many = Array.from({ length: 30 }, (_, i) => ({ ...WEB, name: `s${i}`, clusterIPs: [`172.30.1.${i}`] }));
  kernel.refuses = /^-A /;
  const backend = backendOver(kernel);
  expect(await backend.sync(clusterOf(many).snapshot)).toMatchObject({ kind: 'failed' });
  kernel.refuses = undefined;
  kernel.missing.add('ipset');
  expect(await backend.sync(clusterOf([WEB]).snapshot)).toMatchObject({
    kind: 'failed',
    reason: expect.stringContaining('not on this machine') as unknown,
  });
  expect(backend.state()).toMatchObject({ leftOut: [] });
});
