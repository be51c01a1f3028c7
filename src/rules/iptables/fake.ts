// A kernel's tables that understand our text: what `iptables-restore --noflush` would do with it, checked as strictly.
// `FakeIptables` stands in for the tools; `trace.ts` walks packets through the tables.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec, ExecOptions, ExecResult } from '../../system/exec.ts';
import { canonical, parseRule, RuleTextError, type Rule } from './grammar.ts';
import { TABLES, type ChainName, type Table } from './names.ts';

export interface FakeRule {
  /** What stands behind `-A CHAIN `. */
  readonly text: string;
  readonly rule: Rule;
}

export type FakeTable = Map<ChainName, readonly FakeRule[]>;
export type FakeTables = Record<Table, FakeTable>;

const BUILT_IN: Readonly<Record<Table, readonly ChainName[]>> = {
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
};

export function emptyTables(): FakeTables {
  const table = (name: Table): FakeTable => new Map(BUILT_IN[name].map((chain) => [chain, []]));
  return { mangle: table('mangle'), filter: table('filter'), nat: table('nat') };
}

/** A line that the tool does not take. */
export class RestoreTextError extends Error {
  readonly code = 'restore-text';
  /** From 1. */
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

/** Applies a text; tables whose COMMIT was reached stay changed when a later one fails. Throws RestoreTextError. */
export function restore(tables: FakeTables, text: string, test = false): void {
  let name: Table | undefined;
  let working: FakeTable = new Map();
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    try {
      if (line.startsWith('*')) {
        name = TABLES.find((each) => each === line.slice(1));
        if (name === undefined) throw new RuleTextError(`no table ${line.slice(1)}`);
        working = new Map(tables[name]);
      } else if (name === undefined) {
        throw new RuleTextError('a line before the first table');
      } else if (line === 'COMMIT') {
        checkTargets(working);
        if (!test) tables[name] = working;
        name = undefined;
      } else {
        runLine(working, line, name);
      }
    } catch (error) {
      if (error instanceof RuleTextError) throw new RestoreTextError(index + 1, error.message);
      throw error;
    }
  }
  if (name !== undefined) throw new RestoreTextError(text.split('\n').length, 'COMMIT expected');
}

function runLine(table: FakeTable, line: string, tableName: Table): void {
  const declared = /^:(\S+) - \[0:0\]$/.exec(line)?.[1];
  if (declared !== undefined) {
    if (BUILT_IN[tableName].includes(declared)) throw new RuleTextError(`${declared} is built in`);
    table.set(declared, []);
    return;
  }
  const match = /^-([AIDCSX]) (\S+)(?: (.*))?$/.exec(line);
  const [, verb = '', chain = '', text = ''] = match ?? [];
  const rules = table.get(chain);
  if (!match || rules === undefined) throw new RuleTextError(`no chain ${chain} for "${line}"`);
  if (verb === 'S') return;
  if (verb === 'X') {
    if (rules.length > 0) throw new RuleTextError(`chain ${chain} is not empty`);
    for (const others of table.values()) {
      if (others.some((each) => leadsTo(each, chain))) throw new RuleTextError(`chain ${chain} is in use`);
    }
    table.delete(chain);
    return;
  }
  const added: FakeRule = { text, rule: parseRule(text) };
  if (verb === 'A') table.set(chain, [...rules, added]);
  else if (verb === 'I') table.set(chain, [added, ...rules]);
  else {
    const at = rules.findIndex((each) => canonical(each.rule) === canonical(added.rule));
    if (at < 0) throw new RuleTextError(`no such rule in ${chain}`);
    if (verb === 'D') table.set(chain, rules.toSpliced(at, 1));
  }
}

function leadsTo({ rule }: FakeRule, chain: ChainName): boolean {
  return rule.target?.kind === 'chain' && rule.target.name === chain;
}

function checkTargets(table: FakeTable): void {
  for (const rules of table.values()) {
    for (const { rule } of rules) {
      if (rule.target?.kind === 'chain' && !table.has(rule.target.name)) {
        throw new RuleTextError(`no chain ${rule.target.name}`);
      }
    }
  }
}

/** As `iptables-save` writes them. */
export function save(tables: FakeTables): string {
  let text = '';
  for (const name of TABLES) {
    const table = [...tables[name]].sort(([a], [b]) => (a < b ? -1 : 1));
    if (table.every(([chain, rules]) => BUILT_IN[name].includes(chain) && rules.length === 0)) continue;
    text += `*${name}\n`;
    for (const [chain] of table) text += `:${chain} ${BUILT_IN[name].includes(chain) ? 'ACCEPT' : '-'} [0:0]\n`;
    for (const [chain, rules] of table) for (const rule of rules) text += `-A ${chain} ${rule.text}\n`;
    text += 'COMMIT\n';
  }
  return text;
}

/** Stands in for the iptables programs over tables in memory; of other programs it has none. */
export class FakeIptables implements Exec {
  readonly tables: Record<IpFamily, FakeTables> = { 4: emptyTables(), 6: emptyTables() };
  /** Texts that were restored, in the order they came, with those that failed. */
  readonly restored: { readonly family: IpFamily; readonly text: string }[] = [];
  /** Makes every further restore of a text that holds this fail at that line. */
  refuses: string | undefined;
  saves = 0;
  checks = 0;

  async run(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const match = /^(iptables|ip6tables)(-nft|-legacy)?(-save|-restore)?$/.exec(file);
    if (!match) return result(-1, '', '', true);
    const family = match[1] === 'iptables' ? 4 : 6;
    if (args[0] === '--version') return result(0, `${match[1]} v1.8.9 (nf_tables)\n`);
    if (match[3] === '-save') {
      if (!args.includes('-t')) this.saves++;
      return result(0, save(this.tables[family]));
    }
    if (match[3] !== '-restore') return result(2, '', `unknown option ${args.join(' ')}\n`);
    return this.#restore(family, String(options.input), args.includes('--test'));
  }

  #restore(family: IpFamily, text: string, test: boolean): ExecResult {
    const check = !/^[:AIDX]|^-[AIDX]/m.test(text);
    if (check) this.checks++;
    else if (!test) this.restored.push({ family, text });
    const bad = this.refuses;
    const at =
      bad === undefined ? -1 : text.split('\n').findIndex((line) => line.startsWith('-A') && line.includes(bad));
    if (at >= 0 && !test) return result(2, '', `Bad argument \`x'\nError occurred at line: ${at + 1}\n`);
    try {
      restore(this.tables[family], text, test);
      return result(0);
    } catch (error) {
      if (error instanceof RestoreTextError)
        return result(1, '', `iptables-restore: line ${error.line} failed: ${error.message}\n`);
      throw error;
    }
  }
}

function result(exitCode: number, stdout = '', stderr = '', notFound = false): ExecResult {
  return { exitCode, stdout, stderr, notFound, timedOut: false };
}
