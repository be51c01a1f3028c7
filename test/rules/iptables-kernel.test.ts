import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { cleanupRules } from '../../src/rules/cleanup.ts';
import type { RulesConfig } from '../../src/rules/config.ts';
import { IptablesBackend } from '../../src/rules/iptables/apply.ts';
import { DriftWatch } from '../../src/rules/iptables/drift.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { systemClock } from '../../src/system/clock.ts';
import type { Exec } from '../../src/system/exec.ts';
import { Topology, netnsMissing, type Host } from '../support/netns.ts';
import { until } from '../support/until.ts';
import { CONFIG, clusterOf, type ServiceSketch } from './cluster.ts';

const missing = netnsMissing('iptables');
if (missing) process.stderr.write(`left out: iptables in the kernel (${missing})\n`);

const IPS = { a: ['10.0.0.1', 'fd00:10::1'], b: ['10.0.0.2', 'fd00:10::2'] } as const;
const SERVICE: ServiceSketch = {
  name: 'web',
  clusterIPs: ['172.30.0.1', 'fd00:10:96::1'],
  nodePort: 30080,
  endpoints: ['10.0.0.1:8080', '10.0.0.2:8080', '[fd00:10::1]:8080', '[fd00:10::2]:8080'],
};
const ALL: RulesConfig = { ...CONFIG, nodePortAddresses: { kind: 'all' } };

// The two kinds of tools keep their rules apart; what kubelet leaves in one of them tells which is in use.
describe.skipIf(missing).for(['nft', 'legacy'] as const)('iptables-%s in the kernel', (variant) => {
  let topology: Topology;
  let pods: Record<'a' | 'b', Host>;
  const planes: RulesPlane[] = [];

  beforeAll(async () => {
    topology = await Topology.create();
    const { node } = topology;
    pods = { a: await topology.addPod('a', IPS.a), b: await topology.addPod('b', IPS.b) };
    for (const name of ['a', 'b'] as const) {
      for (const address of IPS[name]) await pods[name].serve({ protocol: 'TCP', address, port: 8080, name });
    }
    await node.run(`iptables-${variant}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT');
    await node.run(`iptables-${variant}`, '-t', 'filter', '-A', 'INPUT', '-s', '192.0.2.99', '-j', 'DROP');
  });
  afterAll(() => topology?.close());
  afterEach(async () => {
    for (const plane of planes.splice(0)) await plane.stop();
    const { problems } = await cleanupRules(topology.node);
    const left = (await kubeLines()).join('\n');
    if (problems.length > 0 || left !== ':KUBE-IPTABLES-HINT - [0:0]') {
      throw new Error(`the cleanup left ${left} ${problems.join('\n')}`);
    }
    const saved = await topology.node.run(`iptables-${variant}-save`);
    if (!saved.includes('-A INPUT -s 192.0.2.99/32 -j DROP')) throw new Error("somebody else's rule is gone");
    const tables = await topology.node.run('nft', 'list', 'tables');
    if (tables.includes('fairlead')) throw new Error(`the cleanup left ${tables}`);
  });

  async function kubeLines(): Promise<readonly string[]> {
    let text = '';
    for (const kind of ['nft', 'legacy']) {
      for (const ip of ['iptables', 'ip6tables']) text += await topology.node.run(`${ip}-${kind}-save`);
    }
    // kubelet's chain stays, with the rule that kubelet would write too.
    return text.split('\n').filter((line) => line.includes('KUBE-') && !line.includes('KUBE-FIREWALL'));
  }

  function backend(config = ALL): IptablesBackend {
    const { exec } = topology.node;
    return new IptablesBackend({ config, exec, log: silentLogger, clock: systemClock, metrics: createMetrics() });
  }

  async function plane(mode: 'iptables' | 'nftables', metrics = createMetrics()): Promise<RulesPlane> {
    const started = await startRulesPlane({
      mode,
      config: ALL,
      exec: topology.node.exec,
      clock: systemClock,
      random: Math.random,
      log: silentLogger,
      metrics,
      removeOnStop: false,
    });
    planes.push(started);
    started.update(clusterOf([SERVICE]).snapshot);
    await until(() => started.ready);
    return started;
  }

  async function answers(address = '172.30.0.1', port = 80): Promise<boolean> {
    const outcome = await topology.client.connect({ protocol: 'TCP', address, port });
    return outcome.kind === 'answered';
  }

  test('the programs are told by the chain that kubelet makes', async () => {
    const one = backend();
    await one.sync(clusterOf([SERVICE]).snapshot);
    expect(one.state()).toMatchObject({
      tool: { variant: `-${variant}`, legacy: variant === 'legacy', families: [4, 6] },
    });
    await one.stop();
  });

  test('a table whose shape is the same is not looked into; what goes missing is found by the next look', async () => {
    await backend().sync(clusterOf([SERVICE]).snapshot);
    const ran: string[] = [];
    const exec: Exec = {
      run: (file, args, options) => {
        ran.push(file);
        return topology.node.exec.run(file, args, options);
      },
    };
    const watch = new DriftWatch({ config: ALL, exec, clock: systemClock });
    const legacy = variant === 'legacy';
    const tool = { variant: `-${variant}`, legacy, version: '', families: [4, 6] } as const;
    const looks = [4, 6].map((family) => `ip${family === 4 ? '' : '6'}tables-${variant}-restore`);
    expect(await watch.check(tool)).toBeUndefined();
    expect(ran.splice(0)).toEqual(legacy ? ['perl', ...looks] : looks);
    expect(await watch.check(tool)).toBeUndefined();
    expect(ran.splice(0)).toEqual(legacy ? ['perl'] : looks);
    await topology.node.run(`ip6tables-${variant}`, '-t', 'nat', '-F', 'PREROUTING');
    expect(await watch.check(tool)).toMatch(/^IPv6: PREROUTING .*KUBE-SERVICES/);
    expect(await watch.check(tool)).toMatch(/^IPv6: PREROUTING .*KUBE-SERVICES/);
    await watch.stop();
  });

  test('connections spread over the endpoints, on the ClusterIP and on a NodePort', async () => {
    await backend().sync(clusterOf([SERVICE]).snapshot);
    for (const [address, port] of [
      ['172.30.0.1', 80],
      ['fd00:10:96::1', 80],
      ['192.168.0.2', 30080],
    ] as const) {
      const seen = new Set<string>();
      for (let i = 0; i < 30; i++) {
        const outcome = await topology.client.connect({ protocol: 'TCP', address, port });
        expect(outcome.kind).toBe('answered');
        if (outcome.kind === 'answered') seen.add(outcome.by);
      }
      expect([...seen].sort()).toEqual(['a', 'b']);
    }
  });

  test('with affinity a client keeps its endpoint until the time is over or the endpoint goes', async () => {
    const one = backend();
    const sticky = { ...SERVICE, affinitySeconds: 600 };
    const first = clusterOf([sticky]);
    await one.sync(first.snapshot);
    const tally = async (times: number, from = topology.client): Promise<ReadonlySet<string>> => {
      const seen = new Set<string>();
      for (let i = 0; i < times; i++) {
        const outcome = await from.connect({ protocol: 'TCP', address: '172.30.0.1', port: 80 });
        seen.add(outcome.kind === 'answered' ? outcome.by : outcome.kind);
      }
      return seen;
    };
    const [kept = ''] = [...(await tally(15))];
    expect([...(await tally(10))]).toEqual([kept]);
    const rest = kept === 'a' ? '10.0.0.2:8080' : '10.0.0.1:8080';
    await one.sync(clusterOf([{ ...sticky, endpoints: [rest] }], first).snapshot);
    const [other = ''] = [...(await tally(5))];
    expect(other).not.toBe(kept);
    // Time over: sooner or later the other one is drawn.
    await one.sync(clusterOf([{ ...sticky, affinitySeconds: 2 }]).snapshot);
    await until(async () => {
      await systemClock.sleep(2_100);
      return (await tally(1)).has(kept);
    }, 60_000);
  }, 90_000);

  test('a pod that reaches itself through its Service is masqueraded', async () => {
    await backend().sync(clusterOf([{ ...SERVICE, endpoints: ['10.0.0.1:8080', '[fd00:10::1]:8080'] }]).snapshot);
    for (const address of ['172.30.0.1', 'fd00:10:96::1']) {
      const outcome = await pods.a.connect({ protocol: 'TCP', address, port: 80 });
      expect(outcome).toMatchObject({ kind: 'answered', by: 'a' });
      expect(IPS.a).not.toContain(outcome.kind === 'answered' ? outcome.peerSeen : '');
    }
  });

  test('a restart over the same state writes nothing, over another the difference', async () => {
    const services: ServiceSketch[] = [
      {
        ...SERVICE,
        affinitySeconds: 60,
        loadBalancerIPs: ['198.51.100.7'],
        sourceRanges: ['10.0.0.0/8', '192.168.0.0/16'],
      },
      { ...SERVICE, name: 'local', clusterIPs: ['172.30.0.2'], nodePort: 30081, external: 'Local', internal: 'Local' },
      { ...SERVICE, name: 'none', clusterIPs: ['172.30.0.3', 'fd00:10:96::3'], nodePort: 30082, endpoints: [] },
      { ...SERVICE, name: 'udp', clusterIPs: ['172.30.0.4'], nodePort: 30083, protocol: 'UDP' },
      { ...SERVICE, name: 'sctp', clusterIPs: ['172.30.0.5'], nodePort: 30084, protocol: 'SCTP' },
    ];
    for (const nodePortAddresses of [{ kind: 'all' }, { kind: 'primary' }] as const) {
      const config: RulesConfig = { ...ALL, nodePortAddresses, masqueradeAll: nodePortAddresses.kind === 'primary' };
      expect(await backend(config).sync(clusterOf(services).snapshot)).toMatchObject({ kind: 'applied' });
      expect(await backend(config).sync(clusterOf(services).snapshot)).toEqual({ kind: 'applied', counts: {} });
    }
    const fewer = clusterOf(services.slice(1));
    const outcome = await backend().sync(fewer.snapshot);
    expect(outcome).toMatchObject({ kind: 'applied' });
    expect(await backend().sync(fewer.snapshot)).toEqual({ kind: 'applied', counts: {} });
  });

  test('rules of kube-proxy are taken over as they are', async () => {
    const { node } = topology;
    await backend().sync(clusterOf([SERVICE]).snapshot);
    // As kube-proxy writes them: other words for the same.
    const hash =
      (await node.run(`iptables-${variant}`, '-t', 'nat', '-S', 'KUBE-SERVICES')).match(/KUBE-SVC-\S+/)?.[0] ?? '';
    const tool = [`iptables-${variant}`, '-t', 'nat'] as const;
    await node.run(...tool, '-F', 'KUBE-MARK-MASQ');
    await node.run(...tool, '-A', 'KUBE-MARK-MASQ', '-j', 'MARK', '--or-mark', '0x4000');
    const web = [
      '-m',
      'comment',
      '--comment',
      'default/web:p cluster IP',
      '-m',
      'tcp',
      '-p',
      'tcp',
      '-d',
      '172.30.0.1',
    ];
    await node.run(...tool, '-D', 'KUBE-SERVICES', '1');
    await node.run(...tool, '-I', 'KUBE-SERVICES', ...web, '--dport', '80', '-j', hash);
    // The chain that tells whose they are is the only one that is written.
    expect(await backend().sync(clusterOf([SERVICE]).snapshot)).toEqual({
      kind: 'applied',
      counts: { added: 0, changed: 1, removed: 0 },
    });
    // When kube-proxy takes over again, its chains are not ours to clean up.
    await node.run(...tool, '-F', 'KUBE-MARK-MASQ');
    await node.run(...tool, '-A', 'KUBE-MARK-MASQ', '-j', 'MARK', '--or-mark', '0x4000');
    expect((await cleanupRules(node)).removed.join()).not.toContain('IPv4');
    expect(await answers()).toBe(true);
    await backend().sync(clusterOf([SERVICE]).snapshot);
  });

  test.for([
    { what: '-F', flushes: ['-F'] },
    { what: '-F and -X', flushes: ['-F', '-X'] },
  ])('after iptables $what the rules are back', async ({ flushes }) => {
    await plane('iptables');
    expect(await answers()).toBe(true);
    const { node } = topology;
    const whole = (await kubeLines()).join('\n');
    for (const table of ['nat', 'filter']) {
      // kubelet's chain in mangle is not part of it.
      for (const flush of flushes) await node.run(`iptables-${variant}`, '-t', table, flush);
    }
    await node.run(`iptables-${variant}`, '-t', 'filter', '-A', 'INPUT', '-s', '192.0.2.99', '-j', 'DROP');
    await until(async () => (await kubeLines()).join('\n') === whole);
    expect(await answers()).toBe(true);
    expect(await backend().sync(clusterOf([SERVICE]).snapshot)).toEqual({ kind: 'applied', counts: {} });
  });

  test('no connection fails while the mode changes, either way, and the other mode leaves nothing', async () => {
    const stop = new AbortController();
    let failed = 0;
    let made = 0;
    await plane('iptables');
    const dialling = (async () => {
      while (!stop.signal.aborted) {
        for (const [address, port] of [
          ['172.30.0.1', 80],
          ['192.168.0.2', 30080],
        ] as const) {
          made++;
          if (!(await answers(address, port))) failed++;
        }
        await systemClock.sleep(5);
      }
    })();
    for (const mode of ['nftables', 'iptables', 'nftables'] as const) {
      await planes.pop()?.stop();
      await plane(mode);
      await until(async () => {
        const ours = await topology.node.run('nft', 'list', 'tables');
        const chains = (await kubeLines()).length > 1;
        return mode === 'nftables' ? !chains : chains && !ours.includes('fairlead');
      });
    }
    stop.abort();
    await dialling;
    expect(failed).toBe(0);
    expect(made).toBeGreaterThan(20);
  }, 40_000);

  test('packets that belong to no connection are dropped and counted, unless conntrack is liberal about them', async () => {
    const { node, client } = topology;
    const metrics = createMetrics();
    const dropped = async (): Promise<number> => {
      const line = /^kubeproxy_iptables_ct_state_invalid_dropped_packets_total ([0-9]+)$/m.exec(await metrics.text());
      return Number(line?.[1]);
    };
    // A reset of a connection that there never was.
    const script =
      'use Socket; socket(S, 2, 3, 6); send(S, pack("nnNNCCnnn", 4000, 8080, 1, 0, 0x50, 4, 0, 0, 0), 0, sockaddr_in(0, inet_aton("10.0.0.1")))';
    await plane('iptables', metrics);
    const before = await dropped();
    for (let i = 0; i < 3; i++) await client.run('perl', '-e', script);
    await until(async () => (await dropped()) >= before + 3);
    await planes.pop()?.stop();
    await node.run('sysctl', '-qw', 'net.netfilter.nf_conntrack_tcp_be_liberal=1');
    try {
      await plane('iptables');
      const forward = await node.run(`iptables-${variant}`, '-t', 'filter', '-S', 'KUBE-FORWARD');
      expect(forward).not.toContain('INVALID');
    } finally {
      await node.run('sysctl', '-qw', 'net.netfilter.nf_conntrack_tcp_be_liberal=0');
    }
  });

  test('behind a firewall that drops the rest, health-check node ports and masqueraded traffic pass', async () => {
    const { node, client } = topology;
    const tool = [`iptables-${variant}`, '-t', 'filter'] as const;
    const health: ServiceSketch = {
      ...SERVICE,
      name: 'health',
      clusterIPs: ['172.30.0.7'],
      nodePort: 30_087,
      loadBalancerIPs: ['198.51.100.7'],
      external: 'Local',
      healthCheckNodePort: 30_107,
    };
    await backend().sync(clusterOf([SERVICE, health]).snapshot);
    const rules = [
      ['INPUT', '-p', 'tcp', '-j', 'DROP'],
      ['FORWARD', '-p', 'tcp', '-j', 'DROP'],
    ];
    for (const rule of rules) await node.run(...tool, '-A', ...rule);
    try {
      // Nobody listens here in this test: the answer is the kernel's own.
      expect(await client.connect({ protocol: 'TCP', address: '192.168.0.2', port: 30_107 })).toEqual({
        kind: 'refused',
      });
      const brief = { protocol: 'TCP', timeoutMs: 300 } as const;
      expect(await client.connect({ ...brief, address: '192.168.0.2', port: 30_108 })).toEqual({ kind: 'silence' });
      expect(await answers('172.30.0.1', 80)).toBe(true);
      expect(await client.connect({ ...brief, address: '192.168.0.2', port: 30_087 })).toEqual({ kind: 'silence' });
    } finally {
      for (const rule of rules) await node.run(...tool, '-D', ...rule);
    }
  });

  test('local pods are told by the bridge that they are on', async () => {
    const link = / dev (pod[0-9])/.exec(await topology.node.run('ip', 'route', 'get', '10.0.0.2'))?.[1] ?? '';
    const config: RulesConfig = { ...ALL, detectLocal: { kind: 'bridge', interface: link } };
    await backend(config).sync(clusterOf([{ ...SERVICE, endpoints: ['10.0.0.1:8080'] }]).snapshot);
    const at = { protocol: 'TCP', address: '172.30.0.1', port: 80 } as const;
    expect(await pods.b.connect(at)).toEqual({ kind: 'answered', by: 'a', peerSeen: '10.0.0.2' });
    expect(await topology.client.connect(at)).not.toMatchObject({ peerSeen: '203.0.113.2' });
  });

  test('connections to a NodePort on 127.0.0.1 are counted under the name of kube-proxy', async () => {
    const metrics = createMetrics();
    await plane('iptables', metrics);
    for (let i = 0; i < 3; i++) {
      expect(await topology.node.connect({ protocol: 'TCP', address: '127.0.0.1', port: 30_080 })).toMatchObject({
        kind: 'answered',
      });
    }
    expect(await answers('192.168.0.2', 30_080)).toBe(true);
    const name = 'kubeproxy_iptables_localhost_nodeports_accepted_packets_total';
    await until(async () => (await metrics.text()).includes(`\n${name} 3\n`));
    expect(await metrics.text()).toMatch(/\nkubeproxy_iptables_ct_state_invalid_dropped_packets_total [0-9]+\n/);
  });

  test("kube-proxy's table, its IPVS sets and its link go once our rules are in force", async () => {
    const { node } = topology;
    await node.run('nft', 'add', 'table', 'ip', 'kube-proxy');
    await node.run('ipset', 'create', 'KUBE-CLUSTER-IP', 'hash:ip,port');
    await node.run('ipset', 'create', 'KUBE-6-CLUSTER-IP', 'hash:ip,port', 'family', 'inet6');
    // kube-proxy's is a dummy link; what counts is its name. It makes the ClusterIP an address of the node.
    await node.run('ip', 'link', 'add', 'kube-ipvs0', 'type', 'veth', 'peer', 'name', 'kube-peer0');
    await node.run('ip', 'addr', 'add', '172.30.0.1/32', 'dev', 'kube-ipvs0');
    const tool = [`iptables-${variant}`, '-t', 'filter'] as const;
    await node.run(...tool, '-N', 'KUBE-IPVS-FILTER');
    await node.run(
      ...tool,
      '-A',
      'KUBE-IPVS-FILTER',
      '-m',
      'set',
      '--match-set',
      'KUBE-CLUSTER-IP',
      'dst,dst',
      '-j',
      'RETURN',
    );
    await node.run(...tool, '-A', 'INPUT', '-j', 'KUBE-IPVS-FILTER');
    await plane('iptables');
    await until(async () => (await node.run('ipset', 'list', '-name')) === '');
    expect(await node.run('ip', '-o', 'link')).not.toContain('kube-');
    expect(await node.run('nft', 'list', 'tables')).not.toContain('kube-proxy');
    expect((await kubeLines()).join('\n')).not.toContain('IPVS');
    expect(await answers()).toBe(true);
  });
});
