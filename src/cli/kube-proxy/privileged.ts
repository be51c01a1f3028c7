// What needs privileges once, at start, and what `--init-only` does alone: the connection tracking limits, and NodePorts on loopback.

import { cpus } from 'node:os';
import { applySysctls, planSysctls } from '../../rules/conntrack/sysctls.ts';
import type { RulesMode } from '../../rules/backend.ts';
import { configFor, type RulesSettings } from '../../rules/config.ts';
import { prepareLoopback } from '../../rules/iptables/loopback.ts';
import { chooseMode } from '../../rules/mode.ts';
import { RulesError } from '../../rules/rules-error.ts';
import { systemKernelParameters } from '../../system/kernel-parameters.ts';
import type { Context } from '../context.ts';
import type { KubeProxyConfiguration } from './schema.ts';
import { modeOf, rulesConfigOf, type Origin } from './settings.ts';

/** Sets the limits, and returns what could not be set, one sentence each. */
export async function setConntrackLimits(
  { conntrack }: KubeProxyConfiguration,
  { exec, log }: Context,
): Promise<readonly string[]> {
  const plan = planSysctls(conntrack, cpus().length);
  const { changed, problems } = await applySysctls(plan, { parameters: systemKernelParameters, exec });
  if (changed.length > 0) log.info('conntrack limits set', { changed: changed.join(', ') });
  return problems;
}

/**
 * The mode of the configuration, when this machine can carry it: nothing is to be changed before. Undefined where the mode has no steps of its
 * own here, so that any machine will do. Throws RulesError.
 */
export async function possibleMode(
  configuration: KubeProxyConfiguration,
  origin: Origin,
  { exec, log }: Context,
): Promise<RulesMode | undefined> {
  const wanted = modeOf(configuration, origin);
  if (wanted === 'auto' || wanted === 'userspace') return undefined;
  return chooseMode(wanted, settingsOf(configuration, origin), exec, (notice) => log.warn(notice));
}

/** NodePorts on 127.0.0.1 for the iptables mode, where the configuration wants them. Returns what could not be done. */
export async function openLoopback(
  configuration: KubeProxyConfiguration,
  origin: Origin,
  { exec, log }: Context,
): Promise<readonly string[]> {
  try {
    const problem = await prepareLoopback(exec, configFor('iptables', settingsOf(configuration, origin)));
    if (problem === undefined) log.info('NodePorts may answer on 127.0.0.1');
    return problem === undefined ? [] : [`NodePorts will not answer on 127.0.0.1: ${problem}`];
  } catch (error) {
    if (error instanceof RulesError) return [error.message];
    throw error;
  }
}

function settingsOf(configuration: KubeProxyConfiguration, origin: Origin): RulesSettings {
  return rulesConfigOf(configuration, origin, { name: '', ips: [], zone: undefined, podCIDRs: [] });
}

/** Sets what the IPVS mode needs, and returns what could not be set. The rules set it themselves where they may. */
export async function setIpvsParameters(
  { ipvs }: KubeProxyConfiguration,
  { exec, log }: Context,
): Promise<readonly string[]> {
  await exec.run('modprobe', ['ip_vs']);
  const { setParameters } = await import('../../rules/ipvs/sysctls.ts');
  const { changed, problems } = await setParameters(exec, ipvs);
  if (changed.length > 0) log.info('kernel parameters set', { changed: changed.join(', ') });
  return problems.map(({ text }) => text);
}

/** As kube-proxy, without a word when it may not: it is a help in need, no condition. */
export async function setOomScore({ oomScoreAdj }: KubeProxyConfiguration, { log }: Context): Promise<void> {
  const code = await systemKernelParameters.write('/proc/self/oom_score_adj', oomScoreAdj);
  if (code !== undefined) log.debug('oom_score_adj stays as it is', { wanted: oomScoreAdj, code });
}
