// One look at what other modes, or kube-proxy in any mode, may have left in the kernel: taking it out asks a dozen tools, most of which would find nothing.

import type { Exec } from '../system/exec.ts';
import type { Variant } from './iptables/tool.ts';
import { KNOWN_SETS, LINK } from './ipvs/names.ts';
import { hasTable, listChains } from './nftables/chain-list.ts';

export interface Leftovers {
  /** Whether nftables may have a table of the name with chains, in either family. */
  hasTable(name: string): boolean;
  /** Whether these programs may keep rules: the others' chains are among them, if there are any. */
  hasRulesOf(variant: Variant): boolean;
  /** Whether the link or a set of the IPVS mode may be there. */
  readonly hasIpvs: boolean;
}

const TIMEOUT_MS = 30_000;
/** Which tables the legacy programs made, in each family; a file is absent while the kernel has no such tables. And the links of this network namespace. */
const PROC_FILES = ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names', '/proc/net/dev'];
/** The first words of /proc/net/dev. */
const LINKS_BEGIN = 'Inter-|';
/** The tables that iptables over nf_tables makes. */
const IPTABLES_TABLES = ['filter', 'nat', 'mangle', 'raw', 'security'];

/** What cannot be known counts as there. */
export async function lookForLeftovers(exec: Exec): Promise<Leftovers> {
  const chains = await listChains(exec, TIMEOUT_MS);
  const { stdout: read } = await exec.run('cat', PROC_FILES, { timeoutMs: TIMEOUT_MS });
  const linksAt = read.indexOf(LINKS_BEGIN);
  const legacy = linksAt < 0 || read.slice(0, linksAt).trim() !== '';
  const overNft = !chains || IPTABLES_TABLES.some((name) => hasTable(chains, name));
  const sets = await exec.run('ipset', ['list', '-name'], { timeoutMs: TIMEOUT_MS });
  const hasSets = sets.stdout.split('\n').some((name) => KNOWN_SETS.has(name));
  return {
    hasTable: (name) => !chains || hasTable(chains, name),
    hasRulesOf: (variant) => {
      switch (variant) {
        case '-nft':
          return overNft;
        case '-legacy':
          return legacy;
        case '':
          return overNft || legacy;
      }
    },
    hasIpvs: linksAt < 0 || new RegExp(`^\\s*${LINK}:`, 'm').test(read.slice(linksAt)) || hasSets,
  };
}
