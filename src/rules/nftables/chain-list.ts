// Which tables and chains nftables has.

import type { Exec } from '../../system/exec.ts';

/** By table (`ip fairlead`), the names of its chains. */
export type ChainList = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Undefined when it cannot be known. The list of chains has no rules and no elements, and costs the same at any size; the shorter `nft list tables` reads every
 * element first (nft 1.0.6: 0.6 s beside 50,000).
 */
export async function listChains(exec: Exec, timeoutMs: number): Promise<ChainList | undefined> {
  const { exitCode, stdout } = await exec.run('nft', ['list', 'chains'], { timeoutMs });
  return exitCode === 0 ? chainsByTable(stdout) : undefined;
}

/** Whether there is a table of that name, of either IP family. */
export function hasTable(list: ChainList, name: string): boolean {
  return list.has(`ip ${name}`) || list.has(`ip6 ${name}`);
}

function chainsByTable(listing: string): ChainList {
  const tables = new Map<string, Set<string>>();
  let chains = new Set<string>();
  for (const line of listing.split('\n')) {
    const table = /^table (\S+ \S+) \{$/.exec(line)?.[1];
    if (table !== undefined) tables.set(table, (chains = new Set()));
    const chain = /^\tchain (\S+) \{$/.exec(line)?.[1];
    if (chain !== undefined) chains.add(chain);
  }
  return tables;
}
