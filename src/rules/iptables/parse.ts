// `iptables-save` → the chains that are ours, in the plan's own words. Read once at start, and again after a restore that
// failed or when rules were found missing; never on the way of a sync.

import type { IpFamily } from '../../lib/ip.ts';
import { canonical, parseRule, RuleTextError } from './grammar.ts';
import { KUBELET_FIREWALL, chainId, isOurs, type ChainId, type ChainName, type Table } from './names.ts';

export interface SavedState {
  /** The chains that are ours, with their lines. */
  readonly chains: ReadonlyMap<ChainId, string>;
  /** Every other chain that is there. */
  readonly others: ReadonlySet<ChainId>;
  /** The lines of other chains that lead into ours, and those of KUBE-FIREWALL. */
  readonly lines: ReadonlyMap<ChainId, readonly string[]>;
}

/** Reads what `iptables-save` writes for one family. Foreign tables and rules are passed over. `isOwn`: which chains are ours. */
export function parseSave(text: string, family: IpFamily, isOwn: (name: ChainName) => boolean = isOurs): SavedState {
  const chains = new Map<ChainId, string>();
  const others = new Set<ChainId>();
  const lines = new Map<ChainId, string[]>();
  let table: Table | undefined;
  let current = '';
  let held = '';
  const finish = (): void => {
    if (table !== undefined && current !== '') chains.set(chainId(family, table, current), held);
    current = '';
    held = '';
  };
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\n', at);
    const line = end < 0 ? text.slice(at) : text.slice(at, end);
    at = end < 0 ? text.length : end + 1;
    if (line.startsWith('*')) {
      finish();
      table = tableOf(line.slice(1));
    } else if (table === undefined) {
      continue;
    } else if (line.startsWith(':')) {
      const name = line.slice(1, line.indexOf(' '));
      if (isOwn(name)) chains.set(chainId(family, table, name), '');
      else others.add(chainId(family, table, name));
    } else if (line.startsWith('-A ')) {
      const name = line.slice(3, line.indexOf(' ', 3));
      if (!isOwn(name)) {
        if (!line.includes('KUBE-')) continue;
        const id = chainId(family, table, name);
        const list = lines.get(id);
        if (list) list.push(line);
        else lines.set(id, [line]);
        continue;
      }
      if (name !== current) {
        finish();
        current = name;
        held = chains.get(chainId(family, table, name)) ?? '';
      }
      held += `${line}\n`;
    }
  }
  finish();
  return { chains, others, lines };
}

function tableOf(name: string): Table | undefined {
  return name === 'filter' || name === 'nat' || name === 'mangle' ? name : undefined;
}

/** Whether two texts of a chain are the same rules; the order of the matches in a rule is no difference, nor are comments on endpoints. */
export function sameRules(chain: ChainName, a: string, b: string): boolean {
  if (a === b) return true;
  const left = a.split('\n');
  const right = b.split('\n');
  return left.length === right.length && left.every((line, index) => sameRule(chain, line, right[index] ?? ''));
}

/** Whether two lines of the chain are the same rule. */
export function sameRule(chain: ChainName, a: string, b: string): boolean {
  if (a === b) return true;
  const left = canonicalLine(chain, a);
  return left !== undefined && left === canonicalLine(chain, b);
}

/** Rules of endpoints lose their comments as a cluster grows: with or without, they are the same. */
const ENDPOINTS = /^KUBE-(SEP|SVC|SVL)-/;

function canonicalLine(chain: ChainName, line: string): string | undefined {
  const start = `-A ${chain} `;
  if (!line.startsWith(start)) return undefined;
  try {
    const rule = parseRule(line.slice(start.length));
    const matches = ENDPOINTS.test(chain) ? rule.matches.filter(({ kind }) => kind !== 'comment') : rule.matches;
    return canonical({ ...rule, matches });
  } catch (error) {
    if (error instanceof RuleTextError) return undefined;
    throw error;
  }
}

/** The lines of a chain that is not ours which hold that rule, or lead to that chain. */
export function linesOf(state: SavedState, family: IpFamily, table: Table, name: ChainName): readonly string[] {
  return state.lines.get(chainId(family, table, name)) ?? [];
}

/** Whether KUBE-FIREWALL is there. */
export function hasKubeletFirewall(state: SavedState, family: IpFamily): boolean {
  return state.others.has(chainId(family, 'filter', KUBELET_FIREWALL));
}
