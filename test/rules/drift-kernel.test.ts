import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { nftFamily } from '../../src/rules/nftables/layout.ts';
import { parseTable } from '../../src/rules/nftables/parse.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFollow, type Follow } from '../../src/system/follow.ts';
import { Topology, netnsMissing, type Host } from '../support/netns.ts';
import { until } from '../support/until.ts';
import { CONFIG, clusterOf, type ServiceSketch } from './cluster.ts';

const missing = netnsMissing();

const SERVICE: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:8080'] };
const { snapshot } = clusterOf([SERVICE, { ...SERVICE, name: 'more', clusterIPs: ['172.30.0.2'] }]);

describe.skipIf(missing)('rules that somebody else changed', () => {
  let topology: Topology;
  let pod: Host;
  let metrics: Metrics;
  let plane: RulesPlane;
  /** What the listener has said. */
  const told = new Set<string>();

  beforeAll(async () => {
    topology = await Topology.create();
    pod = await topology.addPod('a', ['10.0.0.1']);
    await pod.serve({ protocol: 'TCP', port: 8080, name: 'a' });
  });
  afterAll(() => topology?.close());

  /** Resolves when the rules are in force, and the listener hears. */
  async function start(hasPerl = true): Promise<void> {
    metrics = createMetrics();
    told.clear();
    const follow: Follow = (file, args, handlers) =>
      topology.node.follow(file, args, {
        ...handlers,
        onLine: (line) => {
          told.add(line);
          handlers.onLine(line);
        },
      });
    plane = await startRulesPlane({
      mode: 'nftables',
      config: CONFIG,
      exec: topology.node.exec,
      follow: hasPerl ? follow : (_file, args, handlers) => systemFollow('no-such-perl', args, handlers),
      clock: systemClock,
      random: Math.random,
      log: silentLogger,
      metrics,
      removeOnStop: true,
    });
    plane.update(snapshot);
    await until(() => plane.ready && (!hasPerl || told.has('ready')));
  }
  beforeEach(() => (metrics = createMetrics()));
  afterEach(() => plane.stop());

  async function repairs(): Promise<number> {
    return Number(/fairlead_rules_drift_repairs_total ([0-9]+)/.exec(await metrics.text())?.[1]);
  }

  function transactions(): number {
    return (plane.state() as { backend: { transactions: number } }).backend.transactions;
  }

  /** Elements and numbers of rules of both tables, in a fixed order; what cannot be listed is empty. */
  async function tables(): Promise<string> {
    const lines: string[] = [];
    for (const family of [4, 6] as const) {
      const { stdout } = await topology.node.exec.run('nft', ['-j', 'list', 'table', nftFamily(family), 'fairlead']);
      if (stdout === '') continue;
      const elements = new Map<string, string>();
      const { chains } = parseTable(stdout, family, elements);
      lines.push(...[...chains, ...elements].map(([name, value]) => `${family} ${name} ${value}`));
    }
    return lines.sort().join('\n');
  }

  const damages: readonly (readonly [string, readonly string[]])[] = [
    ['the whole ruleset flushed', ['flush', 'ruleset']],
    ['a table deleted', ['delete', 'table', 'ip', 'fairlead']],
    ['a chain flushed', ['flush', 'chain', 'ip', 'fairlead', 'find-service']],
    ['an element deleted', ['delete', 'element', 'ip', 'fairlead', 'services', '{ 172.30.0.1 . tcp . 80 }']],
    ['an element added', ['add', 'element', 'ip', 'fairlead', 'cluster-ips', '{ 9.9.9.9 }']],
    ['a rule added', ['insert', 'rule', 'ip', 'fairlead', 'find-service', 'drop']],
  ];
  test.for(damages)('%s is repaired', async ([, command]) => {
    await start();
    const whole = await tables();
    await topology.node.run('nft', ...command);
    await until(async () => (await repairs()) === 1);
    expect(await tables()).toBe(whole);
    expect(await topology.client.connect({ protocol: 'TCP', address: '172.30.0.1', port: 80 })).toMatchObject({
      kind: 'answered',
    });
  });

  test('on a quiet node nothing is written, and our own changes are not taken for those of others', async () => {
    await start();
    for (let i = 0; i < 30; i++) {
      const endpoints = i % 2 === 0 ? ['10.0.0.1:8080', '10.0.0.2:8080'] : ['10.0.0.1:8080'];
      plane.update({ ...clusterOf([{ ...SERVICE, endpoints }]).snapshot, revision: i + 10 });
      await systemClock.sleep(15);
    }
    await topology.node.run('nft', 'add', 'table', 'ip', 'somebody');
    await topology.node.run('nft', 'delete', 'table', 'ip', 'somebody');
    await until(() => (plane.state() as { revision: number }).revision === 39);
    const before = transactions();
    await systemClock.sleep(1200);
    expect(transactions()).toBe(before);
    expect(await repairs()).toBe(0);
  });

  test('without perl a deleted table is found all the same', async () => {
    await start(false);
    await topology.node.run('nft', 'flush', 'ruleset');
    await until(async () => (await repairs()) === 1);
    expect(await tables()).toContain('172.30.0.1');
  });

  test('a flush under load is repaired, and every connection from then on is answered', async () => {
    await start();
    const hammer = await topology.client.hammer({
      targets: [{ protocol: 'TCP', address: '172.30.0.1', port: 80 }],
      everyMs: 10,
      timeoutMs: 20_000,
    });
    await systemClock.sleep(100);
    await topology.node.run('nft', 'flush', 'ruleset');
    await until(async () => (await repairs()) === 1);
    const repaired = Date.now();
    await systemClock.sleep(500);
    const { answeredBy, failures } = await hammer.stop();
    expect(failures.filter(({ at }) => at > repaired)).toEqual([]);
    expect(answeredBy['a']).toBeGreaterThan(10);
  });

  test('a change among notifications that the kernel had to leave out is found and repaired', async () => {
    await start();
    const whole = await tables();
    const { node } = topology;
    const listener = (await node.run('ip', 'netns', 'pids', node.namespace))
      .split('\n')
      .find((pid) => pid !== '' && readFileSync(`/proc/${pid}/comm`, 'utf8') === 'perl\n');
    // While it sleeps, more is told than its socket holds; our table's part comes last.
    process.kill(Number(listener), 'SIGSTOP');
    const numbers = Array.from({ length: 150_000 }, (_, i) => i + 1);
    const input = `add table ip somebody
add set ip somebody numbers { type mark; }
add element ip somebody numbers { ${numbers.join(', ')} }
delete element ip fairlead services { 172.30.0.1 . tcp . 80 }
`;
    const { exitCode } = await node.exec.run('nft', ['-f', '-'], { input });
    expect(exitCode).toBe(0);
    expect(await tables()).not.toBe(whole);
    process.kill(Number(listener), 'SIGCONT');
    await until(async () => (await repairs()) >= 1);
    expect(told).toContain('lost');
    expect(await tables()).toBe(whole);
    await node.run('nft', 'delete', 'table', 'ip', 'somebody');
  });
});
