import type { Snapshot } from '../../../src/model/snapshot.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { defaultRulesConfig, type RulesConfig } from '../../../src/rules/config.ts';
import { NftablesBackend } from '../../../src/rules/nftables/apply.ts';
import { FakeNft, type FakeRuleset } from '../../../src/rules/nftables/fake.ts';
import { renderNftables } from '../../../src/rules/nftables/render.ts';
import { loadRuleset, trace } from '../../../src/rules/nftables/trace.ts';
import { compareTrace } from './compare-trace.ts';
import type { Consumer, Start } from './consumer.ts';
import { expectedPacket } from './expect.ts';
import { walk } from './run.ts';
import { DETECT_LOCAL, NODE_IPS, OTHER_NODE_IP } from './world.ts';

const WORLD = { localAddresses: [...NODE_IPS, OTHER_NODE_IP] };

const start: Start = async ({ file, settings }) => {
  const config: RulesConfig = { ...defaultRulesConfig, detectLocal: DETECT_LOCAL, ...settings };
  const kernel = new FakeNft();
  const backend = new NftablesBackend({ config, exec: kernel, log: silentLogger });
  let rendered: FakeRuleset = new Map();
  const update = async ({ snapshot }: { snapshot: Snapshot }): Promise<void> => {
    const outcome = await backend.sync(snapshot);
    if (outcome.kind !== 'applied') throw new Error(outcome.reason);
    rendered = loadRuleset(renderNftables(snapshot, config));
  };
  return {
    update,
    check: async (_kind, row) => {
      const expected = expectedPacket(file, row);
      return (
        compareTrace('as rendered', expected, trace(rendered, expected.packet, WORLD)) ??
        compareTrace('as written in steps', expected, trace(kernel.ruleset, expected.packet, WORLD))
      );
    },
    nothingRemains: async () => {
      await backend.cleanup();
      return kernel.ruleset.size === 0 ? undefined : 'tables remain after cleanup';
    },
    stop: () => backend.stop(),
  };
};

/**
 * Holds `packets` tables against the nftables text, walked by a tracer: the whole ruleset as it is rendered, and the one that came to be
 * by writing each step's difference.
 */
export const nftablesConsumer: Consumer = {
  name: 'nftables',
  mode: 'nftables',
  reads: ['packets'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, nftablesConsumer, start),
};
