import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/observe/log.ts';
import { NftablesBackend } from '../../src/rules/nftables/apply.ts';
import { CONTAINER_NAMES } from '../../src/rules/nftables/layout.ts';
import { readBack } from '../../src/rules/nftables/read-back.ts';
import { Topology, netnsMissing, type Host } from '../support/netns.ts';
import { CONFIG, clusterOf, type ServiceSketch } from './cluster.ts';

const missing = netnsMissing();

const SERVICES: readonly ServiceSketch[] = [
  {
    name: 'web',
    clusterIPs: ['172.30.0.1', 'fd00:10:96::1'],
    nodePort: 30001,
    externalIPs: ['192.0.2.1', '2001:db8::'],
    external: 'Local',
    affinitySeconds: 30,
    endpoints: ['10.0.0.1:8080', '10.0.0.2:8080@node-b', '[fd00:10::1]:8080', '[fd00:10::2:0:0:1]:8080@node-b'],
  },
  {
    name: 'guarded',
    clusterIPs: ['172.30.0.2'],
    protocol: 'UDP',
    nodePort: 30002,
    loadBalancerIPs: ['198.51.100.1'],
    sourceRanges: ['203.0.113.0/24', '203.0.114.7/32', '192.168.0.0/16'],
    endpoints: ['10.0.0.1:53', '10.0.0.3:53@node-b'],
  },
  { name: 'none', clusterIPs: ['172.30.0.3', 'fd00:10:96::3'], protocol: 'SCTP', nodePort: 30003 },
  { name: 'away', clusterIPs: ['172.30.0.4'], internal: 'Local', endpoints: ['10.0.0.9:80@node-b'] },
  {
    name: 'many',
    clusterIPs: ['172.30.0.5'],
    endpoints: Array.from({ length: 300 }, (_, i) => `10.1.${i >> 8}.${i & 255}:80@node-b`),
  },
];

describe.skipIf(missing)('what a table holds', () => {
  let topology: Topology;
  let node: Host;

  beforeAll(async () => {
    topology = await Topology.create();
    ({ node } = topology);
  });
  afterAll(() => topology?.close());

  function backend(): NftablesBackend {
    return new NftablesBackend({ config: CONFIG, exec: node.exec, follow: node.follow, log: silentLogger });
  }

  test('is read from the kernel as nft lists it', async () => {
    const writer = backend();
    expect(await writer.sync(clusterOf(SERVICES).snapshot)).toMatchObject({ kind: 'applied' });
    const filled = new Set<string>();
    for (const family of [4, 6] as const) {
      const [direct, listed] = [new Map<string, string>(), new Map<string, string>()];
      const options = { exec: node.exec, timeoutMs: 10_000 };
      const fromKernel = await readBack(family, direct, { ...options, follow: node.follow });
      const fromNft = await readBack(family, listed, { ...options, follow: undefined });
      if (fromKernel.kind !== 'found' || fromNft.kind !== 'found') throw new Error('a table is missing');
      expect(direct).toEqual(listed);
      expect(fromKernel.table.chains).toEqual(fromNft.table.chains);
      expect([...fromKernel.table.containers].sort()).toEqual([...CONTAINER_NAMES].sort());
      expect([...fromNft.table.containers].sort()).toEqual([...CONTAINER_NAMES].sort());
      for (const id of direct.keys()) filled.add(id.split('/')[1] ?? '');
    }
    expect([...filled].sort()).toEqual(
      expect.arrayContaining([
        'allowed-sources',
        'endpoints',
        'externals',
        'firewall',
        'hairpin',
        'refusals',
        'remember',
      ]),
    );
    await writer.cleanup();
  });

  test('is nothing where there is no table', async () => {
    const elements = new Map<string, string>();
    const read = await readBack(4, elements, { exec: node.exec, follow: node.follow, timeoutMs: 10_000 });
    expect(read).toEqual({ kind: 'missing' });
    expect(elements.size).toBe(0);
  });

  test('is written again by nobody who finds it whole, and made anew where a map is missing', async () => {
    const { snapshot } = clusterOf(SERVICES);
    await backend().sync(snapshot);
    expect(await backend().sync(snapshot)).toMatchObject({ kind: 'applied', counts: {} });
    await node.run('nft', 'flush', 'table', 'ip', 'fairlead');
    await node.run('nft', 'delete', 'map', 'ip', 'fairlead', 'local-endpoints');
    expect(await backend().sync(snapshot)).toMatchObject({ kind: 'applied' });
    expect(await backend().sync(snapshot)).toMatchObject({ kind: 'applied', counts: {} });
    await backend().cleanup();
  });
});
