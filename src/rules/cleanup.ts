// Takes everything of ours out of this machine's kernel, whichever backend put it there.

import type { Exec } from '../system/exec.ts';
import type { CleanupOutcome } from './backend.ts';
import { all } from './cleanup-outcome.ts';
import type { IpvsConfig } from './config.ts';
import { removeAll as removeIpvs } from './ipvs/remove.ts';
import { removeTables } from './nftables/apply.ts';
import { removeCatching } from './userspace/catcher.ts';

/**
 * Says what was removed and what could not be. Where nothing of ours is, or no tool to put it there, both are empty. `excludeCIDRs`: in these ranges virtual
 * servers are those of others.
 */
export async function cleanupRules(
  { exec }: { readonly exec: Exec },
  { excludeCIDRs }: Pick<IpvsConfig, 'excludeCIDRs'> = { excludeCIDRs: [] },
): Promise<CleanupOutcome> {
  return all([
    await removeTables(exec),
    // With the chains of either mode.
    await removeIpvs(exec, { excludeCIDRs }),
    await removeCatching(exec),
  ]);
}
