// The connection tracking limits that kube-proxy sets at start (KubeProxyConfiguration `conntrack`): a plan, and its execution.

import type { Exec } from '../../system/exec.ts';
import type { KernelParameters } from '../../system/kernel-parameters.ts';

/** Times in milliseconds. 0 leaves the kernel's value, except for `min`. */
export interface ConntrackSettings {
  readonly maxPerCore: number;
  readonly min: number;
  readonly tcpEstablishedTimeout: number;
  readonly tcpCloseWaitTimeout: number;
  readonly tcpBeLiberal: boolean;
  readonly udpTimeout: number;
  readonly udpStreamTimeout: number;
}

export interface Parameter {
  readonly path: string;
  readonly value: number;
  /** `at-least`: a larger value stays. */
  readonly how: 'exactly' | 'at-least';
}

const NETFILTER = '/proc/sys/net/netfilter';
const HASH_SIZE = '/sys/module/nf_conntrack/parameters/hashsize';
/** A machine with very many cores gets no table of many gigabytes. */
const LARGEST_MAX = 1_048_576;

/** What the settings ask of a machine with so many CPUs, in the order in which it is written. Pure. */
export function planSysctls(settings: ConntrackSettings, cpus: number): readonly Parameter[] {
  const plan: Parameter[] = [];
  const exactly = (name: string, value: number): void =>
    void plan.push({ path: `${NETFILTER}/${name}`, value, how: 'exactly' });
  const max = conntrackMax(settings, cpus);
  if (max > 0) {
    exactly('nf_conntrack_max', max);
    plan.push({ path: HASH_SIZE, value: Math.floor(max / 4), how: 'at-least' });
  }
  const seconds = (ms: number): number => Math.floor(ms / 1000);
  const timeouts = {
    nf_conntrack_tcp_timeout_established: settings.tcpEstablishedTimeout,
    nf_conntrack_tcp_timeout_close_wait: settings.tcpCloseWaitTimeout,
    nf_conntrack_udp_timeout: settings.udpTimeout,
    nf_conntrack_udp_timeout_stream: settings.udpStreamTimeout,
  };
  for (const [name, ms] of Object.entries(timeouts)) if (ms > 0) exactly(name, seconds(ms));
  if (settings.tcpBeLiberal) exactly('nf_conntrack_tcp_be_liberal', 1);
  return plan;
}

function conntrackMax({ maxPerCore, min }: ConntrackSettings, cpus: number): number {
  if (maxPerCore === 0) return min;
  const scaled = Math.min(maxPerCore * cpus, LARGEST_MAX);
  return Math.max(scaled, min);
}

export interface SysctlOutcome {
  /** `nf_conntrack_max 65536 → 131072`, one for each that was changed. */
  readonly changed: readonly string[];
  /** One sentence each, with the mend. */
  readonly problems: readonly string[];
}

export interface SysctlDoors {
  readonly parameters: KernelParameters;
  readonly exec: Exec;
}

const MODPROBE_TIMEOUT_MS = 10_000;

/** Writes what differs. A parameter that has the value already needs no right to write it. */
export async function applySysctls(
  plan: readonly Parameter[],
  { parameters, exec }: SysctlDoors,
): Promise<SysctlOutcome> {
  const changed: string[] = [];
  const problems: string[] = [];
  const [first] = plan;
  if (first && (await parameters.read(first.path)) === undefined) {
    // The directory is there once the module is.
    await exec.run('modprobe', ['nf_conntrack'], { timeoutMs: MODPROBE_TIMEOUT_MS });
  }
  for (const { path, value, how } of plan) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const now = await parameters.read(path);
    if (now === value || (how === 'at-least' && now !== undefined && now > value)) continue;
    if (now === undefined) {
      problems.push(`${path} is not there: load the module nf_conntrack on this machine (modprobe nf_conntrack).`);
      continue;
    }
    const code = await parameters.write(path, value);
    if (code === undefined) changed.push(`${name} ${now} → ${value}`);
    else problems.push(`${name} is ${now} and cannot be set to ${value} (${code}): ${mend(code, path)}.`);
  }
  return { changed, problems };
}

function mend(code: string, path: string): string {
  if (code === 'EROFS' || code === 'EACCES' || code === 'EPERM') {
    return `run \`fairlead proxy --init-only\` once with privileges (an init container with privileged: true), or write it to ${path} on the node`;
  }
  return `set it on the node, or leave the kernel's value by 0 in the configuration (conntrack)`;
}
