// `fairlead cleanup`: takes everything of ours out of the kernel.

import { parseCidr, type Cidr } from '../../lib/cidr.ts';
import { cleanupRules } from '../../rules/cleanup.ts';
import type { Arguments } from '../args.ts';
import { createContext } from '../context.ts';
import { CommandError, EXIT_STOPPED, UsageError } from '../errors.ts';

/** `excludeCIDRs`: where virtual servers are those of others; as the flag says when it is not given. */
export async function cleanup(args: Arguments, excludeCIDRs = excludedByFlag(args)): Promise<number> {
  const context = createContext(args);
  const { removed, problems } = await cleanupRules(context, { excludeCIDRs });
  for (const what of removed) context.out(`removed ${what}\n`);
  if (problems.length > 0) throw new CommandError(problems.join('\n'));
  if (removed.length === 0) context.out('nothing of fairlead is in the kernel\n');
  return EXIT_STOPPED;
}

function excludedByFlag(args: Arguments): readonly Cidr[] {
  return (args.list('ipvs-exclude-cidrs') ?? []).map((word) => {
    const range = parseCidr(word);
    if (!range)
      throw new UsageError(`flag --ipvs-exclude-cidrs: "${word}" is no address range; write it as 192.168.0.0/16`);
    return range;
  });
}
