// Takes everything of ours out of this machine's kernel, whichever backend put it there.

import type { Exec } from '../system/exec.ts';
import type { CleanupOutcome } from './backend.ts';
import { removeTables } from './nftables/apply.ts';

/** Says what was removed and what could not be. Where nothing of ours is, or no tool to put it there, both are empty. */
export function cleanupRules(options: { readonly exec: Exec }): Promise<CleanupOutcome> {
  return removeTables(options.exec);
}
