// NodePorts on 127.0.0.1: the kernel routes packets to loopback only where `route_localnet` says so, and then others could reach
// what listens there alone, but for the rule that guards it (CVE-2020-8558). So the rule comes first.

import type { Exec } from '../../system/exec.ts';
import type { RulesConfig } from '../config.ts';
import { answersOnLoopback, jumps, loopbackGuard } from './layout.ts';
import { KUBELET_FIREWALL } from './names.ts';
import { hasKubeletFirewall, linesOf, parseSave, sameRule, type SavedState } from './parse.ts';
import { renderRestore, type Restore } from './render.ts';
import { findTool, programOf } from './tool.ts';

const FILE = '/proc/sys/net/ipv4/conf/all/route_localnet';
const TIMEOUT_MS = 60_000;

/** What of the guard is missing; undefined when nothing is. */
export function missingGuard(config: RulesConfig, saved: SavedState): Restore['guard'] {
  const line = loopbackGuard(config, 4);
  if (line === undefined) return undefined;
  const there = linesOf(saved, 4, 'filter', KUBELET_FIREWALL);
  if (there.some((each) => sameRule(KUBELET_FIREWALL, each, line.trimEnd()))) return undefined;
  return { line, newChain: !hasKubeletFirewall(saved, 4) };
}

/** To be called when the guard is in force. Returns what the kernel said where it cannot be set. */
export async function routeLoopback(exec: Exec, config: RulesConfig): Promise<string | undefined> {
  if (!answersOnLoopback(config)) return undefined;
  if ((await exec.run('cat', [FILE])).stdout.trim() === '1') return undefined;
  const set = await exec.run('sh', ['-c', `echo 1 > ${FILE}`]);
  return set.exitCode === 0 ? undefined : set.stderr.trim();
}

/** What `--init-only` does for it, with the rights that the proxy then lacks: guard and sysctl. Throws RulesError without iptables. Returns a problem. */
export async function prepareLoopback(exec: Exec, config: RulesConfig): Promise<string | undefined> {
  if (!answersOnLoopback(config)) return undefined;
  const { variant } = await findTool(exec, config);
  const listed = await exec.run(programOf(4, variant, '-save'), [], { timeoutMs: TIMEOUT_MS });
  if (listed.exitCode !== 0) return listed.stderr.trim();
  const saved = parseSave(listed.stdout, 4);
  const input = renderRestore({
    changes: [],
    guard: missingGuard(config, saved),
    jumps: jumps(config, 4).filter(
      ({ from, to, text }) =>
        to === KUBELET_FIREWALL &&
        !linesOf(saved, 4, 'filter', from).some((each) => sameRule(from, each, `-A ${from} ${text}`)),
    ),
  });
  if (input !== '') {
    const done = await exec.run(programOf(4, variant, '-restore'), ['-w', '5', '--noflush', '--counters'], {
      input,
      timeoutMs: TIMEOUT_MS,
    });
    if (done.exitCode !== 0) return done.stderr.trim();
  }
  return routeLoopback(exec, config);
}
