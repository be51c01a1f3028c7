// What needs privileges once, at start, and what `--init-only` does alone: the connection tracking limits, and the OOM score.

import { cpus } from 'node:os';
import { applySysctls, planSysctls } from '../../rules/conntrack/sysctls.ts';
import { systemKernelParameters } from '../../system/kernel-parameters.ts';
import type { Context } from '../context.ts';
import type { KubeProxyConfiguration } from './schema.ts';

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
