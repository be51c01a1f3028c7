// Which iptables programs this machine has: the legacy ones and the ones over nf_tables keep their rules in different places,
// and must not both be used.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { RulesConfig } from '../config.ts';
import { RulesError } from '../rules-error.ts';
import { fixedChains } from './layout.ts';
import { renderRestore } from './render.ts';

/** What stands between `iptables` and `-restore`. Empty: whichever the machine has made its own. */
export type Variant = '' | '-nft' | '-legacy';

export interface IptablesTool {
  readonly variant: Variant;
  /** As its version says: over ip_tables, not nf_tables. */
  readonly legacy: boolean;
  readonly version: string;
  /** A machine without IPv6 has no ip6tables. */
  readonly families: readonly IpFamily[];
}

/** The first that takes `-w` in `iptables-restore` and knows `--random-fully`. */
const OLDEST: readonly [number, number, number] = [1, 6, 2];
const TIMEOUT_MS = 30_000;
/** kubelet makes these to show which of the two it uses (KEP-3178); kubelets before 1.24 the second only. */
const HINT = /^:KUBE-(IPTABLES-HINT|KUBELET-CANARY) /m;

export function programOf(family: IpFamily, variant: Variant, what: '' | '-save' | '-restore'): string {
  return `${family === 4 ? 'iptables' : 'ip6tables'}${variant}${what}`;
}

/** The programs to use. Throws RulesError when there are none, or they cannot be used. */
export async function findTool(exec: Exec, config: RulesConfig): Promise<IptablesTool> {
  const variant = await variantInUse(exec);
  const said = await exec.run(programOf(4, variant, ''), ['--version'], { timeoutMs: TIMEOUT_MS });
  if (said.notFound) {
    throw new RulesError('iptables-missing', 'iptables is not on this machine; install it: apt-get install iptables.');
  }
  const version = /v([0-9]+)\.([0-9]+)\.([0-9]+)/.exec(said.stdout);
  if (!version || isOlder(version.slice(1).map(Number))) {
    const have = said.stdout.trim() || 'an unknown version';
    throw new RulesError('iptables-too-old', `iptables is ${have}; version ${OLDEST.join('.')} or newer is needed.`);
  }
  const four = await problemOf(exec, config, 4, variant);
  if (four) throw four;
  const six = await problemOf(exec, config, 6, variant);
  return {
    variant,
    legacy: !said.stdout.includes('nf_tables'),
    version: version[0],
    families: six === undefined ? [4, 6] : [4],
  };
}

async function variantInUse(exec: Exec): Promise<Variant> {
  const legacyTables = await exec.run('cat', ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names']);
  for (const variant of ['-nft', '-legacy'] as const) {
    // Asking for a table that is not there would make it.
    if (variant === '-legacy' && !legacyTables.stdout.includes('mangle')) continue;
    for (const family of [4, 6] as const) {
      const saved = await exec.run(programOf(family, variant, '-save'), ['-t', 'mangle'], { timeoutMs: TIMEOUT_MS });
      if (HINT.test(saved.stdout)) return variant;
    }
  }
  return '';
}

/** Has the tool check the chains that are always there, without writing them. */
async function problemOf(
  exec: Exec,
  config: RulesConfig,
  family: IpFamily,
  variant: Variant,
): Promise<RulesError | undefined> {
  const chains = [...fixedChains(config, family, { dropInvalid: true })];
  const changes = chains.map(([id, after]) => ({ id, before: undefined, after }));
  const input = renderRestore({ changes, jumps: [], guard: undefined });
  const program = programOf(family, variant, '-restore');
  const check = await exec.run(program, ['--test', '--noflush', '-w', '5'], { input, timeoutMs: TIMEOUT_MS });
  return check.exitCode === 0 ? undefined : problemFrom(program, check);
}

function problemFrom(program: string, check: ExecResult): RulesError {
  if (/Permission denied|Operation not permitted|you must be root/i.test(check.stderr)) {
    return new RulesError(
      'no-privilege',
      'No right to program iptables; run as root or with CAP_NET_ADMIN and CAP_NET_RAW, or use --mode userspace.',
    );
  }
  const said = check.timedOut ? 'no answer in time' : check.stderr.trim().split('\n', 1)[0];
  return new RulesError('iptables-unsupported', `${program} does not take our rules: ${said ?? ''}.`);
}

function isOlder(numbers: readonly number[]): boolean {
  for (const [index, least] of OLDEST.entries()) {
    const have = numbers[index] ?? -1;
    if (have !== least) return have < least;
  }
  return false;
}
