// A kernel from which a module is kept away: what IPVS mode says at its start, and that it is there again once the module may be loaded.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { chooseMode } from '../../src/rules/mode.ts';
import { systemExec } from '../../src/system/exec.ts';
import { CONFIG } from '../rules/cluster.ts';
import { runFairlead } from '../support/process.ts';
import { until } from '../support/until.ts';

const BLOCK = '/run/modprobe.d/blocked.conf';

/** From now on the module cannot be loaded; nor are those loaded whose name begins with `prefix`. */
async function keepAway(module: string, prefix: string): Promise<void> {
  mkdirSync(dirname(BLOCK), { recursive: true });
  writeFileSync(BLOCK, `install ${module} /bin/false\n`);
  // Modules that others need go after those; a namespace that was just removed may hold one for a moment.
  await until(async () => {
    const loaded = (await systemExec.run('lsmod', [])).stdout.split('\n').map((line) => line.split(' ')[0] ?? '');
    const names = loaded.filter((name) => name.startsWith(prefix));
    if (names.length === 0) return true;
    await systemExec.run('rmmod', names);
    return false;
  });
}

afterEach(() => rmSync(BLOCK, { force: true }));

describe('IPVS mode says what the kernel lacks, with the mend', () => {
  test.each([
    ['ip_vs', 'ip_vs', /no IPVS.*modprobe ip_vs.*--mode nftables/],
    ['ip_vs_rr', 'ip_vs_rr', /scheduler "rr"/],
    ['dummy', 'dummy', /dummy/],
  ])('%s', async (module, prefix, message) => {
    const settings = { ...CONFIG, nodePortAddresses: 'by-mode' } as const;
    await keepAway(module, prefix);
    await expect(chooseMode('ipvs', settings, systemExec)).rejects.toThrow(message);
    rmSync(BLOCK, { force: true });
    expect(await chooseMode('ipvs', settings, systemExec)).toBe('ipvs');
  });

  test('on the command line it ends with code 2', async () => {
    await keepAway('ip_vs', 'ip_vs');
    const ports = ['--metrics-bind-address=127.0.0.1:0', '--healthz-bind-address=127.0.0.1:0'];
    const words = ['proxy', '--mode=ipvs', '--manifests=deploy/examples/cafe', ...ports];
    expect(await runFairlead(words)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/modprobe ip_vs/) as unknown,
    });
  });
});
