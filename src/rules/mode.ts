// Which backend this machine can carry. Asked once at start; what is missing is said with its mend.

import type { Exec, ExecResult } from '../system/exec.ts';
import type { RulesMode } from './backend.ts';
import { configFor, type RulesSettings } from './config.ts';
import { findTool, type IptablesTool } from './iptables/tool.ts';
import { RulesError } from './rules-error.ts';
import { FAMILIES, TABLE } from './nftables/layout.ts';
import { renderTable } from './nftables/render.ts';

/** What `--mode` may say of the backends that exist. */
export type RulesModeSetting = 'auto' | RulesMode;

/** `kube-proxy-default` is for a KubeProxyConfiguration that names no mode: iptables, as its users have it, and nftables on a machine without. */
export type RulesModeChoice = RulesModeSetting | 'kube-proxy-default';

/** The oldest nft that reads what we write (KEP-3866 draws the same line). */
const OLDEST: readonly [number, number, number] = [1, 0, 1];
const CHECK_TIMEOUT_MS = 30_000;

/** A mode that this machine can carry. */
export interface Choice {
  readonly mode: RulesMode;
  /** The iptables programs that were found for a mode that uses them. */
  readonly iptables?: IptablesTool;
}

/** The mode of `choose` alone. */
export async function chooseMode(...args: Parameters<typeof choose>): Promise<RulesMode> {
  return (await choose(...args)).mode;
}

/**
 * The backend for the setting. `auto` is nftables where tool and kernel have it, else iptables, and never ipvs; `notify` is told when it is the second
 * best, and why. Throws RulesError when the setting (or `auto`) cannot be had on this machine.
 */
export async function choose(
  setting: RulesModeChoice,
  config: RulesSettings,
  exec: Exec,
  notify: (notice: string) => void = () => {},
): Promise<Choice> {
  if (setting === 'userspace') return { mode: 'userspace' };
  if (setting === 'ipvs') {
    const { checkIpvs } = await import('./ipvs/tool.ts');
    return { mode: 'ipvs', iptables: await checkIpvs(config, exec) };
  }
  if (setting === 'kube-proxy-default') return chooseAsKubeProxy(config, exec, notify);
  const nftables = setting === 'iptables' ? undefined : await nftablesProblem(config, exec);
  if (setting !== 'iptables') {
    if (nftables === undefined) return { mode: 'nftables' };
    if (setting === 'nftables' || nftables.code === 'no-privilege') throw nftables;
  }
  const iptables = await iptablesOrProblem(config, exec);
  if (!(iptables instanceof RulesError)) {
    if (nftables) notify(`mode auto is iptables on this machine, as nftables cannot be used: ${nftables.message}`);
    return { mode: 'iptables', iptables };
  }
  if (nftables === undefined) throw iptables;
  const last = 'With --mode userspace it works without either.';
  throw new RulesError(nftables.code, `${nftables.message} Nor is iptables there for it: ${iptables.message} ${last}`);
}

async function chooseAsKubeProxy(config: RulesSettings, exec: Exec, notify: (notice: string) => void): Promise<Choice> {
  const iptables = await iptablesOrProblem(config, exec);
  if (!(iptables instanceof RulesError)) return { mode: 'iptables', iptables };
  if (iptables.code === 'no-privilege' || (await nftablesProblem(config, exec)) !== undefined) throw iptables;
  notify(`the mode is nftables on this machine, as iptables cannot be used: ${iptables.message}`);
  return { mode: 'nftables' };
}

/** The iptables programs to use, or why there are none. */
async function iptablesOrProblem(config: RulesSettings, exec: Exec): Promise<IptablesTool | RulesError> {
  try {
    return await findTool(exec, configFor('iptables', config));
  } catch (error) {
    if (error instanceof RulesError) return error;
    throw error;
  }
}

/** Why nftables cannot be used, or undefined: the tool, its version, the right to use it, and everything our tables need. */
export async function nftablesProblem(config: RulesSettings, exec: Exec): Promise<RulesError | undefined> {
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
  const text = FAMILIES.map((family) =>
    renderTable(configFor('nftables', config), family).replace(` ${TABLE} {`, ` ${TABLE}-check {`),
  ).join('');
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
