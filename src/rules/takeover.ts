// What another mode, or kube-proxy in any mode, left in the kernel goes once our rules are in force, and not before: until
// then it serves.

import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Exec, ExecResult } from '../system/exec.ts';
import type { CleanupOutcome, RulesBackend, SyncOutcome } from './backend.ts';
import { all, NOTHING } from './cleanup-outcome.ts';
import { removeChains } from './iptables/remove.ts';
import type { Variant } from './iptables/tool.ts';
import type { IpvsLeftover } from './ipvs/leftover.ts';
import { lookForLeftovers, type Leftovers } from './leftovers.ts';
import { removeTables } from './nftables/apply.ts';
import { KUBE_PROXY_TABLE, TABLE } from './nftables/layout.ts';
import { CATCH_TABLE } from './userspace/catch-rules.ts';
import { removeCatching } from './userspace/catcher.ts';

const TIMEOUT_MS = 60_000;
const MOST_TRIES = 3;

/** The backend, with the others' rules removed after its first sync; what cannot be removed is tried again after the next. */
export function withTakeover(
  backend: RulesBackend,
  removeOthers: () => Promise<CleanupOutcome>,
  log: Logger,
  ipvs?: IpvsLeftover,
): RulesBackend {
  let left = MOST_TRIES;
  return {
    mode: backend.mode,
    sync: async (snapshot: Snapshot): Promise<SyncOutcome> => {
      const outcome = await backend.sync(snapshot);
      if (outcome.kind !== 'applied' || left === 0) return outcome;
      const { removed, problems } = await removeOthers();
      left = problems.length === 0 ? 0 : left - 1;
      for (const problem of problems) log.warn(`rules of another mode stay: ${problem}`);
      if (removed.length > 0) log.info('rules of another mode removed', { what: removed.join(', ') });
      return outcome;
    },
    cleanup: () => backend.cleanup(),
    stop: async () => {
      await ipvs?.stop();
      await backend.stop();
    },
    state: () => backend.state(),
    configure: (config) => backend.configure(config),
    ...(backend.watch ? { watch: backend.watch.bind(backend) } : {}),
    ...(backend.owned ? { owned: backend.owned.bind(backend) } : {}),
  };
}

/** For nftables mode: kube-proxy's tables; the chains of either iptables and IPVS, when nothing goes through it any more. */
export async function removeOthersThanNftables(exec: Exec, ipvs: IpvsLeftover): Promise<CleanupOutcome> {
  const left = await lookForLeftovers(exec);
  return all([
    await removeKubeProxyTables(exec, left),
    await removeCatchingOf(exec, left),
    left.hasIpvs || left.hasRulesOf('') ? await ipvs.remove() : NOTHING,
  ]);
}

/** For iptables mode: our tables and kube-proxy's, the chains of the iptables that is not in use; IPVS as above. */
export async function removeOthersThanIptables(
  exec: Exec,
  inUse: Variant,
  ipvs: IpvsLeftover,
): Promise<CleanupOutcome> {
  const left = await lookForLeftovers(exec);
  // Every chain that only the IPVS mode has asks a set: without sets there is none.
  return all([await removeUnused(exec, inUse, left), left.hasIpvs ? await ipvs.remove() : NOTHING]);
}

/** For IPVS mode: our tables and kube-proxy's, and the chains of the iptables that is not in use. Those of the one in use it writes itself. */
export async function removeOthersThanIpvs(exec: Exec, inUse: Variant): Promise<CleanupOutcome> {
  return removeUnused(exec, inUse, await lookForLeftovers(exec));
}

/** For userspace mode with its own rules in the kernel: those of every other mode; IPVS as above. */
export async function removeOthersThanUserspace(exec: Exec, ipvs: IpvsLeftover): Promise<CleanupOutcome> {
  const left = await lookForLeftovers(exec);
  return all([
    await removeOurTables(exec, left),
    await removeKubeProxyTables(exec, left),
    left.hasIpvs || left.hasRulesOf('') ? await ipvs.remove() : NOTHING,
  ]);
}

/** What the iptables in use does not keep. */
async function removeUnused(exec: Exec, inUse: Variant, left: Leftovers): Promise<CleanupOutcome> {
  return all([
    await removeOurTables(exec, left),
    await removeKubeProxyTables(exec, left),
    hasOtherRules(left, inUse) ? await removeChains(exec, { which: 'all', except: inUse }) : NOTHING,
    await removeCatchingOf(exec, left),
  ]);
}

/** Whether an iptables that is not in use has rules. */
function hasOtherRules(left: Leftovers, inUse: Variant): boolean {
  switch (inUse) {
    case '-nft':
      return left.hasRulesOf('-legacy');
    case '-legacy':
      return left.hasRulesOf('-nft');
    case '':
      return left.hasRulesOf('');
  }
}

async function removeOurTables(exec: Exec, left: Leftovers): Promise<CleanupOutcome> {
  return left.hasTable(TABLE) ? removeTables(exec) : NOTHING;
}

async function removeCatchingOf(exec: Exec, left: Leftovers): Promise<CleanupOutcome> {
  return removeCatching(exec, { tables: left.hasTable(CATCH_TABLE), chains: left.hasRulesOf('') });
}

async function removeKubeProxyTables(exec: Exec, left: Leftovers): Promise<CleanupOutcome> {
  if (!left.hasTable(KUBE_PROXY_TABLE)) return NOTHING;
  const removed: string[] = [];
  const problems: string[] = [];
  for (const ip of ['ip', 'ip6']) {
    const result = await run(exec, 'nft', ['delete', 'table', ip, KUBE_PROXY_TABLE]);
    const name = `nftables table ${ip} ${KUBE_PROXY_TABLE}`;
    if (result.exitCode === 0) removed.push(name);
    else if (!isAbsent(result)) problems.push(`${name}: ${result.stderr.trim()}`);
  }
  return { removed, problems };
}

function run(exec: Exec, file: string, args: readonly string[]): Promise<ExecResult> {
  return exec.run(file, args, { timeoutMs: TIMEOUT_MS });
}

function isAbsent(result: ExecResult): boolean {
  return result.notFound || /No such file or directory/.test(result.stderr);
}
