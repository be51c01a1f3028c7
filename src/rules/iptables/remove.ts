// Takes chains out of the kernel: ours and kube-proxy's, which have the same names. kubelet's stay.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { defaultRulesConfig } from '../config.ts';
import { removeCounters } from './accounting.ts';
import { OWNER, loopbackGuard } from './layout.ts';
import { FAMILIES, KUBELET_FIREWALL, TABLES, chainId, isOfIpvs, isOurs, partsOfChain, type Table } from './names.ts';
import { linesOf, parseSave, sameRule, type SavedState } from './parse.ts';
import { programOf, type Variant } from './tool.ts';

export interface RemoveOptions {
  /**
   * `own`: the chains of the iptables and IPVS modes, and of a family that kube-proxy has taken over only those that it does not have; `ipvs`: those
   * that only the IPVS mode has; `all`: whatever is there.
   */
  readonly which: 'own' | 'ipvs' | 'all';
  /** What these programs keep stays. */
  readonly except?: Variant;
}

const TIMEOUT_MS = 300_000;
/** kubelet marks its presence by these. */
const KUBELETS = ['KUBE-KUBELET-CANARY', 'KUBE-IPTABLES-HINT'];

/** The chains of the iptables mode, and the counters that they count in. */
export async function removeOwnChains(exec: Exec): Promise<CleanupOutcome> {
  const outcome = await removeChains(exec, { which: 'own' });
  if (outcome.removed.length > 0) await removeCounters(exec);
  return outcome;
}

/** Removes them, each table in one step. A machine without iptables, or without rights, is no error here. */
export async function removeChains(exec: Exec, options: RemoveOptions): Promise<CleanupOutcome> {
  const removed: string[] = [];
  const problems: string[] = [];
  for (const variant of await variants(exec)) {
    if (variant === options.except) continue;
    for (const family of FAMILIES) {
      // Without a table named, it lists those that are there and makes none.
      const saved = await exec.run(programOf(family, variant, '-save'), [], { timeoutMs: TIMEOUT_MS });
      if (saved.exitCode !== 0) continue;
      const { text, chains } = removalText(parseSave(saved.stdout, family), family, options);
      if (text === '') continue;
      const program = programOf(family, variant, '-restore');
      const result = await exec.run(program, ['-w', '5', '--noflush'], { input: text, timeoutMs: TIMEOUT_MS });
      if (result.exitCode === 0) removed.push(`${chains} chains of IPv${family} (${program})`);
      else problems.push(`chains of IPv${family} could not be removed: ${program}: ${said(result)}`);
    }
  }
  return { removed, problems };
}

/** The families in which kube-proxy's IPVS mode wrote the chains last, by any of the programs: it may run with one family alone. */
export async function familiesOfKubeProxyIpvs(exec: Exec): Promise<ReadonlySet<IpFamily>> {
  const found = new Set<IpFamily>();
  for (const variant of await variants(exec)) {
    for (const family of FAMILIES) {
      const saved = await exec.run(programOf(family, variant, '-save'), [], { timeoutMs: TIMEOUT_MS });
      if (saved.exitCode === 0 && modeOfKubeProxy(parseSave(saved.stdout, family), family) === 'ipvs')
        found.add(family);
    }
  }
  return found;
}

/** Both, where the machine has both; they keep their rules apart. A machine with neither name has one kind only. */
async function variants(exec: Exec): Promise<readonly Variant[]> {
  const found: Variant[] = [];
  for (const variant of ['-nft', '-legacy'] as const) {
    const version = await exec.run(programOf(4, variant, ''), ['--version']);
    if (!version.notFound) found.push(variant);
  }
  return found.length > 0 ? found : [''];
}

/** Empties the chains, takes the rules away that lead to them, and deletes them. */
function removalText(
  saved: SavedState,
  family: IpFamily,
  { which }: RemoveOptions,
): { readonly text: string; readonly chains: number } {
  const theirs = which === 'own' ? modeOfKubeProxy(saved, family) : undefined;
  const firewall = theirs !== undefined || which === 'ipvs' ? KEEP : kubeletFirewall(saved, family);
  const goes = (table: Table, name: string): boolean =>
    theirs !== undefined
      ? // In IPVS mode, too, only ours drops in mangle what the node itself sends.
        (theirs === 'iptables' || table === 'mangle') && isOfIpvs(name)
      : (which !== 'ipvs' && isOurs(name)) ||
        isOfIpvs(name) ||
        (table === 'filter' && firewall.chainGoes && name === KUBELET_FIREWALL);
  let text = '';
  let chains = 0;
  for (const table of TABLES) {
    const names = [...saved.chains.keys(), ...saved.others]
      .map(partsOfChain)
      .filter((chain) => chain.table === table && goes(table, chain.name))
      .map(({ name }) => name);
    const gone = new Set(names);
    const lines = leadingLines(saved, table, gone);
    if (table === 'filter' && firewall.line !== undefined && !firewall.chainGoes) lines.push(firewall.line);
    if (names.length === 0 && lines.length === 0) continue;
    chains += names.length;
    text += `*${table}\n`;
    for (const name of names) text += `:${name} - [0:0]\n`;
    for (const line of lines) text += `${line.replace(/^-A /, '-D ')}\n`;
    for (const name of names) text += `-X ${name}\n`;
    text += 'COMMIT\n';
  }
  return { text, chains };
}

/** Of the chains that it wrote last; undefined where they are ours, or nobody's. What cannot be told from IPVS counts as that: less is removed then. */
function modeOfKubeProxy({ chains }: SavedState, family: IpFamily): 'iptables' | 'ipvs' | undefined {
  const marking = chains.get(chainId(family, 'nat', 'KUBE-MARK-MASQ')) ?? '';
  if (marking === '' || marking.includes(OWNER)) return undefined;
  const services = chains.get(chainId(family, 'nat', 'KUBE-SERVICES')) ?? '';
  return / -j KUBE-(SVC|SVL|EXT)-/.test(services) && !services.includes(' --match-set ') ? 'iptables' : 'ipvs';
}

/** The rules of chains that stay which lead to one that goes. */
function leadingLines({ lines }: SavedState, table: Table, gone: ReadonlySet<string>): string[] {
  const found: string[] = [];
  for (const [id, list] of lines) {
    const chain = partsOfChain(id);
    if (chain.table !== table || gone.has(chain.name)) continue;
    found.push(...list.filter((line) => gone.has(/ -[jg] (\S+)/.exec(line)?.[1] ?? '')));
  }
  return found;
}

interface FirewallRemoval {
  /** Our rule in it, when it is there. */
  readonly line: string | undefined;
  readonly chainGoes: boolean;
}

const KEEP: FirewallRemoval = { line: undefined, chainGoes: false };

/** KUBE-FIREWALL is kubelet's where a kubelet is; otherwise it goes, if nothing but our rule is in it. */
function kubeletFirewall(saved: SavedState, family: IpFamily): FirewallRemoval {
  if (KUBELETS.some((name) => saved.others.has(chainId(family, 'mangle', name)))) return KEEP;
  const guard = loopbackGuard({ ...defaultRulesConfig, nodePortAddresses: { kind: 'all' } }, family)?.trimEnd();
  if (guard === undefined) return KEEP;
  const lines = linesOf(saved, family, 'filter', KUBELET_FIREWALL);
  const line = lines.find((each) => sameRule(KUBELET_FIREWALL, each, guard));
  return { line, chainGoes: line !== undefined && lines.length === 1 };
}

function said(result: ExecResult): string {
  return result.stderr.trim().replaceAll(/\s*\n\s*/g, ' | ') || `code ${result.exitCode}`;
}
