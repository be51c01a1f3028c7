// Takes the IPVS mode out of the kernel, ours and kube-proxy's, which have the same names. Virtual servers of others stay.

import type { Cidr } from '../../lib/cidr.ts';
import type { Exec } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { ownerOfChains, removeOwnChains } from '../iptables/remove.ts';
import { IpvsKernel, ToolError } from './kernel.ts';
import { KNOWN_SETS, LINK } from './names.ts';
import { isExcluded, isOwnServer } from './ownership.ts';
import { parseServers, parseSets } from './parse.ts';
import { serverWords } from './render.ts';

const TIMEOUT_MS = 60_000;

export interface RemoveIpvsOptions {
  readonly excludeCIDRs?: readonly Cidr[];
}

/** Virtual servers, then the addresses, then the chains, then the sets that they ask; unless kube-proxy has taken them over. */
export async function removeAll(exec: Exec, options: RemoveIpvsOptions = {}): Promise<CleanupOutcome> {
  if ((await ownerOfChains(exec)) === 'kube-proxy') return { removed: [], problems: [] };
  const servers = await removeServers(exec, options);
  const chains = await removeOwnChains(exec);
  const sets = await removeSets(exec);
  return {
    removed: [...servers.removed, ...chains.removed, ...sets.removed],
    problems: [...servers.problems, ...chains.problems, ...sets.problems],
  };
}

/** The virtual servers that are this mode's, and the dummy link. */
export async function removeServers(
  exec: Exec,
  { excludeCIDRs = [] }: RemoveIpvsOptions = {},
): Promise<CleanupOutcome> {
  const removed: string[] = [];
  const problems: string[] = [];
  const kernel = new IpvsKernel(exec);
  try {
    const shown = await exec.run('ip', ['link', 'show', LINK], { timeoutMs: TIMEOUT_MS });
    const sets = parseSets((await exec.run('ipset', ['save'], { timeoutMs: TIMEOUT_MS })).stdout);
    if (shown.exitCode !== 0 && sets.size === 0) return { removed, problems };
    const saved = { addresses: await kernel.addresses(), sets };
    const servers = parseServers(
      (await exec.run('ipvsadm', ['--save', '--numeric'], { timeoutMs: TIMEOUT_MS })).stdout,
    );
    const own = [...servers.keys()].filter((key) => isOwnServer(key, saved, excludeCIDRs));
    await kernel.ipvsadm(own.map((key) => `-D ${serverWords(key)}\n`).join(''));
    if (own.length > 0) removed.push(`${own.length} IPVS virtual servers`);
    if (!saved.addresses.hasLink || [...saved.addresses.ours].some((ip) => isExcluded(ip, excludeCIDRs))) {
      return { removed, problems };
    }
    const gone = await exec.run('ip', ['link', 'delete', LINK], { timeoutMs: TIMEOUT_MS });
    if (gone.exitCode === 0) removed.push(`link ${LINK}`);
    else problems.push(`link ${LINK}: ${gone.stderr.trim()}`);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    problems.push(error.message);
  }
  return { removed, problems };
}

/** Every set of this mode. One that a rule of somebody else asks stays, and is a problem. */
export async function removeSets(exec: Exec): Promise<CleanupOutcome> {
  const problems: string[] = [];
  let count = 0;
  const listed = await exec.run('ipset', ['list', '-name'], { timeoutMs: TIMEOUT_MS });
  const there = listed.stdout.split('\n').filter((name) => KNOWN_SETS.has(name));
  for (let left = there; left.length > 0;) {
    const input = left.map((name) => `destroy ${name}\n`).join('');
    const result = await exec.run('ipset', ['restore'], { input, timeoutMs: TIMEOUT_MS });
    if (result.exitCode === 0) {
      count += left.length;
      break;
    }
    // It stops at the line that failed; the others go on without that one.
    const line = Number(/line ([0-9]+)/.exec(result.stderr)?.[1] ?? 1);
    count += line - 1;
    problems.push(`ipset ${left[line - 1] ?? ''}: ${result.stderr.trim()}`);
    left = left.slice(line);
  }
  return { removed: count === 0 ? [] : [`${count} ipsets`], problems };
}
