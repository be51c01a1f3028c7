// Which backend this machine can carry. Asked once at start; what is missing is said with its mend.

import type { Exec, ExecResult } from '../system/exec.ts';
import type { RulesMode } from './backend.ts';
import type { RulesConfig } from './config.ts';
import { RulesError } from './rules-error.ts';
import { FAMILIES, TABLE } from './nftables/layout.ts';
import { renderTable } from './nftables/render.ts';

/** What `--mode` may say of the backends that exist. */
export type RulesModeSetting = 'auto' | RulesMode;

/** The oldest nft that reads what we write (KEP-3866 draws the same line). */
const OLDEST: readonly [number, number, number] = [1, 0, 1];
const CHECK_TIMEOUT_MS = 10_000;

/**
 * The backend for the setting. `auto` is nftables where tool and kernel have it. Throws RulesError when the setting (or
 * `auto`) cannot be had on this machine.
 */
export async function chooseMode(setting: RulesModeSetting, config: RulesConfig, exec: Exec): Promise<RulesMode> {
  if (setting === 'userspace') return 'userspace';
  const problem = await nftablesProblem(config, exec);
  if (problem === undefined) return 'nftables';
  if (setting === 'nftables' || problem.code === 'no-privilege') throw problem;
  const next =
    'The next choice of --mode auto is iptables, which is not built yet; --mode userspace works without the kernel.';
  throw new RulesError(problem.code, `${problem.message} ${next}`);
}

/** Why nftables cannot be used, or undefined: the tool, its version, the right to use it, and everything our tables need. */
export async function nftablesProblem(config: RulesConfig, exec: Exec): Promise<RulesError | undefined> {
  const version = await exec.run('nft', ['--version'], { timeoutMs: CHECK_TIMEOUT_MS });
  if (version.notFound) {
    return new RulesError('nft-missing', 'nft is not on this machine; install it: apt-get install nftables.');
  }
  const found = /v([0-9]+)\.([0-9]+)(?:\.([0-9]+))?/.exec(version.stdout);
  const numbers = found ? [found[1], found[2], found[3]].map((part) => Number(part ?? 0)) : [];
  if (isOlder(numbers)) {
    const have = version.stdout.trim() || 'an unknown version';
    return new RulesError('nft-too-old', `nft is ${have}; version ${OLDEST.join('.')} or newer is needed.`);
  }
  // The tables as they would be made, under another name, checked and not committed.
  const text = FAMILIES.map((family) => renderTable(config, family).replace(` ${TABLE} {`, ` ${TABLE}-check {`)).join(
    '',
  );
  const check = await exec.run('nft', ['-c', '-f', '-'], { input: text, timeoutMs: CHECK_TIMEOUT_MS });
  return check.exitCode === 0 ? undefined : checkProblem(check);
}

function checkProblem(check: ExecResult): RulesError {
  if (/Operation not permitted|you must be root/i.test(check.stderr)) {
    return new RulesError(
      'no-privilege',
      'No right to program nftables; run as root or with CAP_NET_ADMIN, or use --mode userspace.',
    );
  }
  const said = check.timedOut ? 'no answer in time' : check.stderr.trim().split('\n', 1)[0];
  return new RulesError(
    'nft-unsupported',
    `This kernel does not take our nftables rules (5.13 or newer is needed): ${said ?? ''}.`,
  );
}

function isOlder(numbers: readonly number[]): boolean {
  for (const [index, least] of OLDEST.entries()) {
    const have = numbers[index] ?? -1;
    if (have !== least) return have < least;
  }
  return false;
}
