import { expect, test } from 'vitest';
import { CONFIG, clusterOf } from '../../test/rules/cluster.ts';
import { silentLogger } from '../observe/log.ts';
import { createMetrics } from '../observe/metrics.ts';
import { FakeClock } from '../system/clock-fake.ts';
import type { Exec, ExecResult } from '../system/exec.ts';
import { FakeIptables } from './iptables/fake.ts';
import { FakeIpvs } from './ipvs/fake.ts';
import { chooseMode } from './mode.ts';
import { startRulesPlane } from './plane.ts';

const OK: ExecResult = { exitCode: 0, stdout: '', stderr: '', notFound: false, timedOut: false };

/** A machine whose nft says this version and answers the check so. */
function machine(version: Partial<ExecResult>, check: Partial<ExecResult> = {}): Exec {
  return {
    run: async (_file, args) => ({ ...OK, ...(args[0] === '--version' ? version : check) }),
  };
}

const NEW = { stdout: 'nftables v1.0.6 (Lester Gooch #5)\n' };

test('auto is nftables where tool, right and kernel are there', async () => {
  expect(await chooseMode('auto', CONFIG, machine(NEW))).toBe('nftables');
  expect(await chooseMode('nftables', CONFIG, machine({ stdout: 'nftables v1.1\n' }))).toBe('nftables');
});

test('userspace asks the machine for nothing', async () => {
  const none: Exec = { run: () => Promise.reject(new Error('nothing is to be run')) };
  expect(await chooseMode('userspace', CONFIG, none)).toBe('userspace');
});

test('a missing tool is said with the package that has it, and auto goes on to iptables', async () => {
  const without = machine({ exitCode: -1, notFound: true });
  await expect(chooseMode('nftables', CONFIG, without)).rejects.toMatchObject({
    code: 'nft-missing',
    message: 'nft is not on this machine; install it: apt-get install nftables.',
  });
  await expect(chooseMode('iptables', CONFIG, without)).rejects.toMatchObject({
    code: 'iptables-missing',
    message: 'iptables is not on this machine; install it: apt-get install iptables.',
  });
  await expect(chooseMode('auto', CONFIG, without)).rejects.toThrow(
    /apt-get install nftables.*apt-get install iptables/,
  );
  const notices: string[] = [];
  expect(await chooseMode('auto', CONFIG, new FakeIptables(), (notice) => notices.push(notice))).toBe('iptables');
  expect(notices).toEqual([expect.stringMatching(/mode auto is iptables.*nft.*apt-get install nftables/)]);
  expect(await chooseMode('iptables', CONFIG, new FakeIptables())).toBe('iptables');
});

test('where a KubeProxyConfiguration names no mode it is iptables, and nftables on a machine without', async () => {
  expect(await chooseMode('kube-proxy-default', CONFIG, new FakeIptables())).toBe('iptables');
  const withoutIptables: Exec = {
    run: async (file, args) =>
      file.startsWith('ip')
        ? { ...OK, exitCode: -1, notFound: true }
        : { ...OK, ...(args[0] === '--version' ? NEW : {}) },
  };
  const notices: string[] = [];
  const mode = await chooseMode('kube-proxy-default', CONFIG, withoutIptables, (notice) => notices.push(notice));
  expect(mode).toBe('nftables');
  expect(notices).toEqual([expect.stringMatching(/mode is nftables.*apt-get install iptables/)]);
  const without = machine({ exitCode: -1, notFound: true });
  await expect(chooseMode('kube-proxy-default', CONFIG, without)).rejects.toMatchObject({ code: 'iptables-missing' });
});

test('an iptables that has no -w for restores is too old', async () => {
  await expect(chooseMode('iptables', CONFIG, machine({ stdout: 'iptables v1.4.21\n' }))).rejects.toMatchObject({
    code: 'iptables-too-old',
    message: 'iptables is iptables v1.4.21; version 1.6.2 or newer is needed.',
  });
});

test.for(['nftables v1.0.0 (Fearless Fosdick #2)', 'nftables v0.9.8 (E.D.S.)', ''])(
  'an nft that says "%s" is too old',
  async (stdout) => {
    await expect(chooseMode('nftables', CONFIG, machine({ stdout }))).rejects.toMatchObject({ code: 'nft-too-old' });
  },
);

test('without the right the mend is root or the capability, in auto too', async () => {
  const unprivileged = machine(
    { stdout: 'v1.8.9' },
    {
      exitCode: 1,
      stderr: 'Error: Could not process rule: Operation not permitted\n',
    },
  );
  for (const mode of ['auto', 'nftables', 'iptables'] as const) {
    await expect(chooseMode(mode, CONFIG, unprivileged)).rejects.toMatchObject({
      code: 'no-privilege',
      message: expect.stringContaining('run as root or with CAP_NET_ADMIN') as unknown,
    });
  }
});

test('a kernel that refuses the rules is quoted', async () => {
  const old = machine(NEW, { exitCode: 1, stderr: 'Error: Could not process rule: Operation not supported\nmore\n' });
  await expect(chooseMode('nftables', CONFIG, old)).rejects.toMatchObject({
    code: 'nft-unsupported',
    message: expect.stringContaining('Operation not supported') as unknown,
  });
});

test.each(['iptables', 'ipvs'] as const)('a start in mode %s looks once at what iptables there is', async (mode) => {
  const kernel = new FakeIpvs();
  let looks = 0;
  const exec: Exec = {
    run: (file, args, options) => {
      if (file.startsWith('iptables') && args.includes('--test')) looks++;
      return kernel.run(file, args, options);
    },
  };
  const clock = new FakeClock();
  const common = { exec, clock, random: () => 0, log: silentLogger, metrics: createMetrics() };
  const plane = await startRulesPlane({ mode, config: CONFIG, ...common, removeOnStop: false });
  plane.update(clusterOf([]).snapshot);
  await clock.advance(100);
  expect(plane.ready).toBe(true);
  expect(looks).toBe(1);
  await plane.stop();
});
