import { expect, test } from 'vitest';
import type { Exec, ExecResult } from '../system/exec.ts';
import { lookForLeftovers } from './leftovers.ts';

const DEV = 'Inter-|   Receive  |  Transmit\n face |bytes\n    lo:       0\n  eth0:       0\n';
const result = (exitCode: number, stdout = ''): ExecResult => ({
  exitCode,
  stdout,
  stderr: '',
  notFound: exitCode === -1,
  timedOut: false,
});

/** A machine on which these tools say that; all others are missing. */
function machine(says: Readonly<Record<string, string | number>>): Exec {
  return {
    run: async (file) => {
      const said = says[file] ?? -1;
      return typeof said === 'string' ? result(0, said) : result(said);
    },
  };
}

test('a machine on which nobody was has nothing to take out', async () => {
  const left = await lookForLeftovers(machine({ nft: 'table inet filter {\n\tchain input {\n', cat: DEV, ipset: '' }));
  expect([left.hasTable('kube-proxy'), left.hasRulesOf(''), left.hasIpvs]).toEqual([false, false, false]);
});

test('tables, rules of either iptables, the link and the sets are seen', async () => {
  const nft = await lookForLeftovers(
    machine({ nft: 'table ip kube-proxy {\n}\ntable ip6 nat {\n}\n', cat: DEV, ipset: '' }),
  );
  expect([nft.hasTable('kube-proxy'), nft.hasTable('proxy'), nft.hasTable('fairlead')]).toEqual([true, false, false]);
  expect([nft.hasRulesOf('-nft'), nft.hasRulesOf('-legacy'), nft.hasRulesOf('')]).toEqual([true, false, true]);
  const legacy = await lookForLeftovers(machine({ nft: '', cat: `nat\n${DEV}`, ipset: '' }));
  expect([legacy.hasRulesOf('-nft'), legacy.hasRulesOf('-legacy'), legacy.hasRulesOf('')]).toEqual([false, true, true]);
  const link = await lookForLeftovers(machine({ nft: '', cat: `${DEV}kube-ipvs0:       0\n`, ipset: '' }));
  expect(link.hasIpvs).toBe(true);
  const sets = await lookForLeftovers(machine({ nft: '', cat: DEV, ipset: 'other\nKUBE-CLUSTER-IP\n' }));
  expect(sets.hasIpvs).toBe(true);
});

test('what cannot be known counts as there', async () => {
  const left = await lookForLeftovers(machine({ nft: 1, cat: 1, ipset: 1 }));
  const seen = [left.hasTable('kube-proxy'), left.hasRulesOf('-nft'), left.hasRulesOf('-legacy'), left.hasIpvs];
  expect(seen).toEqual([true, true, true, true]);
});
