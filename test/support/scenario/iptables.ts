import { silentLogger } from '../../../src/observe/log.ts';
import { createMetrics } from '../../../src/observe/metrics.ts';
import type { Snapshot } from '../../../src/model/snapshot.ts';
import { defaultRulesConfig, type RulesConfig } from '../../../src/rules/config.ts';
import { IptablesBackend } from '../../../src/rules/iptables/apply.ts';
import { FakeIptables, save } from '../../../src/rules/iptables/fake.ts';
import { trace } from '../../../src/rules/iptables/trace.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { compareTrace } from './compare-trace.ts';
import type { Consumer, Start } from './consumer.ts';
import { expectedPacket } from './expect.ts';
import { walk } from './run.ts';
import { DETECT_LOCAL, NODE_IPS, OTHER_NODE_IP } from './world.ts';

const CONFIG: RulesConfig = {
  ...defaultRulesConfig,
  detectLocal: DETECT_LOCAL,
  nodePortAddresses: { kind: 'all' },
};
export const IPTABLES_OPTIONS = { config: CONFIG, log: silentLogger, clock: systemClock };
const WORLD = { localAddresses: [...NODE_IPS, OTHER_NODE_IP] };

const start: Start = async ({ file, settings }) => {
  const options = { ...IPTABLES_OPTIONS, config: { ...CONFIG, ...settings } };
  const metrics = createMetrics();
  const kernel = new FakeIptables();
  const backend = new IptablesBackend({ ...options, exec: kernel, metrics });
  let whole = new FakeIptables();
  const update = async ({ snapshot }: { snapshot: Snapshot }): Promise<void> => {
    whole = new FakeIptables();
    for (const each of [backend, new IptablesBackend({ ...options, exec: whole, metrics })]) {
      const outcome = await each.sync(snapshot);
      if (outcome.kind !== 'applied') throw new Error(outcome.reason);
    }
  };
  return {
    update,
    check: async (_kind, row) => {
      const expected = expectedPacket(file, row);
      return (
        compareTrace('as a whole', expected, trace(whole.tables, expected.packet, WORLD)) ??
        compareTrace('as written in steps', expected, trace(kernel.tables, expected.packet, WORLD))
      );
    },
    nothingRemains: async () => {
      const ofServices = /KUBE-(SVC|SVL|EXT|FW|SEP)-\S+/.exec(saved(kernel))?.[0];
      if (ofServices !== undefined) return `${ofServices} remains without a Service`;
      await backend.cleanup();
      return saved(kernel) === '' ? undefined : 'chains remain after cleanup';
    },
    stop: () => backend.stop(),
  };
};

function saved({ tables }: FakeIptables): string {
  return save(tables[4]) + save(tables[6]);
}

/**
 * Holds `packets` tables against the iptables rules, walked by a tracer: those of one sync, and those that came to be by writing each
 * step's difference.
 */
export const iptablesConsumer: Consumer = {
  name: 'iptables',
  mode: 'iptables',
  reads: ['packets'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, iptablesConsumer, start),
};
