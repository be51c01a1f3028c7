// Changes → input for `iptables-restore --noflush`. Pure. One text is one transaction for each of its tables.

import type { IpFamily } from '../../lib/ip.ts';
import { PersistentMap } from '../../lib/persistent-map.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { RulesConfig } from '../config.ts';
import { jumps, loopbackGuard, type Jump, type MachineFacts } from './layout.ts';
import { FAMILIES, KUBELET_FIREWALL, TABLES, partsOfChain, type ChainId, type Table } from './names.ts';
import { Planner, linesIn, type ChainChange } from './plan.ts';

/** What is written for one family. */
export interface Restore {
  readonly changes: readonly ChainChange[];
  /** Jumps that are missing, in the order in which they are put on top. */
  readonly jumps: readonly Jump[];
  /** The rule in KUBE-FIREWALL, when it is missing; `newChain` when the chain is missing, too. */
  readonly guard: { readonly line: string; readonly newChain: boolean } | undefined;
  /** Lines of other chains that lead to chains which go. */
  readonly leading?: readonly { readonly table: Table; readonly line: string }[];
}

/** A piece of the text, and the chain whose lines it is. */
interface Piece {
  readonly text: string;
  readonly chain?: ChainId;
}

/** The text; empty when there is nothing to write. */
export function renderRestore(restore: Restore): string {
  return [...pieces(restore)].map(({ text }) => text).join('');
}

/** Which line of which chain the line of the text is (from 1, as the tool counts); undefined when it is of no chain. */
export function chainAtLine(
  restore: Restore,
  line: number,
): { readonly id: ChainId; readonly line: number } | undefined {
  let before = 0;
  for (const { text, chain } of pieces(restore)) {
    const count = linesIn(text);
    if (line <= before + count) return chain === undefined ? undefined : { id: chain, line: line - before - 1 };
    before += count;
  }
  return undefined;
}

function* pieces(restore: Restore): Generator<Piece> {
  for (const table of TABLES) yield* tablePieces(restore, table);
}

/** Chains are declared first, which empties them; then they are filled, jumps put in, and those that go deleted. */
function* tablePieces(restore: Restore, table: Table): Generator<Piece> {
  const own = restore.changes
    .map((change) => ({ ...change, ...partsOfChain(change.id) }))
    .filter((change) => change.table === table);
  const missing = restore.jumps.filter((jump) => jump.table === table);
  const guard = table === 'filter' ? restore.guard : undefined;
  const leading = (restore.leading ?? []).filter((each) => each.table === table);
  if (own.length === 0 && missing.length === 0 && leading.length === 0 && guard === undefined) return;
  yield { text: `*${table}\n` };
  let declarations = '';
  for (const { name } of own) declarations += `:${name} - [0:0]\n`;
  if (guard?.newChain) declarations += `:${KUBELET_FIREWALL} - [0:0]\n`;
  yield { text: declarations };
  for (const { id, after } of own) if (after !== undefined && after !== '') yield { text: after, chain: id };
  if (guard) yield { text: guard.line };
  for (const { from, text } of missing) yield { text: `-I ${from} ${text}\n` };
  for (const { line } of leading) yield { text: `${line.replace(/^-A /, '-D ')}\n` };
  for (const { id, name, after } of own) if (after === undefined) yield { text: `-X ${name}\n`, chain: id };
  yield { text: 'COMMIT\n' };
}

/**
 * Everything for the Snapshot as text for `fairlead render`: what `iptables-restore --noflush` and, after the second
 * heading, `ip6tables-restore --noflush` load into an empty kernel. The same Snapshot gives the same text.
 */
export function renderIptables(snapshot: Snapshot, config: RulesConfig): string {
  return FAMILIES.map(
    (family) => `# iptables-restore, IPv${family}\n${renderFamily(snapshot, config, family, DEFAULT_FACTS)}`,
  ).join('');
}

/** The rules that are there because of the Services of the Snapshot, each with its table: what `explain` shows. */
export function renderServiceRules(snapshot: Snapshot, config: RulesConfig): string {
  const planner = new Planner(config, DEFAULT_FACTS);
  const always = new Set<string>();
  const linesOf = (changes: readonly ChainChange[]): readonly string[] =>
    changes.flatMap(({ id, after }) => {
      const { family, table } = partsOfChain(id);
      const lines = (after ?? '').split('\n').filter((line) => line !== '');
      return lines.map((line) => `${family === 4 ? 'iptables' : 'ip6tables'} -t ${table} ${line}`);
    });
  for (const line of linesOf(planner.advance({ ...snapshot, services: PersistentMap.empty() }))) always.add(line);
  const added = linesOf(planner.advance(snapshot)).filter((line) => !always.has(line));
  return added.map((line) => `${line}\n`).join('');
}

/** Of a machine that nobody changed. */
const DEFAULT_FACTS: MachineFacts = { dropInvalid: true };

function renderFamily(snapshot: Snapshot, config: RulesConfig, family: IpFamily, facts: MachineFacts): string {
  const changes = new Planner(config, facts).advance(snapshot).filter(({ id }) => id.startsWith(`${family}/`));
  const line = loopbackGuard(config, family);
  return renderRestore({
    changes,
    jumps: jumps(config, family),
    guard: line === undefined ? undefined : { line, newChain: true },
  });
}
