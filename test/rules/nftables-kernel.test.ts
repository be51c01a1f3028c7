import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/observe/log.ts';
import { NftablesBackend } from '../../src/rules/nftables/apply.ts';
import { renderNftables } from '../../src/rules/nftables/render.ts';
import { Topology, netnsMissing, type Host } from '../support/netns.ts';
import type { ConnectOptions, Outcome } from '../support/socket-agent.ts';
import type { Cidr } from '../../src/lib/cidr.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import { CONFIG, NODE, clusterOf, type ServiceSketch } from './cluster.ts';
import { cidr, ip } from '../support/values.ts';

const missing = netnsMissing();
if (missing) process.stderr.write(`left out: nftables in the kernel (${missing})\n`);

const BACKENDS = ['a', 'b', 'c'] as const;
const IPS = { a: ['10.0.0.1', 'fd00:10::1'], b: ['10.0.0.2', 'fd00:10::2'], c: ['10.0.0.3', 'fd00:10::3'] } as const;
const SERVICE: ServiceSketch = {
  name: 'web',
  clusterIPs: ['172.30.0.1', 'fd00:10:96::1'],
  endpoints: [...BACKENDS.map((each) => `${IPS[each][0]}:8080`), ...BACKENDS.map((each) => `[${IPS[each][1]}]:8080`)],
};

describe.skipIf(missing)('nftables in the kernel', () => {
  let topology: Topology;
  let backend: NftablesBackend;
  let pods: Record<(typeof BACKENDS)[number], Host>;

  beforeAll(async () => {
    topology = await Topology.create();
    const [a, b, c] = await Promise.all(BACKENDS.map((name) => topology.addPod(name, IPS[name])));
    if (!a || !b || !c) throw new Error('a pod is missing');
    pods = { a, b, c };
    for (const name of BACKENDS) {
      for (const protocol of ['TCP', 'UDP'] as const) {
        for (const address of IPS[name]) await pods[name].serve({ protocol, address, port: 8080, name });
      }
    }
  });
  afterAll(() => topology?.close());

  beforeEach(() => {
    backend = new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger });
  });
  afterEach(async () => {
    await backend.cleanup();
    const left = await topology.node.run('nft', 'list', 'ruleset');
    if (left !== '') throw new Error(`the cleanup left ${left}`);
  });

  async function apply(...sketches: readonly ServiceSketch[]): Promise<void> {
    expect(await backend.sync(clusterOf(sketches).snapshot)).toMatchObject({ kind: 'applied' });
  }

  function dial(from: Host, address: string, port: number, more: Partial<ConnectOptions> = {}): Promise<Outcome> {
    return from.connect({ protocol: 'TCP', address, port, ...more });
  }

  async function tally(from: Host, address: string, times: number, port = 80): Promise<ReadonlyMap<string, number>> {
    const seen = new Map<string, number>();
    for (let i = 0; i < times; i++) {
      const outcome = await dial(from, address, port);
      const by = outcome.kind === 'answered' ? outcome.by : outcome.kind;
      seen.set(by, (seen.get(by) ?? 0) + 1);
    }
    return seen;
  }

  test.for(['172.30.0.1', 'fd00:10:96::1'])('connections to %s spread over the endpoints', async (address) => {
    await apply(SERVICE);
    const seen = await tally(topology.client, address, 90);
    expect([...seen.keys()].sort()).toEqual(['a', 'b', 'c']);
    for (const times of seen.values()) expect(times).toBeGreaterThan(10);
  });

  test('a pod is seen as itself, the node and the outside as the node', async () => {
    await apply({ ...SERVICE, endpoints: ['10.0.0.1:8080', '[fd00:10::1]:8080'] });
    expect(await dial(pods.b, '172.30.0.1', 80)).toEqual({ kind: 'answered', by: 'a', peerSeen: '10.0.0.2' });
    expect(await dial(pods.b, 'fd00:10:96::1', 80)).toEqual({ kind: 'answered', by: 'a', peerSeen: 'fd00:10::2' });
    // The veth to the pod carries the gateway's address too; what counts is that the client's own is not seen.
    for (const from of [topology.client, topology.node]) {
      const outcome = await dial(from, '172.30.0.1', 80);
      expect(outcome).toMatchObject({ kind: 'answered', by: 'a' });
      expect(outcome).not.toMatchObject({ peerSeen: '203.0.113.2' });
    }
  });

  test('local pods are told by the interface they come in on', async () => {
    // The pods' links on the node are called pod0, pod1 and pod2; the outside comes in on eth0.
    const link = / dev (pod[0-9])/.exec(await topology.node.run('ip', 'route', 'get', '10.0.0.2'))?.[1] ?? '';
    const sketch: ServiceSketch = {
      ...SERVICE,
      nodePort: 30080,
      external: 'Local',
      endpoints: ['10.0.0.1:8080@node-b'],
    };
    for (const detectLocal of [
      { kind: 'interface-prefix', prefix: 'pod' },
      { kind: 'bridge', interface: link },
    ] as const) {
      const told = new NftablesBackend({
        config: { ...CONFIG, detectLocal },
        exec: topology.node.exec,
        log: silentLogger,
      });
      await told.sync(clusterOf([sketch]).snapshot);
      const own = { kind: 'answered', by: 'a', peerSeen: '10.0.0.2' };
      expect(await dial(pods.b, '172.30.0.1', 80)).toEqual(own);
      expect(await dial(pods.b, '192.168.0.2', 30080)).toEqual(own);
      expect(await dial(topology.client, '172.30.0.1', 80)).not.toMatchObject({ peerSeen: '203.0.113.2' });
      expect(await dial(topology.client, '192.168.0.2', 30080, { timeoutMs: 200 })).toEqual({ kind: 'silence' });
      expect(await dial(topology.node, '172.30.0.1', 80)).toMatchObject({ kind: 'answered' });
      const fromThird = await dial(pods.c, '172.30.0.1', 80);
      const seenAsItself = fromThird.kind === 'answered' && fromThird.peerSeen === '10.0.0.3';
      expect(seenAsItself).toBe(detectLocal.kind === 'interface-prefix');
    }
  });

  test('a pod that reaches itself through its Service is masqueraded', async () => {
    await apply({ ...SERVICE, endpoints: ['10.0.0.1:8080', '[fd00:10::1]:8080'] });
    for (const address of ['172.30.0.1', 'fd00:10:96::1']) {
      const outcome = await dial(pods.a, address, 80);
      expect(outcome).toMatchObject({ kind: 'answered', by: 'a' });
      expect(IPS.a).not.toContain(outcome.kind === 'answered' ? outcome.peerSeen : '');
    }
  });

  test('UDP reaches an endpoint', async () => {
    await apply({ ...SERVICE, protocol: 'UDP', port: 53 });
    expect(await dial(pods.b, '172.30.0.1', 53, { protocol: 'UDP' })).toMatchObject({ kind: 'answered' });
    expect(await dial(pods.b, '172.30.0.1', 54, { protocol: 'UDP' })).toEqual({ kind: 'refused' });
  });

  test('with affinity a client keeps its endpoint, on every address of the Service, until it is removed', async () => {
    const sketch: ServiceSketch = {
      ...SERVICE,
      affinitySeconds: 3600,
      nodePort: 30080,
      externalIPs: ['198.51.100.1', '2001:db8:5::1'],
    };
    await apply(sketch);
    for (const [family, vip, external, node] of [
      [0, '172.30.0.1', '198.51.100.1', '192.168.0.2'],
      [1, 'fd00:10:96::1', '2001:db8:5::1', 'fd00:192:168::2'],
    ] as const) {
      const first = [...(await tally(topology.client, vip, 12)).keys()];
      expect(first).toHaveLength(1);
      expect([...(await tally(topology.client, external, 6)).keys()]).toEqual(first);
      expect([...(await tally(topology.client, node, 6, 30080)).keys()]).toEqual(first);
      const mine = IPS[first[0] as 'a'][family];
      const rest = sketch.endpoints?.filter((each) => !each.includes(`${mine}:`) && !each.includes(`${mine}]`)) ?? [];
      await apply({ ...sketch, endpoints: rest });
      const second = [...(await tally(topology.client, external, 12)).keys()];
      expect(second).toHaveLength(1);
      expect(second).not.toEqual(first);
      expect([...(await tally(topology.client, vip, 6)).keys()]).toEqual(second);
      await apply(sketch);
    }
  });

  test('a NodePort answers on the node with masquerading, and with externalTrafficPolicy Local without', async () => {
    const sketch: ServiceSketch = { ...SERVICE, nodePort: 30080, endpoints: ['10.0.0.1:8080', '10.0.0.2:8080@node-b'] };
    await apply(sketch);
    const outcome = await dial(topology.client, '192.168.0.2', 30080);
    expect(outcome).toMatchObject({ kind: 'answered' });
    expect(outcome).not.toMatchObject({ peerSeen: '203.0.113.2' });
    await apply({ ...sketch, external: 'Local' });
    for (let i = 0; i < 8; i++) {
      expect(await dial(topology.client, '192.168.0.2', 30080)).toEqual({
        kind: 'answered',
        by: 'a',
        peerSeen: '203.0.113.2',
      });
    }
    // The node itself and pods are not cut to the local endpoints.
    expect((await tally(topology.node, '192.168.0.2', 30, 30080)).size).toBe(2);
    expect((await tally(pods.c, '192.168.0.2', 30, 30080)).size).toBe(2);
  });

  test('an address that the node gets later answers NodePorts at once, where all addresses do', async () => {
    const sketch: ServiceSketch = { ...SERVICE, nodePort: 30080 };
    const all = new NftablesBackend({
      config: { ...CONFIG, nodePortAddresses: { kind: 'all' } },
      exec: topology.node.exec,
      log: silentLogger,
    });
    await all.sync(clusterOf([sketch]).snapshot);
    await topology.node.run('ip', 'addr', 'add', '192.168.0.77/32', 'dev', 'eth0');
    expect(await dial(topology.client, '192.168.0.77', 30080)).toMatchObject({ kind: 'answered' });
    // As the node's own address it follows the Node object.
    await apply(sketch);
    expect(await dial(topology.client, '192.168.0.77', 30080)).toEqual({ kind: 'refused' });
    const moved = clusterOf([sketch], undefined, { ...NODE, ips: [ip('192.168.0.77')] });
    await backend.sync(moved.snapshot);
    expect(await dial(topology.client, '192.168.0.77', 30080)).toMatchObject({ kind: 'answered' });
    await topology.node.run('ip', 'addr', 'del', '192.168.0.77/32', 'dev', 'eth0');
  });

  test('no endpoint anywhere is refused, none that the policy allows is silence', async () => {
    const nobody: ServiceSketch = { ...SERVICE, nodePort: 30080, externalIPs: ['198.51.100.1'], endpoints: [] };
    await apply(nobody);
    for (const from of [topology.client, topology.node, pods.a]) {
      expect(await dial(from, '172.30.0.1', 80)).toEqual({ kind: 'refused' });
      expect(await dial(from, 'fd00:10:96::1', 80)).toEqual({ kind: 'refused' });
      expect(await dial(from, '198.51.100.1', 80)).toEqual({ kind: 'refused' });
      expect(await dial(from, '192.168.0.2', 30080)).toEqual({ kind: 'refused' });
    }
    await apply({ ...nobody, internal: 'Local', external: 'Local', endpoints: ['10.0.0.1:8080@node-b'] });
    const brief = { timeoutMs: 300 };
    expect(await dial(pods.b, '172.30.0.1', 80, brief)).toEqual({ kind: 'silence' });
    expect(await dial(topology.client, '198.51.100.1', 80, brief)).toEqual({ kind: 'silence' });
    expect(await dial(topology.client, '192.168.0.2', 30080, brief)).toEqual({ kind: 'silence' });
    expect(await dial(pods.b, '198.51.100.1', 80)).toMatchObject({ kind: 'answered' });
  });

  test('another port of a ClusterIP is refused', async () => {
    await apply(SERVICE);
    expect(await dial(topology.client, '172.30.0.1', 81)).toEqual({ kind: 'refused' });
    expect(await dial(pods.a, 'fd00:10:96::1', 81)).toEqual({ kind: 'refused' });
  });

  test('an address that no Service has is silence, as far as the Service ranges are known', async () => {
    const { snapshot } = clusterOf([SERVICE]);
    const brief = { timeoutMs: 300 };
    const serviceCIDRs = [cidr('172.30.0.0/16'), cidr('fd00:10:96::/112'), cidr('192.168.0.2/32')];
    const ranges = (cidrs: readonly Cidr[]): Snapshot => ({ ...snapshot, serviceCIDRs: cidrs });
    await backend.sync(ranges(serviceCIDRs));
    for (const from of [topology.client, topology.node, pods.a]) {
      expect(await dial(from, '172.30.9.9', 80, brief)).toEqual({ kind: 'silence' });
      expect(await dial(from, 'fd00:10:96::9', 80, brief)).toEqual({ kind: 'silence' });
      expect(await dial(from, '172.30.0.1', 80)).toMatchObject({ kind: 'answered' });
      // The node's own address stays reachable, whatever range it is in.
      expect(await dial(from, '192.168.0.2', 9, brief)).toEqual({ kind: 'refused' });
    }
    const restarted = new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger });
    expect(await restarted.sync(ranges(serviceCIDRs))).toEqual({ kind: 'applied', counts: {}, full: true });
    expect(await restarted.sync(ranges([cidr('172.31.0.0/16')]))).toMatchObject({ counts: { added: 1, removed: 3 } });
    expect(await restarted.sync(ranges([]))).toMatchObject({ counts: { removed: 1 } });
  });

  test('source ranges guard the load balancer address alone', async () => {
    const sketch: ServiceSketch = {
      ...SERVICE,
      nodePort: 30080,
      loadBalancerIPs: ['198.51.100.7'],
      sourceRanges: ['10.0.0.0/16', '10.0.0.2/32'],
    };
    await apply(sketch);
    const brief = { timeoutMs: 300 };
    expect(await dial(topology.client, '198.51.100.7', 80, brief)).toEqual({ kind: 'silence' });
    expect(await dial(pods.b, '198.51.100.7', 80)).toMatchObject({ kind: 'answered' });
    expect(await dial(topology.client, '192.168.0.2', 30080)).toMatchObject({ kind: 'answered' });
    await apply({ ...sketch, sourceRanges: ['203.0.113.0/24'] });
    expect(await dial(topology.client, '198.51.100.7', 80)).toMatchObject({ kind: 'answered' });
  });

  test('a restart over the same state writes nothing, over another the difference', async () => {
    const services: ServiceSketch[] = [
      {
        ...SERVICE,
        nodePort: 30080,
        affinitySeconds: 60,
        loadBalancerIPs: ['198.51.100.7'],
        sourceRanges: ['10.0.0.0/8'],
      },
      { ...SERVICE, name: 'other', clusterIPs: ['172.30.0.2'], external: 'Local', externalIPs: ['198.51.100.8'] },
    ];
    await apply(...services);
    await dial(topology.client, '172.30.0.1', 80);
    const restarted = new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger });
    expect(await restarted.sync(clusterOf(services).snapshot)).toEqual({ kind: 'applied', counts: {}, full: true });
    const fewer = [services[0] ?? SERVICE, { ...SERVICE, name: 'other', clusterIPs: ['172.30.0.2'] }];
    const again = new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger });
    const outcome = await again.sync(clusterOf(fewer).snapshot);
    expect(outcome).toMatchObject({ kind: 'applied', counts: { added: 0 } });
    expect(await again.sync(clusterOf(fewer).snapshot)).toEqual({ kind: 'applied', counts: {}, full: false });
  });

  test('a flushed chain and an older layout are mended at start', async () => {
    await apply(SERVICE);
    await topology.node.run('nft', 'flush', 'chain', 'ip', 'fairlead', 'find-service');
    await topology.node.run('nft', 'add', 'chain', 'ip6', 'fairlead', 'layout-old');
    const fresh = (): NftablesBackend =>
      new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger });
    await fresh().sync(clusterOf([SERVICE]).snapshot);
    expect(await dial(topology.client, '172.30.0.1', 80)).toMatchObject({ kind: 'answered' });
    await topology.node.run('nft', 'delete', 'table', 'ip', 'fairlead');
    await topology.node.run('nft', 'add', 'table', 'ip', 'fairlead');
    await fresh().sync(clusterOf([SERVICE]).snapshot);
    expect(await dial(topology.client, '172.30.0.1', 80)).toMatchObject({ kind: 'answered' });
  });

  test('a change that meets a table which is not there any more puts everything right', async () => {
    await apply(SERVICE);
    await topology.node.run('nft', 'delete', 'table', 'ip', 'fairlead');
    const more = clusterOf([SERVICE, { ...SERVICE, name: 'new', clusterIPs: ['172.30.0.9'] }]).snapshot;
    expect(await backend.sync(more)).toMatchObject({ kind: 'applied' });
    expect(await dial(topology.client, '172.30.0.1', 80)).toMatchObject({ kind: 'answered' });
    expect(await dial(topology.client, '172.30.0.9', 80)).toMatchObject({ kind: 'answered' });
  });

  test('when the last Service goes, no element and no chain made for it remains', async () => {
    const empty = new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger });
    await empty.sync(clusterOf([]).snapshot);
    const before = await topology.node.run('nft', 'list', 'ruleset');
    await apply({ ...SERVICE, nodePort: 30080, loadBalancerIPs: ['198.51.100.7'], sourceRanges: ['10.0.0.0/8'] });
    await apply();
    expect(await topology.node.run('nft', 'list', 'ruleset')).toBe(before);
  });

  test('a first load in small batches is the same as in one', async () => {
    const small = new NftablesBackend({ config: CONFIG, exec: topology.node.exec, log: silentLogger, batchSize: 4 });
    const services = [SERVICE, { ...SERVICE, name: 'other', clusterIPs: ['172.30.0.2'], affinitySeconds: 10 }];
    await small.sync(clusterOf(services).snapshot);
    expect(await backend.sync(clusterOf(services).snapshot)).toEqual({ kind: 'applied', counts: {}, full: true });
  });

  test('nft takes what render prints', async () => {
    const services: ServiceSketch[] = [
      {
        ...SERVICE,
        nodePort: 30080,
        affinitySeconds: 60,
        loadBalancerIPs: ['198.51.100.7'],
        sourceRanges: ['10.0.0.0/8'],
      },
      { ...SERVICE, name: 'local', clusterIPs: ['172.30.0.2'], external: 'Local', externalIPs: ['198.51.100.8'] },
      { ...SERVICE, name: 'nobody', clusterIPs: ['172.30.0.3'], endpoints: [], protocol: 'SCTP', nodePort: 30081 },
    ];
    const { snapshot } = clusterOf(services);
    for (const nodePortAddresses of [
      { kind: 'primary' },
      { kind: 'all' },
      { kind: 'cidrs', cidrs: ['192.168.0.0/16', '192.168.0.0/24'] as never },
    ] as const) {
      const text = renderNftables(snapshot, { ...CONFIG, nodePortAddresses });
      const checked = await topology.node.exec.run('nft', ['-c', '-f', '-'], { input: text });
      expect(checked.stderr).toBe('');
      expect(checked.exitCode).toBe(0);
    }
  });
});
