// `fairlead completion SHELL`: a script for the shell, on standard output.

import type { Arguments } from '../args.ts';
import { SHELLS, completionScript } from '../completion.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';

export function completion({ operands }: Arguments): number {
  const [word, ...rest] = operands;
  const shell = SHELLS.find((each) => each === word);
  if (!shell || rest.length > 0) {
    throw new UsageError(
      `usage: fairlead completion ${SHELLS.join('|')}; for bash: source <(fairlead completion bash)`,
    );
  }
  process.stdout.write(completionScript(shell));
  return EXIT_STOPPED;
}
