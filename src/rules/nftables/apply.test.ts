import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, clusterOf, type ServiceSketch } from '../../../test/rules/cluster.ts';
import type { Resolution } from '../../model/resolve.ts';
import { silentLogger } from '../../observe/log.ts';
import type { Exec } from '../../system/exec.ts';
import { NftablesBackend } from './apply.ts';
import { FakeNft, type FakeRuleset } from './fake.ts';

const WEB: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80', '10.0.0.2:80'] };

function backendOver(exec: Exec, batchSize?: number): NftablesBackend {
  return new NftablesBackend({ config: CONFIG, exec, log: silentLogger, ...(batchSize ? { batchSize } : {}) });
}

function plain(ruleset: FakeRuleset): unknown {
  return [...ruleset].map(([ip, { chains, containers }]) => ({
    ip,
    chains: [...chains.keys()].sort(),
    containers: [...containers].map(([name, { elements }]) => ({ name, elements: [...elements].map(String).sort() })),
  }));
}

test('syncs upon syncs leave the tables as one sync over them wants them', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(clusters, { minLength: 2, maxLength: 4 }), async (states) => {
      const nft = new FakeNft();
      const backend = backendOver(nft);
      let resolution: Resolution | undefined;
      for (const state of states) {
        resolution = clusterOf(state, resolution);
        const outcome = await backend.sync(resolution.snapshot);
        expect(outcome).toMatchObject({ kind: 'applied' });
        const held = plain(nft.ruleset);
        const written = nft.transactions.length;
        expect(await backendOver(nft).sync(clusterOf(state).snapshot)).toEqual({
          kind: 'applied',
          counts: {},
          full: true,
        });
        expect(nft.transactions.length).toBe(written);
        expect(plain(nft.ruleset)).toEqual(held);
      }
    }),
    { numRuns: 100 },
  );
});

test('a restart over the table of another cluster writes the difference, in batches too', async () => {
  await fc.assert(
    fc.asyncProperty(clusters, clusters, fc.constantFrom(1, 7, 1000), async (before, after, batchSize) => {
      const nft = new FakeNft();
      await backendOver(nft).sync(clusterOf(before).snapshot);
      expect(await backendOver(nft, batchSize).sync(clusterOf(after).snapshot)).toMatchObject({ kind: 'applied' });
      expect(await backendOver(nft).sync(clusterOf(after).snapshot)).toEqual({
        kind: 'applied',
        counts: {},
        full: true,
      });
    }),
    { numRuns: 100 },
  );
});

test('a change of one Service is one transaction with its elements only', async () => {
  const nft = new FakeNft();
  const backend = backendOver(nft);
  const other = {
    ...WEB,
    name: 'other',
    clusterIPs: ['172.30.0.2'],
    endpoints: ['10.0.0.3:80', '10.0.0.4:80@node-b', '10.0.0.5:80'],
  };
  const first = clusterOf([WEB, other]);
  await backend.sync(first.snapshot);
  const loaded = nft.transactions.length;
  const more = clusterOf([{ ...WEB, endpoints: [...(WEB.endpoints ?? []), '10.0.0.9:80@node-b'] }, other], first);
  expect(await backend.sync(more.snapshot)).toEqual({
    kind: 'applied',
    counts: { added: 1, changed: 1, removed: 0, chains: 0 },
    full: false,
  });
  expect(nft.transactions[loaded]).toBe(
    [
      'delete element ip fairlead services {\n172.30.0.1 . tcp . 80,\n}',
      'add element ip fairlead endpoints {\n172.30.0.1 . tcp . 80 . 2 : 10.0.0.9 . 80,\n}',
      'add element ip fairlead services {\n172.30.0.1 . tcp . 80 : 3,\n}',
      // The chain that picked of two is nobody's now.
      'delete element ip fairlead chains {\n2,\n}',
      'flush chain ip fairlead pick-2',
      'delete chain ip fairlead pick-2\n',
    ].join('\n'),
  );
  expect(nft.transactions.length).toBe(loaded + 1);
});

test('a kernel that still counts the references of a chain has it deleted in a transaction of its own', async () => {
  const nft = new FakeNft();
  const old: Exec = {
    run: async (file, args, options) => {
      const text = String(options?.input);
      const both = /delete chain/.test(text) && /(element|flush)/.test(text);
      if (!both) return nft.run(file, args, options);
      return { exitCode: 1, stdout: '', stderr: 'Error: Device or resource busy', notFound: false, timedOut: false };
    },
  };
  const backend = backendOver(old);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const fewer = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], first);
  expect(await backend.sync(fewer.snapshot)).toMatchObject({ kind: 'applied' });
  expect([...(nft.ruleset.get('ip')?.chains.keys() ?? [])].filter((name) => name.startsWith('pick-'))).toEqual([
    'pick-1',
  ]);
});

test('a refused transaction is reported with the message, and the next sync loses nothing', async () => {
  const nft = new FakeNft();
  const backend = backendOver(nft);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  nft.failure = 'Could not process rule: Cannot allocate memory';
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.2:80'] }], first);
  expect(await backend.sync(second.snapshot)).toEqual({
    kind: 'failed',
    reason: 'nft refused a transaction: Error: Could not process rule: Cannot allocate memory',
    families: [4, 6],
  });
  nft.failure = undefined;
  expect(await backend.sync(second.snapshot)).toMatchObject({ kind: 'applied', counts: { changed: 2, removed: 2 } });
  expect(await backendOver(nft).sync(second.snapshot)).toEqual({ kind: 'applied', counts: {}, full: true });
});

test('cleanup removes both tables, says so, and has nothing to do on a machine without nft', async () => {
  const nft = new FakeNft();
  const backend = backendOver(nft);
  await backend.sync(clusterOf([WEB]).snapshot);
  expect(await backend.cleanup()).toEqual({
    removed: ['nftables table ip fairlead', 'nftables table ip6 fairlead'],
    problems: [],
  });
  expect(nft.ruleset.size).toBe(0);
  expect(await backend.cleanup()).toEqual({ removed: [], problems: [] });
  const nothing: Exec = {
    run: async () => ({ exitCode: -1, stdout: '', stderr: '', notFound: true, timedOut: false }),
  };
  expect(await backendOver(nothing).cleanup()).toEqual({ removed: [], problems: [] });
});

/** The refused Service claims an address of another, which has it again, in the order that the kernel has, when the first is refused once more. */
const CLAIMS_OF_ONE_ADDRESS: ServiceSketch[][] = [
  [
    { name: 'a', clusterIPs: ['172.30.0.1'], endpoints: [] },
    {
      name: 'd',
      clusterIPs: ['172.30.0.4'],
      external: 'Local',
      loadBalancerIPs: ['198.51.100.1'],
      endpoints: ['192.168.0.2:8080'],
    },
  ],
  [
    {
      name: 'a',
      clusterIPs: ['172.30.0.1'],
      external: 'Local',
      loadBalancerIPs: ['198.51.100.1'],
      endpoints: ['10.0.0.1:8080'],
    },
    {
      name: 'd',
      clusterIPs: ['172.30.0.4'],
      external: 'Local',
      loadBalancerIPs: ['198.51.100.1'],
      endpoints: ['10.0.0.1:8080', '192.168.0.2:8080'],
    },
  ],
];

test('a Service that the kernel refuses is named and left out, the others are in force, and it is taken as soon as it can be', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(clusters, { minLength: 1, maxLength: 3 }),
      fc.constantFrom(1, 5, 1000),
      async (states, batchSize) => {
        const nft = new FakeNft();
        // The first Service of the random clusters has this address; what is deleted is always taken.
        nft.refuses =
          /^(add element ip fairlead services|add element ip fairlead refusals) \{\n(.*\n)*172\.30\.0\.1 \. /m;
        const backend = backendOver(nft, batchSize);
        let resolution: Resolution | undefined;
        for (const state of states) {
          resolution = clusterOf(state, resolution);
          const outcome = await backend.sync(resolution.snapshot);
          if (outcome.kind === 'failed') throw new Error(outcome.reason);
          const held = plain(nft.ruleset);
          const bad = (outcome.rejected ?? []).map(({ service }) => service);
          const others = state.filter(({ name }) => !bad.includes(`default/${name}`));
          expect(bad.length).toBe(state.length - others.length);
          for (const { reason } of outcome.rejected ?? []) expect(reason).toContain('Invalid argument');
          expect(await backendOver(nft).sync(clusterOf(others).snapshot)).toEqual({
            kind: 'applied',
            counts: {},
            full: true,
          });
          expect(plain(nft.ruleset)).toEqual(held);
        }
        nft.refuses = undefined;
        if (!resolution) return;
        expect(await backend.sync(resolution.snapshot)).not.toHaveProperty('rejected');
        expect(await backendOver(nft).sync(resolution.snapshot)).toEqual({ kind: 'applied', counts: {}, full: true });
      },
    ),
    { numRuns: 60, examples: [[CLAIMS_OF_ONE_ADDRESS, 1]] },
  );
});
