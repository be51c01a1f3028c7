// Whether this machine can carry the IPVS mode: the tools, the kernel's modules, the scheduler. Asked once at start; what is missing is said
// with its mend.

import type { Exec, ExecResult } from '../../system/exec.ts';
import { configFor, type RulesSettings } from '../config.ts';
import { findTool, type IptablesTool } from '../iptables/tool.ts';
import { RulesError } from '../rules-error.ts';
import { SETS } from './names.ts';
import { createSet, schedulerOf } from './render.ts';

const TIMEOUT_MS = 30_000;
const TOOLS = [
  ['ipvsadm', 'ipvsadm'],
  ['ipset', 'ipset'],
  ['ip', 'iproute2'],
] as const;
/** From the documentation of the kernel (Documentation/networking/ipvs, net/netfilter/ipvs/Kconfig). */
const SCHEDULERS = 'rr, wrr, lc, wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf';
/** A place of RFC 5737 where no Service is; kube-proxy asks there, too. */
const PROBE = ['-t', '198.51.100.0:20000'] as const;
const CHECK_NAME = 'fairlead-check';

/** The iptables programs for it. Throws RulesError where IPVS cannot be used. */
export async function checkIpvs(config: RulesSettings, exec: Exec): Promise<IptablesTool> {
  for (const [tool, name] of TOOLS) {
    const version = await exec.run(tool, [tool === 'ip' ? '-V' : '--version'], { timeoutMs: TIMEOUT_MS });
    if (version.notFound) {
      throw new RulesError('ipvs-missing', `${tool} is not on this machine; install it: apt-get install ${name}.`);
    }
  }
  const iptables = await findTool(exec, configFor('ipvs', config));
  await checkKernel(exec);
  await checkScheduler(exec, schedulerOf(config.ipvs.scheduler));
  await checkSets(exec);
  await checkLink(exec);
  return iptables;
}

async function checkKernel(exec: Exec): Promise<void> {
  if ((await run(exec, 'cat', ['/proc/net/ip_vs_stats'])).exitCode === 0) return;
  await run(exec, 'modprobe', ['ip_vs']);
  if ((await run(exec, 'cat', ['/proc/net/ip_vs_stats'])).exitCode === 0) return;
  throw new RulesError(
    'ipvs-unsupported',
    'This kernel has no IPVS, and its module ip_vs cannot be loaded: load it on the node (modprobe ip_vs), or use --mode nftables.',
  );
}

async function checkScheduler(exec: Exec, scheduler: string): Promise<void> {
  const added = await run(exec, 'ipvsadm', ['-A', ...PROBE, '-s', scheduler]);
  const isLeftover = /already exists/.test(added.stderr);
  const result = isLeftover ? await run(exec, 'ipvsadm', ['-E', ...PROBE, '-s', scheduler]) : added;
  if (result.exitCode === 0) {
    await run(exec, 'ipvsadm', ['-D', ...PROBE]);
    return;
  }
  if (/scheduler|illegal/i.test(result.stderr)) {
    throw new RulesError(
      'ipvs-scheduler',
      `This kernel has no IPVS scheduler "${scheduler}" (ipvs.scheduler, --ipvs-scheduler): load its module on the node (modprobe ip_vs_${scheduler}), or choose one of ${SCHEDULERS}.`,
    );
  }
  throw problemFrom('ipvsadm', result);
}

/** Makes one set of each type and takes it away again. */
async function checkSets(exec: Exec): Promise<void> {
  const types = [...new Set(Object.values(SETS))];
  const set = (type: (typeof types)[number]): string =>
    createSet({ name: CHECK_NAME, base: 'IPVS-IPS', family: 4, type }, 1024);
  const input = types.map((type) => `${set(type)}destroy ${CHECK_NAME}\n`).join('');
  await run(exec, 'ipset', ['-exist', 'destroy', CHECK_NAME]);
  const result = await exec.run('ipset', ['restore'], { input, timeoutMs: TIMEOUT_MS });
  if (result.exitCode === 0) return;
  throw problemFrom('ipset', result, 'load the modules ip_set, ip_set_hash_ip, ip_set_hash_ipport, … on the node');
}

async function checkLink(exec: Exec): Promise<void> {
  const added = await run(exec, 'ip', ['link', 'add', CHECK_NAME, 'type', 'dummy']);
  if (added.exitCode !== 0 && !/File exists/.test(added.stderr)) {
    throw problemFrom('ip link add type dummy', added, 'load the module on the node (modprobe dummy)');
  }
  await run(exec, 'ip', ['link', 'delete', CHECK_NAME]);
}

function run(exec: Exec, file: string, args: readonly string[]): Promise<ExecResult> {
  return exec.run(file, args, { timeoutMs: TIMEOUT_MS });
}

function problemFrom(tool: string, result: ExecResult, mend?: string): RulesError {
  if (/Permission denied|Operation not permitted|must be root/i.test(result.stderr)) {
    return new RulesError(
      'no-privilege',
      'No right to program IPVS; run as root or with CAP_NET_ADMIN and CAP_NET_RAW.',
    );
  }
  const said = result.timedOut ? 'no answer in time' : result.stderr.trim().split('\n', 1)[0];
  const way = mend === undefined ? '' : `: ${mend}, or use --mode nftables`;
  return new RulesError('ipvs-unsupported', `${tool} cannot do what the IPVS mode needs (${said ?? ''})${way}.`);
}
