import { expect, test } from 'vitest';
import { CONFIG } from '../../../test/rules/cluster.ts';
import type { RulesSettings } from '../config.ts';
import { chooseMode } from '../mode.ts';
import { FakeIpvs } from './fake.ts';
import { planParameters, setParameters } from './sysctls.ts';

function withScheduler(scheduler: string): RulesSettings {
  return { ...CONFIG, ipvs: { ...CONFIG.ipvs, scheduler } };
}

test('a machine that has all of it is left as it was', async () => {
  const kernel = new FakeIpvs();
  for (const scheduler of ['', 'rr', 'wlc', 'mh']) {
    expect(await chooseMode('ipvs', withScheduler(scheduler), kernel)).toBe('ipvs');
  }
  expect([...kernel.servers.keys(), ...kernel.sets.keys()]).toEqual([]);
  expect(kernel.link).toBeUndefined();
});

test('a probe that an earlier run left is in nobody’s way', async () => {
  const kernel = new FakeIpvs();
  kernel.servers.set('TCP 198.51.100.0:20000', { options: '-s rr', reals: new Map() });
  expect(await chooseMode('ipvs', withScheduler('mh'), kernel)).toBe('ipvs');
  expect(kernel.servers.size).toBe(0);
});

const MISSING: readonly (readonly [string, (kernel: FakeIpvs) => void, string, RegExp])[] = [
  ['ipvsadm', (kernel) => kernel.missing.add('ipvsadm'), 'ipvs-missing', /apt-get install ipvsadm/],
  ['ipset', (kernel) => kernel.missing.add('ipset'), 'ipvs-missing', /apt-get install ipset/],
  ['ip', (kernel) => kernel.missing.add('ip'), 'ipvs-missing', /apt-get install iproute2/],
  ['iptables', (kernel) => kernel.missing.add('iptables'), 'iptables-missing', /apt-get install iptables/],
  [
    'the kernel’s IPVS',
    (kernel) => (kernel.hasIpvs = false),
    'ipvs-unsupported',
    /modprobe ip_vs\), or use --mode nft/,
  ],
  ['dummy links', (kernel) => (kernel.hasDummy = false), 'ipvs-unsupported', /modprobe dummy\)/],
  [
    'the scheduler',
    (kernel) => (kernel.schedulers = new Set(['wrr'])),
    'ipvs-scheduler',
    /no IPVS scheduler "rr".*--ipvs-scheduler.*modprobe ip_vs_rr.*choose one of rr, wrr/,
  ],
];

test.for(MISSING)('without %s it says so, with the mend', async ([, damage, code, message]) => {
  const kernel = new FakeIpvs();
  damage(kernel);
  await expect(chooseMode('ipvs', CONFIG, kernel)).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message) as unknown,
  });
});

test('auto never is ipvs', async () => {
  const kernel = new FakeIpvs();
  kernel.missing.add('nft');
  expect(await chooseMode('auto', CONFIG, kernel)).toBe('iptables');
});

test.for([
  ['3.10.0-1160.el7', undefined],
  ['4.0.9', undefined],
  ['4.1.0', 0],
  ['5.4.0-200-generic', 0],
  ['5.8.18', 0],
  ['5.9.0', undefined],
  ['6.1.0-56-cloud-amd64', undefined],
] as const)('conn_reuse_mode of kernel %s is %s', ([release, value]) => {
  const plan = planParameters({ strictARP: false }, release);
  expect(plan.find(({ path }) => path.endsWith('conn_reuse_mode'))?.value).toBe(value);
});

test('parameters that are as they should be are left, the others are set and told', async () => {
  const kernel = new FakeIpvs();
  kernel.parameters.set('net/ipv4/ip_forward', '1');
  expect(await setParameters(kernel, { strictARP: true })).toEqual({
    changed: [
      'net.ipv4.vs.conntrack 0 → 1',
      'net.ipv4.vs.expire_nodest_conn 0 → 1',
      'net.ipv4.vs.expire_quiescent_template 0 → 1',
      'net.ipv4.conf.all.arp_ignore 0 → 1',
      'net.ipv4.conf.all.arp_announce 0 → 2',
    ],
    problems: [],
  });
});
