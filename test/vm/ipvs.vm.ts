// What the IPVS mode does to a real kernel, beside the scenarios: connections that outlive their endpoint, damage and its repair, restarts,
// others' virtual servers, cleanup.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Snapshot } from '../../src/model/snapshot.ts';
import type { Resolution } from '../../src/model/resolve.ts';
import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import { silentLogger } from '../../src/observe/log.ts';
import type { RulesSettings } from '../../src/rules/config.ts';
import { chooseMode } from '../../src/rules/mode.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { cleanupRules } from '../../src/rules/cleanup.ts';
import { systemClock } from '../../src/system/clock.ts';
import { CONFIG, clusterOf, type ServiceSketch } from '../rules/cluster.ts';
import { Topology, type Host } from '../support/netns.ts';
import { until } from '../support/until.ts';

/** Programs take ten times as long as outside. */
const LIMIT_MS = 300_000;
const WAIT_MS = 120_000;

const VIP = '172.30.0.1';
const WEB: ServiceSketch = {
  name: 'web',
  clusterIPs: [VIP],
  nodePort: 30_080,
  endpoints: ['10.0.0.1:8080', '10.0.0.2:8080'],
};
/** Connections to it go on. */
const LONG_VIP = '172.30.0.2';

/** Both Services with that Pod alone. */
function on(pod: string): readonly ServiceSketch[] {
  return [
    { ...WEB, endpoints: [`${pod}:8080`] },
    { name: 'long', clusterIPs: [LONG_VIP], endpoints: [`${pod}:8081`] },
  ];
}

const SETTINGS: RulesSettings = { ...CONFIG, nodePortAddresses: 'by-mode' };

let topology: Topology;
let node: Host;
let plane: RulesPlane | undefined;
let metrics: Metrics;

beforeAll(async () => {
  topology = await Topology.create();
  ({ node } = topology);
  for (const [name, ip] of [
    ['a', '10.0.0.1'],
    ['b', '10.0.0.2'],
  ] as const) {
    const pod = await topology.addPod(name, [ip]);
    await pod.serve({ protocol: 'TCP', address: ip, port: 8080, name });
    await pod.serve({ protocol: 'TCP', address: ip, port: 8081, name, keeps: true });
  }
});
afterAll(() => topology?.close());

async function start(snapshot: Snapshot, settings = SETTINGS): Promise<RulesPlane> {
  metrics = createMetrics();
  plane = await startRulesPlane({
    mode: 'ipvs',
    config: settings,
    exec: node.exec,
    follow: node.follow,
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    metrics,
    removeOnStop: false,
  });
  await apply(plane, snapshot);
  return plane;
}

function apply(to: RulesPlane, snapshot: Snapshot): Promise<boolean> {
  to.update(snapshot);
  return until(() => (to.state() as { revision?: number }).revision === snapshot.revision, WAIT_MS);
}

async function stop(): Promise<void> {
  await plane?.stop();
  plane = undefined;
}

afterEach(async () => {
  await stop();
  await cleanupRules(node);
});

/** Changes the cluster as the API server would: each state builds on the one before. */
function next(sketches: readonly ServiceSketch[], before?: Resolution): Resolution {
  return clusterOf(sketches, before);
}

async function answers(): Promise<string> {
  const outcome = await topology.client.connect({ protocol: 'TCP', address: VIP, port: 80 });
  return outcome.kind === 'answered' ? outcome.by : outcome.kind;
}

async function save(): Promise<string> {
  const servers = await node.run('ipvsadm', '--save', '--numeric');
  const sets = (await node.run('ipset', 'save')).split('\n').filter((line) => line.startsWith('add'));
  const links = await node.run('ip', '-o', 'address', 'show', 'dev', 'kube-ipvs0');
  const addresses = [...links.matchAll(/inet6? (\S+)/g)].map((match) => match[1] ?? '');
  return [...servers.split('\n').sort(), ...sets.sort(), ...addresses.sort()].join('\n');
}

async function chains(): Promise<readonly string[]> {
  const saved = (await node.run('iptables-save')).split('\n');
  return saved.filter((line) => line.startsWith('-A')).sort();
}

describe('connections', () => {
  test(
    'one that stands outlives the removal of its endpoint, which goes with it; new ones go elsewhere',
    { timeout: LIMIT_MS },
    async () => {
      const first = next(on('10.0.0.1'));
      const running = await start(first.snapshot);
      const talk = await topology.client.talk({ address: LONG_VIP, port: 80, everyMs: 20 });
      try {
        await until(async () => (await talk.state()).by === 'a', WAIT_MS);
        await apply(running, next(on('10.0.0.2'), first).snapshot);
        const { answers: before } = await talk.state();
        expect(await node.run('ipvsadm', '--save', '--numeric')).toContain(`${LONG_VIP}:80 -r 10.0.0.1:8081 -m -w 0`);
        for (let i = 0; i < 5; i++) expect(await answers()).toBe('b');
        await until(async () => (await talk.state()).answers > before + 50, WAIT_MS);
        expect(await talk.state()).toMatchObject({ by: 'a', ended: '' });
      } finally {
        await talk.close();
      }
      await until(async () => !(await node.run('ipvsadm', '--save', '--numeric')).includes('10.0.0.1:8081'), WAIT_MS);
    },
  );

  test('one that stands is reset with its endpoint where that is asked for', { timeout: LIMIT_MS }, async () => {
    const first = next(on('10.0.0.1'));
    const running = await start(first.snapshot, { ...SETTINGS, resetTcpToDeletedEndpoints: true });
    const talk = await topology.client.talk({ address: LONG_VIP, port: 80, everyMs: 20 });
    try {
      await until(async () => (await talk.state()).by === 'a', WAIT_MS);
      await apply(running, next(on('10.0.0.2'), first).snapshot);
      await until(async () => (await talk.state()).ended === 'ECONNRESET', WAIT_MS);
      expect(await talk.state()).toMatchObject({ by: 'a' });
    } finally {
      await talk.close();
    }
  });
});

describe('what others do', () => {
  test('is repaired, whatever it is', { timeout: LIMIT_MS }, async () => {
    await start(next([WEB]).snapshot);
    const whole = await save();
    const rules = await chains();
    const damages = [
      'ipvsadm --clear',
      'ipset flush',
      `ip address delete ${VIP}/32 dev kube-ipvs0`,
      'ip link delete kube-ipvs0',
      'iptables -t nat -F',
    ];
    for (const [index, damage] of damages.entries()) {
      await node.run('sh', '-c', damage);
      const repairs = `fairlead_rules_drift_repairs_total ${index + 1}`;
      await until(
        async () => (await metrics.text()).includes(repairs),
        WAIT_MS,
        () => `not repaired: ${damage}`,
      );
      expect(await save()).toBe(whole);
      expect(await chains()).toEqual(rules);
      expect(['a', 'b']).toContain(await answers());
    }
  });

  test('a virtual server of theirs stays, also through restart and cleanup', { timeout: LIMIT_MS }, async () => {
    await node.run('ipvsadm', '-A', '-t', '203.0.113.99:80', '-s', 'rr');
    const { snapshot } = next([WEB]);
    await start(snapshot);
    const whole = await save();
    await stop();
    await start(snapshot);
    expect(await save()).toBe(whole);
    await stop();
    await start(next([]).snapshot);
    await stop();
    expect((await cleanupRules(node)).problems).toEqual([]);
    expect(await node.run('ipvsadm', '--save', '--numeric')).toBe('-A -t 203.0.113.99:80 -s rr\n');
    await node.run('ipvsadm', '--clear');
    expect(await node.run('ipset', 'list', '-name')).toBe('');
    expect(await node.run('ip', 'link')).not.toContain('kube-ipvs0');
    expect(await node.run('iptables-save')).not.toContain('KUBE-');
  });
});

describe('settings', () => {
  test('a scheduler that the kernel does not have is said at start', { timeout: LIMIT_MS }, async () => {
    const settings = { ...SETTINGS, ipvs: { ...SETTINGS.ipvs, scheduler: 'best' } };
    await expect(chooseMode('ipvs', settings, node.exec)).rejects.toMatchObject({
      code: 'ipvs-scheduler',
      message: expect.stringContaining('no IPVS scheduler "best"') as unknown,
    });
  });
});
