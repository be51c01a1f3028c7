import type { Snapshot } from '../../../src/model/snapshot.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { createMetrics } from '../../../src/observe/metrics.ts';
import { defaultRulesConfig, type RulesConfig } from '../../../src/rules/config.ts';
import { save } from '../../../src/rules/iptables/fake.ts';
import { IpvsBackend } from '../../../src/rules/ipvs/apply.ts';
import { FakeIpvs } from '../../../src/rules/ipvs/fake.ts';
import { trace } from '../../../src/rules/ipvs/trace.ts';
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
export const IPVS_OPTIONS = { config: CONFIG, log: silentLogger, clock: systemClock };
const LOCAL = [...NODE_IPS, OTHER_NODE_IP];
const WORLD = { localAddresses: LOCAL };

const start: Start = async ({ file, settings }) => {
  const options = { ...IPVS_OPTIONS, config: { ...CONFIG, ...settings } };
  const metrics = createMetrics();
  const kernel = new FakeIpvs(LOCAL);
  const backend = new IpvsBackend({ ...options, exec: kernel, metrics });
  let whole = new FakeIpvs(LOCAL);
  const update = async ({ snapshot }: { snapshot: Snapshot }): Promise<void> => {
    whole = new FakeIpvs(LOCAL);
    const fresh = new IpvsBackend({ ...options, exec: whole, metrics });
    for (const each of [backend, fresh]) {
      const outcome = await each.sync(snapshot);
      if (outcome.kind !== 'applied') throw new Error(outcome.reason);
    }
    await fresh.stop();
  };
  return {
    update,
    check: async (_kind, row) => {
      const expected = expectedPacket(file, row);
      return (
        compareTrace('as a whole', expected, trace(whole, expected.packet, WORLD)) ??
        compareTrace('as written in steps', expected, trace(kernel, expected.packet, WORLD))
      );
    },
    nothingRemains: async () => {
      const [server] = kernel.servers.keys();
      if (server !== undefined) return `virtual server ${server} remains without a Service`;
      const [address] = kernel.link ?? [];
      if (address !== undefined) return `address ${address} remains without a Service`;
      const set = [...kernel.sets].find(([, { entries }]) => entries.size > 0);
      if (set) return `ipset ${set[0]} has entries without a Service`;
      await backend.cleanup();
      const left =
        save(kernel.iptables.tables[4]) + save(kernel.iptables.tables[6]) + [...kernel.sets.keys()].join(' ');
      return left === '' && kernel.link === undefined ? undefined : `cleanup leaves: ${left}`;
    },
    stop: () => backend.stop(),
  };
};

/**
 * Holds `packets` tables against virtual servers, sets and chains of the IPVS mode, walked by a tracer: those of one sync, and those that
 * came to be by writing each step's difference.
 */
export const ipvsConsumer: Consumer = {
  name: 'ipvs',
  mode: 'ipvs',
  reads: ['packets'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, ipvsConsumer, start),
};
