// `fairlead cleanup`: takes everything of ours out of the kernel.

import { cleanupRules } from '../../rules/cleanup.ts';
import type { Arguments } from '../args.ts';
import { createContext } from '../context.ts';
import { CommandError, EXIT_STOPPED } from '../errors.ts';

export async function cleanup(args: Arguments): Promise<number> {
  const context = createContext(args);
  const { removed, problems } = await cleanupRules(context);
  for (const what of removed) context.out(`removed ${what}\n`);
  if (problems.length > 0) throw new CommandError(problems.join('\n'));
  if (removed.length === 0) context.out('nothing of fairlead is in the kernel\n');
  return EXIT_STOPPED;
}
