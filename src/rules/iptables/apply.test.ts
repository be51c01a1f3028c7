import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, clusterOf, type ServiceSketch } from '../../../test/rules/cluster.ts';
import type { Resolution } from '../../model/resolve.ts';
import { silentLogger } from '../../observe/log.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import type { Exec } from '../../system/exec.ts';
import type { RulesConfig } from '../config.ts';
import { IptablesBackend } from './apply.ts';
import { FakeIptables, save } from './fake.ts';
import { servicePortHash } from './names.ts';

const WEB: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80', '10.0.0.2:80'] };
const OTHER: ServiceSketch = { name: 'other', clusterIPs: ['172.30.0.2'], endpoints: ['10.0.0.3:80'] };
const ALL: RulesConfig = { ...CONFIG, nodePortAddresses: { kind: 'all' } };

function backendOver(
  exec: Exec,
  { clock = new FakeClock(), config = ALL }: { clock?: FakeClock; config?: RulesConfig } = {},
): IptablesBackend {
  return new IptablesBackend({ config, exec, log: silentLogger, clock, metrics: createMetrics() });
}

function saved(kernel: FakeIptables): string {
  return save(kernel.tables[4]) + save(kernel.tables[6]);
}

test('syncs upon syncs leave the chains as one sync over them wants them', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(clusters, { minLength: 2, maxLength: 4 }), async (states) => {
      const kernel = new FakeIptables();
      const backend = backendOver(kernel);
      let resolution: Resolution | undefined;
      for (const state of states) {
        resolution = clusterOf(state, resolution);
        expect(await backend.sync(resolution.snapshot)).toMatchObject({ kind: 'applied' });
        const held = saved(kernel);
        const written = kernel.restored.length;
        expect(await backendOver(kernel).sync(clusterOf(state).snapshot)).toEqual({ kind: 'applied', counts: {} });
        expect(kernel.restored.length).toBe(written);
        const fresh = new FakeIptables();
        await backendOver(fresh).sync(clusterOf(state).snapshot);
        expect(held).toBe(saved(fresh));
      }
      expect(kernel.saves).toBeLessThanOrEqual(2 * (states.length + 1));
    }),
    { numRuns: 60 },
  );
});

test('a change of one endpoint writes the chains of its Service only, and lists nothing', async () => {
  const kernel = new FakeIptables();
  const backend = backendOver(kernel);
  const first = clusterOf([WEB, OTHER]);
  await backend.sync(first.snapshot);
  const { length } = kernel.restored;
  const saves = kernel.saves;
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80', '10.0.0.9:80'] }, OTHER], first);
  expect(await backend.sync(second.snapshot)).toEqual({
    kind: 'applied',
    counts: { added: 1, changed: 1, removed: 1 },
  });
  expect(kernel.restored.length).toBe(length + 1);
  expect(kernel.saves).toBe(saves);
  const text = kernel.restored.at(-1)?.text ?? '';
  expect(text.startsWith('*nat\n:KUBE-S')).toBe(true);
  expect(text).not.toContain('*filter');
  expect(text.match(/^:/gm)).toHaveLength(3);
  expect(text.match(/^-X/gm)).toHaveLength(1);
});

test('rules of endpoints that were written with comments stay as they are when the cluster grows large, after a restart too', async () => {
  const kernel = new FakeIptables();
  const backend = backendOver(kernel);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const many = Array.from({ length: 1001 }, (_, i) => `10.1.${i >> 8}.${i & 255}:80`);
  const large = clusterOf([WEB, { ...OTHER, endpoints: many }], first);
  await backend.sync(large.snapshot);
  const commented = [...kernel.tables[4].nat].filter(
    ([chain, rules]) => chain.startsWith('KUBE-SEP-') && rules.some(({ text }) => text.includes('--comment')),
  );
  expect(commented).toHaveLength(WEB.endpoints?.length ?? 0);
  expect(await backendOver(kernel).sync(large.snapshot)).toEqual({ kind: 'applied', counts: {} });
});

test("over kube-proxy's own rules nothing but the differences is written", async () => {
  const kernel = new FakeIptables();
  const first = clusterOf([WEB, OTHER]);
  await backendOver(kernel).sync(first.snapshot);
  // As kube-proxy orders the matches, in another order of Services, and without the jump that it does not have.
  const services = kernel.tables[4].nat.get('KUBE-SERVICES') ?? [];
  expect(services).toHaveLength(3);
  const output = kernel.tables[4].filter.get('OUTPUT') ?? [];
  kernel.tables[4].filter.set(
    'OUTPUT',
    output.filter(({ text }) => !text.endsWith('KUBE-EXTERNAL-SERVICES')),
  );
  const before = kernel.restored.length;
  expect(await backendOver(kernel).sync(clusterOf([WEB, OTHER]).snapshot)).toEqual({
    kind: 'applied',
    counts: { jumps: 1 },
  });
  expect(kernel.restored.slice(before).map(({ text }) => text)).toEqual([
    '*filter\n-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES\nCOMMIT\n',
  ]);
});

test('the Service whose rule is refused is left out and named, the others are in force, and it is tried again later', async () => {
  const kernel = new FakeIptables();
  const clock = new FakeClock();
  const backend = backendOver(kernel, { clock });
  kernel.refuses = '172.30.0.2/32';
  const first = clusterOf([WEB, OTHER]);
  const rejected = [{ service: 'default/other', families: [4], reason: expect.stringContaining('line') as unknown }];
  expect(await backend.sync(first.snapshot)).toMatchObject({ kind: 'applied', rejected });
  expect(saved(kernel)).toContain('172.30.0.1/32');
  expect(saved(kernel)).not.toContain('172.30.0.2/32');
  // A change of another Service goes through; the one that is left out stays so, and costs nothing.
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }, OTHER], first);
  const { saves } = kernel;
  expect(await backend.sync(second.snapshot)).toMatchObject({ kind: 'applied', rejected });
  expect(kernel.saves).toBe(saves);
  kernel.refuses = undefined;
  await clock.advance(30_000);
  expect(await backend.sync(second.snapshot)).not.toHaveProperty('rejected');
  expect(saved(kernel)).toContain('172.30.0.2/32');
});

test('a Service that was left out counts again as soon as it changes', async () => {
  const kernel = new FakeIptables();
  const backend = backendOver(kernel);
  kernel.refuses = '172.30.0.2/32';
  const first = clusterOf([WEB, OTHER]);
  await backend.sync(first.snapshot);
  const mended = clusterOf([WEB, { ...OTHER, clusterIPs: ['172.30.0.3'] }], first);
  const outcome = await backend.sync(mended.snapshot);
  expect(outcome).toMatchObject({ kind: 'applied' });
  expect(outcome).not.toHaveProperty('rejected');
  expect(saved(kernel)).toContain('172.30.0.3/32');
});

test('a partial restore that fails because others took chains away is followed by the whole, and blames nobody', async () => {
  const kernel = new FakeIptables();
  const backend = backendOver(kernel);
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  kernel.tables[4] = new FakeIptables().tables[4];
  const second = clusterOf([{ ...WEB, endpoints: ['10.0.0.2:80'] }], first);
  const outcome = await backend.sync(second.snapshot);
  expect(outcome).toMatchObject({ kind: 'applied' });
  expect(outcome).not.toHaveProperty('rejected');
  const fresh = new FakeIptables();
  await backendOver(fresh).sync(second.snapshot);
  expect(saved(kernel)).toBe(saved(fresh));
});

test.for(['filter', 'nat', 'mangle'] as const)(
  'what is flushed from the table %s is noticed within 4 s',
  async (table) => {
    const kernel = new FakeIptables();
    const clock = new FakeClock();
    const backend = backendOver(kernel, { clock });
    const { snapshot } = clusterOf([WEB]);
    await backend.sync(snapshot);
    const whole = saved(kernel);
    const missing: string[] = [];
    backend.watch((what) => missing.push(what));
    const { saves } = kernel;
    await clock.advance(10_000);
    expect(missing).toEqual([]);
    expect(kernel.checks).toBeGreaterThan(4);
    expect(kernel.saves).toBe(saves);
    // -F takes the rules, -X the chains that are then empty.
    const chains = kernel.tables[6][table];
    for (const name of chains.keys()) chains.set(name, []);
    if (table === 'mangle') chains.delete('KUBE-PROXY-CANARY');
    await clock.advance(4_000);
    expect(missing).toHaveLength(1);
    await backend.sync(snapshot);
    expect(saved(kernel)).toBe(whole);
    await clock.advance(10_000);
    expect(missing).toHaveLength(1);
    await backend.stop();
  },
);

test("cleanup takes every chain and jump, and leaves kubelet's", async () => {
  const kernel = new FakeIptables();
  const backend = backendOver(kernel);
  await backend.sync(clusterOf([{ ...WEB, nodePort: 30_001, externalIPs: ['198.51.100.1'] }]).snapshot);
  const { removed, problems } = await backend.cleanup();
  expect(problems).toEqual([]);
  expect(removed.join()).toMatch(/chains of IPv4.*chains of IPv6/);
  expect(saved(kernel)).toBe('');
  kernel.tables[4].mangle.set('KUBE-KUBELET-CANARY', []);
  const again = backendOver(kernel);
  await again.sync(clusterOf([WEB]).snapshot);
  await again.cleanup();
  const left = saved(kernel);
  expect(left).toContain('KUBE-KUBELET-CANARY');
  expect(left.match(/-A .* -j KUBE-FIREWALL/g)).toHaveLength(2);
  expect(left).toContain('block incoming localnet connections');
  expect(left).not.toMatch(/KUBE-(SERVICES|SVC|SEP|PROXY)/);
});

test('chains of Services that are gone since the last run are deleted at start', async () => {
  const kernel = new FakeIptables();
  await backendOver(kernel).sync(clusterOf([WEB, OTHER]).snapshot);
  await backendOver(kernel).sync(clusterOf([WEB]).snapshot);
  expect(saved(kernel)).not.toContain(servicePortHash('default/other:p', 'TCP'));
});

test('the rules are counted under the names that kube-proxy has', async () => {
  const metrics = createMetrics();
  const backend = new IptablesBackend({
    config: ALL,
    exec: new FakeIptables(),
    log: silentLogger,
    clock: new FakeClock(),
    metrics,
  });
  const first = clusterOf([WEB]);
  await backend.sync(first.snapshot);
  const text = await metrics.text();
  expect(text).toContain('kubeproxy_sync_proxy_rules_iptables_total{table="nat",ip_family="IPv4"} 13');
  expect(text).toContain('kubeproxy_sync_proxy_rules_iptables_last{table="nat",ip_family="IPv4"} 13');
  expect(text).toContain('kubeproxy_sync_proxy_rules_iptables_total{table="filter",ip_family="IPv4"} 4');
  expect(backend.owned().rules[4]).toBe(17);
  await backend.sync(clusterOf([{ ...WEB, endpoints: ['10.0.0.1:80'] }], first).snapshot);
  const after = await metrics.text();
  expect(after).toContain('kubeproxy_sync_proxy_rules_iptables_total{table="nat",ip_family="IPv4"} 10');
  expect(after).toContain('kubeproxy_sync_proxy_rules_iptables_last{table="nat",ip_family="IPv4"} 2');
});
