// The part of iptables' rule language that we write and, from kube-proxy, may find: text → rule. Whatever else is an error.

import { parseCidr } from '../../lib/cidr.ts';
import { parseIp } from '../../lib/ip.ts';
import type { ChainName } from './names.ts';

/** The text is none of ours; the message says which part. */
export class RuleTextError extends Error {
  readonly code = 'rule-text';
}

export type Match =
  | { readonly kind: 'source' | 'destination'; readonly range: string; readonly negated: boolean }
  | { readonly kind: 'input'; readonly name: string; readonly negated: boolean }
  | { readonly kind: 'protocol'; readonly name: string }
  | { readonly kind: 'comment'; readonly text: string }
  | { readonly kind: 'state'; readonly states: readonly string[]; readonly negated: boolean }
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number; readonly negated: boolean }
  | { readonly kind: 'local'; readonly side: 'source' | 'destination' }
  | { readonly kind: 'dport'; readonly port: number }
  | { readonly kind: 'seen'; readonly list: string; readonly seconds: number }
  | { readonly kind: 'remember'; readonly list: string }
  /** An ipset; `by`: which part of the packet stands for which part of an entry (`dst,dst,src`). */
  | { readonly kind: 'set'; readonly name: string; readonly by: readonly ('src' | 'dst')[] }
  | { readonly kind: 'count'; readonly counter: string }
  /** In units of 2^-31. */
  | { readonly kind: 'random'; readonly units: number };

export type Target =
  | { readonly kind: 'chain'; readonly name: ChainName }
  | { readonly kind: 'accept' | 'drop' | 'return' }
  | { readonly kind: 'reject'; readonly with: string }
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number }
  | { readonly kind: 'masquerade'; readonly randomFully: boolean }
  | { readonly kind: 'dnat'; readonly to: string };

export interface Rule {
  readonly matches: readonly Match[];
  readonly target: Target | undefined;
}

/** Reads what stands behind `-A CHAIN `. Throws RuleTextError. */
export function parseRule(text: string): Rule {
  return new RuleReader(words(text)).read();
}

/** The rule in one way of writing, whatever the order of its matches was. */
export function canonical(rule: Rule): string {
  return `${rule.matches
    .map((match) => JSON.stringify(match))
    .sort()
    .join(' ')} ${JSON.stringify(rule.target)}`;
}

/** Splits at blanks; quoted words may hold blanks. */
export function words(text: string): readonly string[] {
  const found: string[] = [];
  for (const match of text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)) {
    found.push(match[1] === undefined ? (match[2] ?? '') : match[1].replaceAll(/\\(.)/g, '$1'));
  }
  return found;
}

class RuleReader {
  readonly #words: readonly string[];
  #at = 0;
  #negated = false;

  constructor(list: readonly string[]) {
    this.#words = list;
  }

  read(): Rule {
    const matches: Match[] = [];
    let target: Target | undefined;
    while (this.#at < this.#words.length) {
      const word = this.#next();
      if (word === '!') {
        this.#negated = true;
        continue;
      }
      if (word === '-j') target = this.#target();
      else if (word === '-m') matches.push(...this.#module());
      else matches.push(this.#base(word));
      if (this.#negated) throw new RuleTextError(`"${word}" cannot be negated`);
    }
    return { matches, target };
  }

  #next(): string {
    const word = this.#words[this.#at++];
    if (word === undefined) throw new RuleTextError('the rule ends too early');
    return word;
  }

  #peek(): string | undefined {
    return this.#words[this.#at];
  }

  #take(word: string): boolean {
    if (this.#peek() !== word) return false;
    this.#at++;
    return true;
  }

  #expect(word: string): void {
    if (!this.#take(word)) throw new RuleTextError(`"${word}" was expected, not "${this.#peek() ?? 'the end'}"`);
  }

  #wasNegated(): boolean {
    const negated = this.#negated || this.#take('!');
    this.#negated = false;
    return negated;
  }

  #base(word: string): Match {
    const negated = this.#wasNegated();
    switch (word) {
      case '-s':
        return { kind: 'source', range: rangeOf(this.#next()), negated };
      case '-d':
        return { kind: 'destination', range: rangeOf(this.#next()), negated };
      case '-i':
        return { kind: 'input', name: this.#next(), negated };
      case '-p': {
        const name = this.#next();
        if (!PROTOCOLS.has(name) || negated) throw new RuleTextError(`the protocol ${name} is none of ours`);
        return { kind: 'protocol', name };
      }
      default:
        throw new RuleTextError(`"${word}" is not understood`);
    }
  }

  #module(): readonly Match[] {
    const name = this.#next();
    switch (name) {
      case 'tcp':
      case 'udp':
      case 'sctp':
        return this.#take('--dport') ? [{ kind: 'dport', port: portOf(this.#next()) }] : [];
      case 'comment':
        this.#expect('--comment');
        return [{ kind: 'comment', text: this.#next() }];
      case 'conntrack': {
        const negated = this.#wasNegated();
        this.#expect('--ctstate');
        return [{ kind: 'state', states: this.#next().split(',').sort(), negated }];
      }
      case 'mark': {
        const negated = this.#wasNegated();
        this.#expect('--mark');
        return [{ kind: 'mark', ...markOf(this.#next()), negated }];
      }
      case 'addrtype': {
        const side = this.#take('--src-type') ? 'source' : 'destination';
        if (side === 'destination') this.#expect('--dst-type');
        this.#expect('LOCAL');
        return [{ kind: 'local', side }];
      }
      case 'recent':
        return [this.#recent()];
      case 'set': {
        this.#expect('--match-set');
        const name = this.#next();
        const by = this.#next().split(',');
        if (!by.every((side) => side === 'src' || side === 'dst')) throw new RuleTextError(`a set by ${by.join()}`);
        return [{ kind: 'set', name, by }];
      }
      case 'nfacct':
        this.#expect('--nfacct-name');
        return [{ kind: 'count', counter: this.#next() }];
      case 'statistic': {
        this.#expect('--mode');
        this.#expect('random');
        this.#expect('--probability');
        const probability = Number(this.#next());
        if (!(probability >= 0 && probability <= 1)) throw new RuleTextError('a probability is from 0 to 1');
        return [{ kind: 'random', units: Math.round(probability * 0x8000_0000) }];
      }
      default:
        throw new RuleTextError(`the match ${name} is not understood`);
    }
  }

  #recent(): Match {
    let set = false;
    let list = 'DEFAULT';
    let seconds = 0;
    let reap = false;
    for (let word = this.#peek(); word?.startsWith('--'); word = this.#peek()) {
      this.#at++;
      if (word === '--set') set = true;
      else if (word === '--reap') reap = true;
      else if (word === '--name') list = this.#next();
      else if (word === '--seconds') seconds = Number(this.#next());
      else if (word === '--mask') this.#next();
      else if (word !== '--rcheck' && word !== '--rsource') throw new RuleTextError(`recent ${word} is not understood`);
    }
    if (set === reap) throw new RuleTextError('recent is set, or checked with --reap');
    return set ? { kind: 'remember', list } : { kind: 'seen', list, seconds };
  }

  #target(): Target {
    const name = this.#next();
    switch (name) {
      case 'ACCEPT':
      case 'DROP':
      case 'RETURN':
        return { kind: name.toLowerCase() as 'accept' | 'drop' | 'return' };
      case 'REJECT':
        this.#expect('--reject-with');
        return { kind: 'reject', with: this.#rejection() };
      case 'MARK':
        return { kind: 'mark', ...this.#markChange() };
      case 'MASQUERADE':
        return { kind: 'masquerade', randomFully: this.#take('--random-fully') };
      case 'DNAT':
        this.#expect('--to-destination');
        return { kind: 'dnat', to: this.#next() };
      default:
        if (!/^[A-Z][A-Za-z0-9-]{0,27}$/.test(name)) throw new RuleTextError(`${name} is no chain`);
        return { kind: 'chain', name };
    }
  }

  #rejection(): string {
    const name = this.#next();
    if (!REJECTIONS.has(name)) throw new RuleTextError(`REJECT with ${name} is not understood`);
    return name;
  }

  #markChange(): { readonly value: number; readonly mask: number } {
    const how = this.#next();
    const { value, mask } = markOf(this.#next());
    if (how === '--or-mark') return { value, mask: value };
    if (how === '--xor-mark') return { value, mask: 0 };
    if (how === '--set-xmark') return { value, mask };
    throw new RuleTextError(`MARK ${how} is not understood`);
  }
}

const PROTOCOLS: ReadonlySet<string> = new Set(['tcp', 'udp', 'sctp']);
const REJECTIONS: ReadonlySet<string> = new Set(['icmp-port-unreachable', 'icmp6-port-unreachable', 'tcp-reset']);

function rangeOf(text: string): string {
  const range = parseCidr(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  if (range === undefined || parseIp(text.split('/')[0] ?? '') === undefined) {
    throw new RuleTextError(`"${text}" is no address range`);
  }
  return range;
}

function portOf(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RuleTextError(`"${text}" is no port`);
  return port;
}

function markOf(text: string): { readonly value: number; readonly mask: number } {
  const [value = Number.NaN, mask = 0xffff_ffff] = text.split('/').map(Number);
  if (!Number.isInteger(value) || !Number.isInteger(mask)) throw new RuleTextError(`"${text}" is no mark`);
  return { value, mask };
}
