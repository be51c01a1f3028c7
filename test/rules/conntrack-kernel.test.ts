import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLogger } from '../../src/observe/log.ts';
import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import type { RulesConfig } from '../../src/rules/config.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { systemClock } from '../../src/system/clock.ts';
import { Topology, netnsMissing, type Host } from '../support/netns.ts';
import type { Outcome } from '../support/socket-agent.ts';
import { until } from '../support/until.ts';
import { CONFIG, clusterOf, type ServiceSketch } from './cluster.ts';

const missing = netnsMissing('conntrack');

const DNS: ServiceSketch = {
  name: 'dns',
  clusterIPs: ['172.30.0.10', 'fd00:10:96::a'],
  protocol: 'UDP',
  port: 53,
  nodePort: 30053,
  externalIPs: ['198.51.100.1'],
  endpoints: [],
};
const A = ['10.0.0.1:5353', '[fd00:10::1]:5353'];
const B = ['10.0.0.2:5353', '[fd00:10::2]:5353'];
/** Every address of the Service, each from a port of its own. */
const PLACES = [
  ['172.30.0.10', 53, 40_001],
  ['fd00:10:96::a', 53, 40_002],
  ['198.51.100.1', 53, 40_003],
  ['192.168.0.2', 30_053, 40_004],
] as const;

describe.skipIf(missing)('flows that the kernel remembers', () => {
  let topology: Topology;
  let plane: RulesPlane;
  let metrics: Metrics;
  let revision = 1;
  const lines: string[] = [];

  beforeAll(async () => {
    topology = await Topology.create();
    const pods: Host[] = [];
    for (const [name, ips] of [
      ['a', ['10.0.0.1', 'fd00:10::1']],
      ['b', ['10.0.0.2', 'fd00:10::2']],
    ] as const) {
      const pod = await topology.addPod(name, ips);
      for (const address of ips) await pod.serve({ protocol: 'UDP', address, port: 5353, name });
      await pod.serve({ protocol: 'TCP', port: 8080, name });
      pods.push(pod);
    }
  });
  afterAll(() => topology?.close());
  afterEach(async () => {
    await plane.stop();
    await topology.node.run('nft', 'flush', 'ruleset');
    await topology.node.exec.run('conntrack', ['-F']);
  });

  async function start(config: Partial<RulesConfig> = {}): Promise<void> {
    metrics = createMetrics();
    lines.length = 0;
    plane = await startRulesPlane({
      mode: 'nftables',
      config: { ...CONFIG, ...config },
      exec: topology.node.exec,
      clock: systemClock,
      random: Math.random,
      log: createLogger({ format: 'text', verbosity: 0, write: (line) => lines.push(line), now: () => 0 }),
      metrics,
      removeOnStop: false,
    });
  }

  async function apply(...sketches: readonly ServiceSketch[]): Promise<void> {
    const wanted = ++revision;
    plane.update({ ...clusterOf(sketches).snapshot, revision: wanted });
    await until(() => (plane.state() as { revision?: number }).revision === wanted);
  }

  function send([address, port, sourcePort]: (typeof PLACES)[number], timeoutMs?: number): Promise<Outcome> {
    const wait = timeoutMs === undefined ? {} : { timeoutMs };
    return topology.client.connect({ protocol: 'UDP', address, port, sourcePort, ...wait });
  }

  /** Sends until it ends as it should, at most for half a minute. Returns how the last one ended. */
  async function endsAt(place: (typeof PLACES)[number], by: string): Promise<string> {
    const end = performance.now() + 30_000;
    for (;;) {
      // A flow that nobody answers any more is silent until it is deleted.
      const outcome = await send(place, 200);
      const how = outcome.kind === 'answered' ? outcome.by : outcome.kind;
      if (how === by || performance.now() > end) return how;
    }
  }

  async function flows(protocol: string, address: string): Promise<string> {
    const family = address.includes(':') ? 'ipv6' : 'ipv4';
    return topology.node.run('conntrack', '-L', '-f', family, '-p', protocol, '--orig-dst', address);
  }

  async function deleted(): Promise<number> {
    const found = (await metrics.text()).matchAll(/reconciler_deleted_entries_total\{[^}]*\} ([0-9]+)/g);
    return [...found].reduce((sum, match) => sum + Number(match[1]), 0);
  }

  test('a UDP client that goes on from one socket follows the server to its new pod, on every address', async () => {
    await start();
    await apply({ ...DNS, endpoints: A });
    for (const place of PLACES) expect(await endsAt(place, 'a')).toBe('a');
    await apply({ ...DNS, endpoints: B });
    for (const place of PLACES) expect(await endsAt(place, 'b')).toBe('b');
    // The client may be served before the count is taken.
    await until(async () => (await deleted()) >= PLACES.length);
  });

  test('with the last endpoint gone the client is refused, and served when there is one again', async () => {
    await start();
    await apply({ ...DNS, endpoints: A });
    for (const place of PLACES) expect(await endsAt(place, 'a')).toBe('a');
    await apply(DNS);
    for (const place of PLACES) expect(await endsAt(place, 'refused')).toBe('refused');
    await apply({ ...DNS, endpoints: B });
    for (const place of PLACES) expect(await endsAt(place, 'b')).toBe('b');
  });

  test('a Service that is deleted leaves no flow, one that comes takes over flows into the void', async () => {
    await start();
    await apply({ ...DNS, endpoints: A });
    for (const place of PLACES) expect(await endsAt(place, 'a')).toBe('a');
    await apply();
    for (const [address] of PLACES) await until(async () => !(await flows('udp', address)).includes('sport=5353'));
    await send(PLACES[0], 100);
    await apply({ ...DNS, endpoints: B });
    for (const place of PLACES) expect(await endsAt(place, 'b')).toBe('b');
  });

  test('a restart keeps the flows that are valid, and deletes the others', async () => {
    await start();
    await apply({ ...DNS, endpoints: [...A, ...B] });
    const chosen: string[] = [];
    for (const place of PLACES) {
      const outcome = await send(place);
      chosen.push(outcome.kind === 'answered' ? outcome.by : outcome.kind);
    }
    await plane.stop();
    await start();
    await apply({ ...DNS, endpoints: [...A, ...B] });
    await systemClock.sleep(300);
    expect(await deleted()).toBe(0);
    for (const [index, place] of PLACES.entries()) {
      for (let i = 0; i < 4; i++) expect(await send(place)).toMatchObject({ by: chosen[index] });
    }
    // Stale ones are found at start, too.
    await plane.stop();
    await start();
    const left = chosen[0] === 'a' ? B : A;
    await apply({ ...DNS, endpoints: left });
    expect(await endsAt(PLACES[0], chosen[0] === 'a' ? 'b' : 'a')).toBe(chosen[0] === 'a' ? 'b' : 'a');
  });

  test('TCP flows to an endpoint that is gone are left alone, unless they are to be reset', async () => {
    const web: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.11'], endpoints: ['10.0.0.1:8080'] };
    for (const reset of [false, true]) {
      await start({ resetTcpToDeletedEndpoints: reset });
      await apply(web);
      await topology.client.connect({ protocol: 'TCP', address: '172.30.0.11', port: 80 });
      expect(await flows('tcp', '172.30.0.11')).toContain('src=10.0.0.1');
      await apply({ ...web, endpoints: ['10.0.0.2:8080'] });
      // What is to go is gone soon; what is to stay is given the time to go.
      const end = performance.now() + (reset ? 30_000 : 300);
      let left = '';
      do left = await flows('tcp', '172.30.0.11');
      while (left.includes('src=10.0.0.1') && performance.now() < end);
      expect(left.includes('src=10.0.0.1')).toBe(!reset);
      await plane.stop();
    }
  });

  test("the node's own flows to the number of a NodePort are not touched", async () => {
    await start();
    await apply({ ...DNS, endpoints: A });
    // From a pod to another pod, on the port that is the NodePort's.
    await topology.client.connect({
      protocol: 'UDP',
      address: '10.0.0.2',
      port: 30_053,
      sourcePort: 40_005,
      timeoutMs: 100,
    });
    expect(await flows('udp', '10.0.0.2')).toContain('dport=30053');
    await apply({ ...DNS, endpoints: B });
    expect(await endsAt(PLACES[0], 'b')).toBe('b');
    expect(await flows('udp', '10.0.0.2')).toContain('dport=30053');
  });

  test('without the tool there is one notice, and the rules are in force all the same', async () => {
    await start();
    await plane.stop();
    lines.length = 0;
    plane = await startRulesPlane({
      mode: 'nftables',
      config: CONFIG,
      exec: {
        run: (file, args, options) =>
          file === 'conntrack'
            ? Promise.resolve({ exitCode: -1, stdout: '', stderr: '', notFound: true, timedOut: false })
            : topology.node.exec.run(file, args, options),
      },
      clock: systemClock,
      random: Math.random,
      log: createLogger({ format: 'text', verbosity: 0, write: (line) => lines.push(line), now: () => 0 }),
      metrics: createMetrics(),
      removeOnStop: false,
    });
    for (const endpoints of [A, B, A]) await apply({ ...DNS, endpoints });
    expect(lines.filter((line) => line.includes('apt-get install conntrack'))).toHaveLength(1);
  });
});
