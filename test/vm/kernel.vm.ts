// What the machine is for: the kernel has what the host's may lack.

import { expect, test } from 'vitest';
import { systemExec } from '../../src/system/exec.ts';

async function run(file: string, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await systemExec.run(file, args);
  expect(`${exitCode} ${stderr}`.trim()).toBe('0');
  return stdout;
}

test('the kernel has IPVS, its schedulers, ipsets, dummy links and SCTP', async () => {
  for (const name of ['ip_vs_rr', 'ip_vs_lc', 'ip_vs_mh', 'ip_set_hash_ipport', 'dummy', 'sctp', 'nf_conntrack']) {
    await run('modprobe', name);
  }
  expect(await run('ipvsadm', '-Ln')).toContain('IP Virtual Server version');
  await run('ipset', 'create', 'try', 'hash:ip,port');
  await run('ipset', 'destroy', 'try');
  expect(await run('nft', 'list', 'ruleset')).toBe('');
  expect(await run('iptables-legacy-save')).toBe('');
});
