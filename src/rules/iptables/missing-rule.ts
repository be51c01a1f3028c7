// Whether rules are there, asked for in one process a family that lists nothing.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec } from '../../system/exec.ts';
import { programOf, type IptablesTool } from './tool.ts';

const TIMEOUT_MS = 30_000;

/** The first of the lines (`-C CHAIN RULE`, `-S CHAIN`) that is not there, as `IPvN: CHAIN RULE`; undefined when all are. */
export async function missingRule(
  exec: Exec,
  { families, variant, legacy }: IptablesTool,
  linesOf: (family: IpFamily) => string,
): Promise<string | undefined> {
  for (const family of families) {
    const program = programOf(family, variant, '-restore');
    // Over nf_tables `--test` would not look; there is nothing to commit in either.
    const args = ['-w', '5', '--noflush', ...(legacy ? ['--test'] : [])];
    const input = linesOf(family);
    const result = await exec.run(program, args, { input, timeoutMs: TIMEOUT_MS });
    if (result.exitCode === 1 || result.exitCode === 2) {
      const line = Number(/line:? ([0-9]+)/i.exec(result.stderr)?.[1]);
      return `IPv${family}: ${input.split('\n')[line - 1]?.slice(3) ?? result.stderr.trim()}`;
    }
  }
  return undefined;
}
