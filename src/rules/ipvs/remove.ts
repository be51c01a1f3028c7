// Takes the IPVS mode out of the kernel, ours and kube-proxy's, which have the same names. Virtual servers of others stay.

import type { Cidr } from '../../lib/cidr.ts';
import { ipFamily, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Exec } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { all, NOTHING } from '../cleanup-outcome.ts';
import { FAMILIES } from '../iptables/names.ts';
import { familiesOfKubeProxyIpvs, removeOwnChains } from '../iptables/remove.ts';
import { IpvsKernel, ToolError } from './kernel.ts';
import { KNOWN_SETS, LINK, familyOf, type ServerKey, type SetBase } from './names.ts';
import { isExcluded, isOwnServer } from './ownership.ts';
import { parseServers, parseSets, type SavedAddresses } from './parse.ts';
import { addressLines, serverWords } from './render.ts';

const TIMEOUT_MS = 60_000;

export interface RemoveIpvsOptions {
  readonly excludeCIDRs?: readonly Cidr[];
  /** All where none are named. */
  readonly families?: readonly IpFamily[];
}

/**
 * Virtual servers, then the addresses, then the chains, then the sets that they ask. Of a family that kube-proxy's IPVS mode has taken
 * over only what it does not have: the rest carries its Services.
 */
export async function removeAll(exec: Exec, options: RemoveIpvsOptions = {}): Promise<CleanupOutcome> {
  const theirs = await familiesOfKubeProxyIpvs(exec);
  const families = FAMILIES.filter((family) => !theirs.has(family));
  const servers = families.length === 0 ? NOTHING : await removeServers(exec, { ...options, families });
  return all([servers, await removeOwnChains(exec), await removeSets(exec, theirs)]);
}

/** What is this mode's in IPVS. */
export interface OwnServers {
  readonly addresses: SavedAddresses;
  readonly servers: readonly ServerKey[];
}

/** The virtual servers that are this mode's, and the dummy link; of some families alone, their addresses in place of the link. */
export async function removeServers(
  exec: Exec,
  { excludeCIDRs = [], families = FAMILIES }: RemoveIpvsOptions = {},
): Promise<CleanupOutcome> {
  const kernel = new IpvsKernel(exec);
  try {
    const shown = await exec.run('ip', ['link', 'show', LINK], { timeoutMs: TIMEOUT_MS });
    const sets = parseSets((await exec.run('ipset', ['save'], { timeoutMs: TIMEOUT_MS })).stdout);
    if (shown.exitCode !== 0 && sets.size === 0) return NOTHING;
    const addresses = await kernel.addresses();
    const there = parseServers((await exec.run('ipvsadm', ['--save', '--numeric'], { timeoutMs: TIMEOUT_MS })).stdout);
    const servers = [...there.keys()].filter(
      (key) => families.includes(familyOf(key)) && isOwnServer(key, { addresses, sets }, excludeCIDRs),
    );
    return await removeOwnServers(exec, { addresses, servers }, { excludeCIDRs, families });
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return { removed: [], problems: [error.message] };
  }
}

/** Those that were found, and the link. The servers are gone first. */
export async function removeOwnServers(
  exec: Exec,
  { addresses, servers }: OwnServers,
  { excludeCIDRs = [], families = FAMILIES }: RemoveIpvsOptions = {},
): Promise<CleanupOutcome> {
  const removed: string[] = [];
  try {
    await new IpvsKernel(exec).ipvsadm(servers.map((key) => `-D ${serverWords(key)}\n`).join(''));
    if (servers.length > 0) removed.push(`${servers.length} IPVS virtual servers`);
    if (!addresses.hasLink) return { removed, problems: [] };
    const link = await removeAddresses(exec, addresses.ours, { excludeCIDRs, families });
    return { removed: [...removed, ...link.removed], problems: link.problems };
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return { removed, problems: [error.message] };
  }
}

/** The dummy link; where some of its addresses are to stay, the others. Rejects with ToolError. */
async function removeAddresses(
  exec: Exec,
  held: ReadonlySet<Ip>,
  { excludeCIDRs, families }: Required<RemoveIpvsOptions>,
): Promise<CleanupOutcome> {
  const gone = [...held].filter((ip) => families.includes(ipFamily(ip)) && !isExcluded(ip, excludeCIDRs));
  if (families.length === FAMILIES.length && gone.length === held.size) {
    const { exitCode, stderr } = await exec.run('ip', ['link', 'delete', LINK], { timeoutMs: TIMEOUT_MS });
    return exitCode === 0
      ? { removed: [`link ${LINK}`], problems: [] }
      : { removed: [], problems: [`link ${LINK}: ${stderr.trim()}`] };
  }
  await new IpvsKernel(exec).ip(addressLines({ added: [], removed: gone }));
  return { removed: gone.length === 0 ? [] : [`${gone.length} addresses of ${LINK}`], problems: [] };
}

const OURS_ALONE: ReadonlySet<SetBase> = new Set(['NO-LOCAL-INTERNAL', 'NO-LOCAL-EXTERNAL']);

/**
 * Every set of this mode, of the families in `theirs` only those that kube-proxy does not have. One that a rule of somebody else asks stays, and is a
 * problem.
 */
export async function removeSets(exec: Exec, theirs: ReadonlySet<IpFamily> = new Set()): Promise<CleanupOutcome> {
  const problems: string[] = [];
  let count = 0;
  const listed = await exec.run('ipset', ['list', '-name'], { timeoutMs: TIMEOUT_MS });
  const there = listed.stdout.split('\n').filter((name) => {
    const set = KNOWN_SETS.get(name);
    return set !== undefined && (!theirs.has(set.family) || OURS_ALONE.has(set.base));
  });
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
