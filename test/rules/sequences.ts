// Random changes of a cluster, one upon the other, and what has to hold at each step: increments leave what one full sync would.

import { deepStrictEqual } from 'node:assert';
import * as fc from 'fast-check';
import type { Resolution } from '../../src/model/resolve.ts';
import type { NodeIdentity } from '../../src/model/snapshot.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import type { SyncOutcome } from '../../src/rules/backend.ts';
import type { RulesConfig } from '../../src/rules/config.ts';
import { IptablesBackend } from '../../src/rules/iptables/apply.ts';
import { FakeIptables, save } from '../../src/rules/iptables/fake.ts';
import { NftablesBackend } from '../../src/rules/nftables/apply.ts';
import { FakeNft, type FakeRuleset } from '../../src/rules/nftables/fake.ts';
import { FakeClock } from '../../src/system/clock-fake.ts';
import { clusters } from './arbitrary.ts';
import { CONFIG, NODE, clusterOf, type ServiceSketch } from './cluster.ts';
import { cidr, ip } from '../support/values.ts';

export interface Step {
  readonly services: readonly ServiceSketch[];
  readonly node: NodeIdentity;
  readonly config: RulesConfig;
}

const NODES: readonly NodeIdentity[] = [
  NODE,
  { ...NODE, ips: [ip('192.168.0.9'), ip('fd00:192:168::2')] },
  { ...NODE, ips: [ip('192.168.0.2')], zone: 'zone-b' },
];
const CONFIGS: readonly RulesConfig[] = [
  CONFIG,
  { ...CONFIG, nodePortAddresses: { kind: 'all' } },
  { ...CONFIG, nodePortAddresses: { kind: 'cidrs', cidrs: [cidr('192.168.0.0/24')] }, masqueradeAll: true },
  { ...CONFIG, detectLocal: { kind: 'none' } },
  { ...CONFIG, detectLocal: { kind: 'interface-prefix', prefix: 'veth' }, masqueradeMark: 0x80 },
];

/** Services, policies, ports and endpoints change with every step; node and configuration now and then. */
export const sequences: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({
    services: clusters,
    node: fc.oneof({ arbitrary: fc.constant(NODE), weight: 4 }, { arbitrary: fc.constantFrom(...NODES), weight: 1 }),
    config: fc.oneof(
      { arbitrary: fc.constant(CONFIG), weight: 4 },
      { arbitrary: fc.constantFrom(...CONFIGS), weight: 1 },
    ),
  }),
  { minLength: 2, maxLength: 5 },
);

/** Rejects with what differs. */
export async function checkSequence(steps: readonly Step[], metrics: Metrics = createMetrics()): Promise<void> {
  const nft = new FakeNft();
  const iptables = new FakeIptables();
  const first = steps[0]?.config ?? CONFIG;
  const nftables = new NftablesBackend({ config: first, exec: nft, log: silentLogger });
  const chains = overIptables(iptables, first, metrics);
  let resolution: Resolution | undefined;
  let before = first;
  for (const { services, node, config } of steps) {
    resolution = clusterOf(services, resolution, node);
    const whole = clusterOf(services, undefined, node);
    deepStrictEqual(portsOf(resolution), portsOf(whole));
    if (config !== before) {
      nftables.configure(config);
      chains.configure(config);
    }
    before = config;
    for (const backend of [nftables, chains]) {
      const outcome: SyncOutcome = await backend.sync(resolution.snapshot);
      deepStrictEqual([backend.mode, outcome.kind], [backend.mode, 'applied']);
    }
    await checkNftables(nft, whole, config);
    await checkIptables(iptables, whole, config, metrics);
  }
}

/** A start over what is there writes nothing, and a start from nothing leaves the same, but for the numbers of endpoints. */
async function checkNftables(held: FakeNft, { snapshot }: Resolution, config: RulesConfig): Promise<void> {
  const written = held.transactions.length;
  await new NftablesBackend({ config, exec: held, log: silentLogger }).sync(snapshot);
  deepStrictEqual(held.transactions.slice(written), []);
  const fresh = new FakeNft();
  await new NftablesBackend({ config, exec: fresh, log: silentLogger }).sync(snapshot);
  deepStrictEqual(unnumbered(held.ruleset), unnumbered(fresh.ruleset));
}

async function checkIptables(
  held: FakeIptables,
  { snapshot }: Resolution,
  config: RulesConfig,
  metrics: Metrics,
): Promise<void> {
  const written = held.restored.length;
  await overIptables(held, config, metrics).sync(snapshot);
  deepStrictEqual(held.restored.slice(written), []);
  const fresh = new FakeIptables();
  await overIptables(fresh, config, metrics).sync(snapshot);
  // A guard of loopback that is not needed any more stays, as kubelet may want it, and jumps keep the order in which they came.
  for (const family of [4, 6] as const) deepStrictEqual(linesOf(held, family), linesOf(fresh, family));
}

function overIptables(exec: FakeIptables, config: RulesConfig, metrics: Metrics): IptablesBackend {
  return new IptablesBackend({ config, exec, log: silentLogger, clock: new FakeClock(), metrics });
}

function linesOf(kernel: FakeIptables, family: 4 | 6): readonly string[] {
  return save(kernel.tables[family])
    .split('\n')
    .filter((line) => /^(:|-A )KUBE-/.test(line) && !line.includes('KUBE-FIREWALL'));
}

function portsOf({ snapshot }: Resolution): unknown {
  return [...snapshot.services.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Which endpoint of a Service has which number is free. */
function unnumbered(ruleset: FakeRuleset): unknown {
  return [...ruleset].map(([family, { chains, containers }]) => ({
    family,
    chains: [...chains].map(([name, { rules }]) => `${name} ${JSON.stringify(rules)}`).sort(),
    elements: [...containers]
      .flatMap(([name, { elements }]) =>
        [...elements].map(([key, value]) =>
          /(?<!sticky-)endpoints$/.test(name)
            ? `${name} ${key.slice(0, key.lastIndexOf(' . '))} ${value}`
            : `${name} ${key} ${value}`,
        ),
      )
      .sort(),
  }));
}
