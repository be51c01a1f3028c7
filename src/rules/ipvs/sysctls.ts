// Kernel parameters that the IPVS mode needs, as kube-proxy sets them. They belong to a network namespace, so they are set by a child of
// the same one as the rules.

import type { Exec } from '../../system/exec.ts';
import type { IpvsConfig } from '../config.ts';

export interface Parameter {
  /** Below /proc/sys. */
  readonly path: string;
  readonly value: number;
  /** Without it Services do not work; the others only make some cases better. */
  readonly needed: boolean;
}

export interface ParametersOutcome {
  /** `net/ipv4/ip_forward 0 → 1`. */
  readonly changed: readonly string[];
  /** What could not be set, each with its mend. */
  readonly problems: readonly { readonly text: string; readonly needed: boolean }[];
}

/** `release`: as `uname -r` says it. `wasStrict`: strictARP was on before, and is taken back when it is off now. */
export function planParameters(
  { strictARP }: Pick<IpvsConfig, 'strictARP'>,
  release: string,
  wasStrict = false,
): readonly Parameter[] {
  const [major = 0, minor = 0] = release.split('.').map(Number);
  const version = major * 1000 + minor;
  return [
    // IPVS tells conntrack what it translates: masquerading and the rules for established connections build on it.
    { path: 'net/ipv4/vs/conntrack', value: 1, needed: true },
    { path: 'net/ipv4/ip_forward', value: 1, needed: true },
    // From 4.1 to 5.8 a reused port costs a second's delay, or reaches a real server that is to go (kubernetes#81775, #93297).
    ...(version >= 4001 && version < 5009 ? [{ path: 'net/ipv4/vs/conn_reuse_mode', value: 0, needed: false }] : []),
    { path: 'net/ipv4/vs/expire_nodest_conn', value: 1, needed: false },
    { path: 'net/ipv4/vs/expire_quiescent_template', value: 1, needed: false },
    ...(strictARP || wasStrict
      ? [
          { path: 'net/ipv4/conf/all/arp_ignore', value: strictARP ? 1 : 0, needed: false },
          { path: 'net/ipv4/conf/all/arp_announce', value: strictARP ? 2 : 0, needed: false },
        ]
      : []),
  ];
}

/** Sets what differs. */
export async function setParameters(
  exec: Exec,
  config: Pick<IpvsConfig, 'strictARP'>,
  wasStrict = false,
): Promise<ParametersOutcome> {
  const release = (await exec.run('uname', ['-r'])).stdout;
  const plan = planParameters(config, release, wasStrict);
  // One process for all: each line is the path, the value before, and the value after.
  const words = plan.flatMap(({ path, value }) => [path, String(value)]);
  const result = await exec.run('sh', ['-c', SCRIPT, 'sh', ...words]);
  const changed: string[] = [];
  const problems: { text: string; needed: boolean }[] = [];
  for (const [index, { path, value, needed }] of plan.entries()) {
    const [before = '', after = ''] = (result.stdout.split('\n')[index] ?? '').split(' ');
    const name = path.replaceAll('/', '.');
    if (after !== String(value)) {
      problems.push({ text: after === '' ? missing(name, path) : fixed(name, after, value), needed });
    } else if (before !== after) changed.push(`${name} ${before} → ${after}`);
  }
  return { changed, problems };
}

function missing(name: string, path: string): string {
  const mend = path.includes('/vs/') ? ': load the module ip_vs on the node (modprobe ip_vs)' : '';
  return `${name} is not there${mend}`;
}

function fixed(name: string, now: string, value: number): string {
  return `${name} is ${now} and cannot be set to ${value}: run \`fairlead proxy --init-only\` once with privileges, or set it on the node (sysctl -w ${name}=${value})`;
}

const SCRIPT = `while [ $# -gt 0 ]; do
  f=/proc/sys/$1; b=$(cat $f 2>/dev/null); a=$b
  [ "$b" = "$2" ] || { [ -w $f ] && echo $2 >$f; a=$(cat $f); } 2>/dev/null
  echo "$b $a"; shift 2
done`;
