// A kernel's tables that understand our text: what `nft -f -` would do with it, checked as strictly. `FakeNft` stands in for
// the tool; `trace.ts` walks packets through the tables.

import { ipFamily, parseIp } from '../../lib/ip.ts';
import { parseCidr } from '../../lib/cidr.ts';
import type { Exec, ExecOptions, ExecResult } from '../../system/exec.ts';
import { NftTextError, parseRule, type Rule } from './grammar.ts';
import { TABLE } from './layout.ts';

export interface FakeChain {
  readonly hook: { readonly type: string; readonly name: string; readonly priority: number } | undefined;
  readonly rules: readonly Rule[];
}

export interface FakeContainer {
  readonly kind: 'set' | 'map';
  /** `ipv4_addr`, `inet_proto`…: one for each part of the key. */
  readonly key: readonly string[];
  /** The parts of the value; empty for a set. */
  readonly value: readonly string[];
  readonly interval: boolean;
  readonly elements: Map<string, string>;
}

export interface FakeTable {
  readonly chains: Map<string, FakeChain>;
  readonly containers: Map<string, FakeContainer>;
}

export type FakeRuleset = Map<'ip' | 'ip6', FakeTable>;

/** Applies one transaction and returns the tables after it; those given stay as they are. Throws NftTextError. */
export function applyText(before: FakeRuleset, text: string): FakeRuleset {
  const after: FakeRuleset = new Map([...before].map(([ip, table]) => [ip, copyTable(table)]));
  new ScriptReader(after, text).run();
  checkReferences(after);
  return after;
}

function copyTable({ chains, containers }: FakeTable): FakeTable {
  return {
    chains: new Map(chains),
    containers: new Map(
      [...containers].map(([name, each]) => [name, { ...each, elements: new Map(each.elements) }] as const),
    ),
  };
}

class ScriptReader {
  readonly #ruleset: FakeRuleset;
  readonly #lines: readonly string[];
  #at = 0;

  constructor(ruleset: FakeRuleset, text: string) {
    this.#ruleset = ruleset;
    this.#lines = text.split('\n').map((line) => line.trim());
  }

  run(): void {
    for (let line = this.#next(); line !== undefined; line = this.#next()) this.#command(line);
  }

  /** The next line that says something. */
  #next(): string | undefined {
    while (this.#at < this.#lines.length) {
      const line = this.#lines[this.#at++] ?? '';
      if (line !== '' && !line.startsWith('#')) return line;
    }
    return undefined;
  }

  #within(): string {
    const line = this.#next();
    if (line === undefined) throw new NftTextError('the text ends inside a block');
    return line;
  }

  #command(line: string): void {
    const match =
      /^(table|delete table|add chain|flush chain|delete chain|add rule|add element|delete element) (ip6?) fairlead(?: (.*))?$/.exec(
        line,
      );
    const ip = match?.[2];
    if (!match || (ip !== 'ip' && ip !== 'ip6')) throw new NftTextError(`"${line}" is not understood`);
    const rest = match[3] ?? '';
    if (match[1] === 'table') {
      if (rest !== '{') throw new NftTextError(`"${line}" is not understood`);
      this.#tableBlock(ip);
      return;
    }
    const table = this.#table(ip);
    switch (match[1]) {
      case 'delete table':
        this.#ruleset.delete(ip);
        return;
      case 'add chain':
        addChain(table, rest);
        return;
      case 'flush chain':
        table.chains.set(rest, { ...chainOf(table, rest), rules: [] });
        return;
      case 'delete chain':
        if (chainOf(table, rest).rules.length > 0) throw new NftTextError(`chain ${rest}: Device or resource busy`);
        table.chains.delete(rest);
        return;
      case 'add rule': {
        const space = rest.indexOf(' ');
        addRule(table, rest.slice(0, space), rest.slice(space + 1), ip);
        return;
      }
      default:
        this.#elements(table, rest, match[1] === 'add element' ? 'add' : 'delete');
    }
  }

  #table(ip: 'ip' | 'ip6'): FakeTable {
    const table = this.#ruleset.get(ip);
    if (!table) throw new NftTextError(`table ${ip} ${TABLE}: No such file or directory`);
    return table;
  }

  #tableBlock(ip: 'ip' | 'ip6'): void {
    const table: FakeTable = this.#ruleset.get(ip) ?? { chains: new Map(), containers: new Map() };
    this.#ruleset.set(ip, table);
    for (let line = this.#within(); line !== '}'; line = this.#within()) {
      const container = /^(set|map) ([a-z-]+) \{ (.*); \}$/.exec(line);
      const chain = /^chain ([a-z0-9-]+) \{( \})?$/.exec(line);
      if (container?.[2] && container[3]) {
        table.containers.set(container[2], newContainer(container[1] === 'map' ? 'map' : 'set', container[3]));
      } else if (chain?.[1]) {
        addChain(table, chain[1]);
        if (!chain[2]) this.#chainBlock(table, chain[1], ip);
      } else {
        throw new NftTextError(`"${line}" is not understood`);
      }
    }
  }

  #chainBlock(table: FakeTable, name: string, ip: 'ip' | 'ip6'): void {
    for (let line = this.#within(); line !== '}'; line = this.#within()) {
      if (line.startsWith('type ')) addChain(table, `${name} { ${line} }`);
      else addRule(table, name, line, ip);
    }
  }

  #elements(table: FakeTable, rest: string, verb: 'add' | 'delete'): void {
    const name = /^([a-z-]+) \{$/.exec(rest)?.[1];
    const container = name === undefined ? undefined : table.containers.get(name);
    if (!container || name === undefined) throw new NftTextError(`element of "${rest}": No such file or directory`);
    for (let line = this.#within(); line !== '}'; line = this.#within()) {
      if (!line.endsWith(',')) throw new NftTextError(`"${line}" has no comma`);
      const [key = '', value = '', ...more] = line.slice(0, -1).split(' : ');
      if (more.length > 0) throw new NftTextError(`"${line}" is not understood`);
      checkParts(name, container.key, key, container.interval);
      if (verb === 'delete') {
        if (!container.elements.delete(key)) throw new NftTextError(`${name} ${key}: No such file or directory`);
        continue;
      }
      if (container.value[0] !== 'verdict') checkParts(name, container.value, value, false);
      const held = container.elements.get(key);
      if (held !== undefined && held !== value) throw new NftTextError(`${name} ${key}: File exists`);
      container.elements.set(key, value);
    }
  }
}

function chainOf(table: FakeTable, name: string): FakeChain {
  const chain = table.chains.get(name);
  if (!chain) throw new NftTextError(`chain ${name}: No such file or directory`);
  return chain;
}

function addChain(table: FakeTable, text: string): void {
  const match = /^([a-z0-9-]+)(?: \{ type (filter|nat) hook ([a-z]+) priority (-?[0-9]+); \})?$/.exec(text);
  if (!match?.[1]) throw new NftTextError(`chain "${text}" is not understood`);
  const held = table.chains.get(match[1]);
  const hook = match[3]
    ? { type: match[2] ?? '', name: match[3], priority: Number(match[4]) }
    : (held?.hook ?? undefined);
  table.chains.set(match[1], { hook, rules: held?.rules ?? [] });
}

function addRule(table: FakeTable, name: string, text: string, ip: 'ip' | 'ip6'): void {
  const chain = chainOf(table, name);
  table.chains.set(name, { ...chain, rules: [...chain.rules, parseRule(text, ip)] });
}

function newContainer(kind: 'set' | 'map', text: string): FakeContainer {
  const match =
    /^type ([a-z0-9_ .]+?)(?: : ([a-z0-9_ .]+?))?(; flags interval|; size [0-9]+; flags dynamic,timeout)?$/.exec(text);
  if (!match?.[1] || (kind === 'map') !== (match[2] !== undefined))
    throw new NftTextError(`"${text}" is not understood`);
  return {
    kind,
    key: match[1].split(' . '),
    value: match[2]?.split(' . ') ?? [],
    interval: match[3] === '; flags interval',
    elements: new Map(),
  };
}

function checkParts(name: string, types: readonly string[], text: string, interval: boolean): void {
  const parts = types.length === 0 && text === '' ? [] : text.split(' . ');
  const right =
    parts.length === types.length && types.every((type, index) => isOfType(type, parts[index] ?? '', interval));
  if (!right) throw new NftTextError(`${name}: "${text}" is not of type ${types.join(' . ')}`);
}

function isOfType(type: string, text: string, interval: boolean): boolean {
  switch (type) {
    case 'ipv4_addr':
    case 'ipv6_addr': {
      const ip = parseIp(interval ? text.replace(/\/.*$/, '') : text);
      if (ip !== undefined && interval && text.includes('/') && parseCidr(text) !== text) return false;
      return ip !== undefined && ipFamily(ip) === (type === 'ipv4_addr' ? 4 : 6);
    }
    case 'inet_proto':
      return text === 'tcp' || text === 'udp' || text === 'sctp';
    case 'inet_service':
      return /^[1-9][0-9]{0,4}$/.test(text) && Number(text) < 65_536;
    case 'classid':
      return /^[0-9]{1,10}$/.test(text) && Number(text) < 2 ** 32;
    default:
      throw new NftTextError(`the type ${type} is not understood`);
  }
}

/** Everything that is named exists, as the kernel insists. */
function checkReferences(ruleset: FakeRuleset): void {
  for (const table of ruleset.values()) {
    for (const { rules } of table.chains.values()) for (const rule of rules) checkRule(table, rule);
    for (const [name, { value, elements }] of table.containers) {
      if (value[0] !== 'verdict') continue;
      for (const verdict of elements.values()) {
        if (verdict.startsWith('goto ')) chainOf(table, verdict.slice('goto '.length));
        else if (verdict !== 'drop') throw new NftTextError(`${name}: "${verdict}" is no verdict`);
      }
    }
  }
}

function checkRule(table: FakeTable, rule: Rule): void {
  for (const statement of rule) {
    const source = statement.kind === 'set-priority' ? statement.source : statement;
    if ('chain' in source) chainOf(table, source.chain);
    const names = ['map' in source ? source.map : undefined, 'set' in source ? source.set : undefined];
    for (const name of names) {
      if (name === undefined) continue;
      const container = table.containers.get(name);
      if (!container) throw new NftTextError(`${name}: No such file or directory`);
      if ('key' in source && source.key.length !== container.key.length) {
        throw new NftTextError(`the key of ${name} has ${container.key.length} parts, not ${source.key.length}`);
      }
    }
  }
}

/** Stands in for the `nft` program over tables in memory. */
export class FakeNft implements Exec {
  ruleset: FakeRuleset = new Map();
  /** Transactions in the order they came, with those that failed. */
  readonly transactions: string[] = [];
  /** Makes the next transactions fail with this message. */
  failure: string | undefined;
  /** Refuses a transaction whose text matches, as a kernel that does not like something in it. */
  refuses: RegExp | undefined;

  async run(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    if (file !== 'nft') return result(-1, '', '', true);
    const command = args.join(' ');
    if (command === '--version') return result(0, 'nftables v1.0.6 (Lester Gooch #5)\n');
    const ip = args.at(-2) === 'ip6' ? 'ip6' : 'ip';
    if (command === `-j list table ${ip} ${TABLE}`) {
      const table = this.ruleset.get(ip);
      return table
        ? result(0, JSON.stringify(listing(ip, table)))
        : result(1, '', 'Error: No such file or directory\n');
    }
    if (command === `delete table ${ip} ${TABLE}`) {
      return this.ruleset.delete(ip) ? result(0) : result(1, '', 'Error: No such file or directory\n');
    }
    if (command !== '-f -') return result(1, '', `Error: syntax error in ${command}\n`);
    const text = String(options.input);
    this.transactions.push(text);
    if (this.failure !== undefined) return result(1, '', `Error: ${this.failure}\n`);
    if (this.refuses?.test(text)) return result(1, '', 'Error: Could not process rule: Invalid argument\n');
    try {
      this.ruleset = applyText(this.ruleset, text);
      return result(0);
    } catch (error) {
      if (error instanceof NftTextError) return result(1, '', `Error: ${error.message}\n`);
      throw error;
    }
  }
}

function result(exitCode: number, stdout = '', stderr = '', notFound = false): ExecResult {
  return { exitCode, stdout, stderr, notFound, timedOut: false };
}

/** As `nft -j list table` writes it. */
function listing(ip: 'ip' | 'ip6', { chains, containers }: FakeTable): unknown {
  const nftables: unknown[] = [{ metainfo: { json_schema_version: 1 } }, { table: { family: ip, name: TABLE } }];
  for (const [name, { kind, key, value, elements }] of containers) {
    const elem = [...elements].map(([text, held]) => {
      const left = jsonParts(key, text);
      return kind === 'set' ? left : [left, jsonValue(value, held)];
    });
    const map = kind === 'map' ? { map: value.join(' . ') } : {};
    nftables.push({
      [kind]: { family: ip, name, table: TABLE, type: key, ...map, ...(elem.length > 0 ? { elem } : {}) },
    });
  }
  for (const [name, { rules }] of chains) {
    nftables.push({ chain: { family: ip, table: TABLE, name } });
    for (const rule of rules) nftables.push({ rule: { family: ip, table: TABLE, chain: name, expr: rule } });
  }
  return { nftables };
}

function jsonParts(types: readonly string[], text: string): unknown {
  const parts = text.split(' . ').map((part, index): unknown => {
    if (types[index] === 'inet_service') return Number(part);
    if (types[index] === 'classid') return classid(Number(part));
    const [addr, length] = part.split('/');
    return length === undefined ? part : { prefix: { addr, len: Number(length) } };
  });
  return parts.length === 1 ? parts[0] : { concat: parts };
}

function jsonValue(types: readonly string[], text: string): unknown {
  if (types[0] !== 'verdict') return jsonParts(types, text);
  return text === 'drop' ? { drop: null } : { goto: { target: text.slice('goto '.length) } };
}

function classid(value: number): string {
  if (value === 0) return 'none';
  return `${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`;
}
