import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLogger } from '../../src/observe/log.ts';
import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { FakeClock } from '../../src/system/clock-fake.ts';
import type { Exec } from '../../src/system/exec.ts';
import { Topology, netnsMissing } from '../support/netns.ts';
import type { Outcome } from '../support/socket-agent.ts';
import { until } from '../support/until.ts';
import { CONFIG, clusterOf, type ServiceSketch } from './cluster.ts';

const missing = netnsMissing('iptables');
if (missing) process.stderr.write(`left out: what the kernel refuses (${missing})\n`);

const GOOD: ServiceSketch = { name: 'good', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:8080'] };
const BAD: ServiceSketch = { name: 'bad', clusterIPs: ['172.30.0.13'], endpoints: ['10.0.0.1:8081'] };

/** What makes the kernel, and not its tool, refuse whatever is written of the Service `bad`. */
const SPOILS: Readonly<Record<'nftables' | 'iptables', (text: string) => string>> = {
  // An element of the map that says something else: EEXIST.
  nftables: (text) =>
    /^172\.30\.0\.13 \. tcp \. 80 : /m.test(text)
      ? `${text}add element ip fairlead services { 172.30.0.13 . tcp . 80 : 65001 }\n`
      : text,
  // A target that is for another table: EINVAL.
  iptables: (text) => text.replace('-j DNAT --to-destination 10.0.0.1:8081', '-j TPROXY --on-port 8081'),
};

describe.skipIf(missing).for([
  { what: 'nftables', mode: 'nftables', variant: 'nft' },
  { what: 'iptables-nft', mode: 'iptables', variant: 'nft' },
  { what: 'iptables-legacy', mode: 'iptables', variant: 'legacy' },
] as const)('$what: a Service that the kernel refuses', ({ mode, variant }) => {
  let topology: Topology;
  let plane: RulesPlane | undefined;
  let metrics: Metrics;
  let clock: FakeClock;
  let spoiled = true;
  const lines: string[] = [];

  beforeAll(async () => {
    topology = await Topology.create();
    // What kubelet leaves tells which iptables is in use.
    await topology.node.run(`iptables-${variant}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT');
    const pod = await topology.addPod('a', ['10.0.0.1']);
    for (const port of [8080, 8081]) await pod.serve({ protocol: 'TCP', port, name: 'a' });
  });
  afterAll(() => topology?.close());
  afterEach(async () => {
    await plane?.stop();
    plane = undefined;
    spoiled = true;
    lines.length = 0;
  });

  async function start(): Promise<RulesPlane> {
    metrics = createMetrics();
    clock = new FakeClock();
    const exec: Exec = {
      run: (file, args, options) => {
        const { input } = options ?? {};
        if (!spoiled || input === undefined) return topology.node.exec.run(file, args, options);
        return topology.node.exec.run(file, args, { ...options, input: SPOILS[mode](Buffer.from(input).toString()) });
      },
    };
    return (plane = await startRulesPlane({
      mode,
      config: CONFIG,
      exec,
      clock,
      random: () => 1,
      log: createLogger({ format: 'text', verbosity: 0, write: (line) => lines.push(line), now: () => 0 }),
      metrics,
      removeOnStop: true,
    }));
  }

  /** Lets the time of the loop pass until the condition holds. */
  function eventually(holds: () => boolean | Promise<boolean>): Promise<unknown> {
    return until(async () => {
      await clock.advance(5000);
      return holds();
    });
  }

  function dial(address: string): Promise<Outcome> {
    return topology.client.connect({ protocol: 'TCP', address, port: 80, timeoutMs: 300 });
  }

  async function retries(): Promise<number> {
    return Number(/^fairlead_rules_sync_retries_total ([0-9]+)/m.exec(await metrics.text())?.[1]);
  }

  test.each([
    ['at start', []],
    ['among changes', [GOOD]],
  ])('%s it is named, the others are in force, and it is tried again until it is taken', async (_when, before) => {
    const running = await start();
    if (before.length > 0) {
      running.update(clusterOf(before).snapshot);
      await eventually(() => (running.state() as { revision?: number }).revision === 1);
    }
    const later: ServiceSketch = { ...GOOD, name: 'later', clusterIPs: ['172.30.0.2'] };
    running.update({ ...clusterOf([GOOD, BAD, later]).snapshot, revision: 2 });
    await eventually(() => (running.state() as { revision?: number }).revision === 2);
    for (const address of ['172.30.0.1', '172.30.0.2']) {
      expect(await topology.client.connect({ protocol: 'TCP', address, port: 80 })).toMatchObject({ by: 'a' });
    }
    expect((await dial('172.30.0.13')).kind).not.toBe('answered');
    expect(lines.filter((line) => line.includes('Service default/bad is left out'))).toHaveLength(1);
    await eventually(async () => (await retries()) >= 2);
    expect(lines.filter((line) => line.includes('Service default/bad is left out'))).toHaveLength(1);
    spoiled = false;
    await eventually(async () => (await dial('172.30.0.13')).kind === 'answered');
    await eventually(() => lines.some((line) => line.includes('rules in force again')));
    expect((running.state() as { problem?: string }).problem).toBeUndefined();
  });
});
