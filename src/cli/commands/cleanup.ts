// `fairlead cleanup`: takes everything of ours out of the kernel.

import { cleanupRules } from '../../rules/cleanup.ts';
import type { Arguments } from '../args.ts';
import { createContext } from '../context.ts';
import { CommandError, EXIT_STOPPED } from '../errors.ts';
import { excludedByFlag } from '../settings.ts';

/** `excludeCIDRs`: where virtual servers are those of others; as the flag says when it is not given. */
export async function cleanup(args: Arguments, excludeCIDRs = excludedByFlag(args)): Promise<number> {
  const context = createContext(args);
  const { removed, problems } = await cleanupRules(context, { excludeCIDRs });
  for (const what of removed) context.out(`removed ${what}\n`);
  if (problems.length > 0) throw new CommandError(problems.join('\n'));
  if (removed.length === 0) context.out('nothing of fairlead is in the kernel\n');
  return EXIT_STOPPED;
}
