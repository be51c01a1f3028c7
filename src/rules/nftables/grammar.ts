// The part of nft's rule language that our tables use, and nothing more: an unknown word is an error, so that the fake
// kernel never passes over what it does not understand.

export class NftTextError extends Error {
  readonly code = 'nft-text';
}

export type Field =
  | 'daddr'
  | 'saddr'
  | 'l4proto'
  | 'dport'
  | 'priority'
  | 'original-daddr'
  | 'original-saddr'
  | 'original-dport'
  | 'iifname';

export type Match =
  | { readonly kind: 'state-new' }
  | { readonly kind: 'status-dnat' }
  | { readonly kind: 'local'; readonly field: 'daddr' | 'saddr' }
  | { readonly kind: 'mark'; readonly bits: number }
  | { readonly kind: 'in-set'; readonly key: readonly Field[]; readonly set: string; readonly negated: boolean }
  | {
      readonly kind: 'one-of';
      readonly field: Field;
      readonly values: readonly string[];
      readonly negated: boolean;
    };

export type PrioritySource =
  | { readonly kind: 'zero' }
  | { readonly kind: 'numgen'; readonly modulus: number }
  | { readonly kind: 'jhash'; readonly key: readonly Field[] }
  | { readonly kind: 'map'; readonly key: readonly Field[]; readonly map: string };

export type Statement =
  | Match
  | { readonly kind: 'set-mark'; readonly operation: 'or' | 'xor'; readonly bits: number }
  | { readonly kind: 'set-priority'; readonly source: PrioritySource }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }
  | { readonly kind: 'vmap'; readonly key: readonly Field[]; readonly map: string }
  | { readonly kind: 'dnat'; readonly key: readonly Field[]; readonly map: string }
  | { readonly kind: 'masquerade' }
  | { readonly kind: 'drop' | 'accept' | 'return' }
  | { readonly kind: 'reject'; readonly withReset: boolean }
  /** Writes into the map that the kernel fills. */
  | { readonly kind: 'remember' | 'forget'; readonly map: string };

export type Rule = readonly Statement[];

export function parseRule(text: string, ip: 'ip' | 'ip6'): Rule {
  const reader = new RuleReader(text, ip);
  const statements: Statement[] = [];
  while (!reader.done) statements.push(reader.statement());
  if (statements.length === 0) throw new NftTextError('an empty rule');
  return statements;
}

class RuleReader {
  readonly #words: readonly string[];
  readonly #ip: 'ip' | 'ip6';
  readonly #text: string;
  #at = 0;

  constructor(text: string, ip: 'ip' | 'ip6') {
    this.#text = text;
    this.#words = text.split(' ').filter((word) => word !== '');
    this.#ip = ip;
  }

  get done(): boolean {
    return this.#at >= this.#words.length;
  }

  statement(): Statement {
    if (this.#take('ct', 'state', 'new')) return { kind: 'state-new' };
    if (this.#take('ct', 'status', 'dnat')) return { kind: 'status-dnat' };
    if (this.#take('fib', 'daddr', 'type', 'local')) return { kind: 'local', field: 'daddr' };
    if (this.#take('fib', 'saddr', 'type', 'local')) return { kind: 'local', field: 'saddr' };
    if (this.#take('meta', 'mark')) return this.#mark();
    if (this.#take('meta', 'priority', 'set')) return { kind: 'set-priority', source: this.#prioritySource() };
    if (this.#take('jump')) return { kind: 'jump', chain: this.#next() };
    if (this.#take('goto')) return { kind: 'goto', chain: this.#next() };
    for (const kind of ['drop', 'accept', 'return'] as const) if (this.#take(kind)) return { kind };
    if (this.#take('reject', 'with', 'tcp', 'reset')) return { kind: 'reject', withReset: true };
    if (this.#take('reject')) return { kind: 'reject', withReset: false };
    if (this.#take('masquerade', 'fully-random')) return { kind: 'masquerade' };
    if (this.#take('dnat', 'to')) {
      const key = this.#concat();
      this.#expect('map');
      return { kind: 'dnat', key, map: this.#name() };
    }
    if (this.#take('update')) return this.#dynamic('remember');
    if (this.#take('delete')) return this.#dynamic('forget');
    return this.#comparison(this.#concat());
  }

  #mark(): Statement {
    if (this.#take('and')) {
      const bits = this.#number();
      this.#expect('!=');
      this.#expect('0');
      return { kind: 'mark', bits };
    }
    for (const word of ['set', 'meta', 'mark']) this.#expect(word);
    const operation = this.#next();
    if (operation !== 'or' && operation !== 'xor') throw this.#unknown(operation);
    return { kind: 'set-mark', operation, bits: this.#number() };
  }

  #prioritySource(): PrioritySource {
    if (this.#take('0')) return { kind: 'zero' };
    if (this.#take('numgen', 'random', 'mod')) return { kind: 'numgen', modulus: this.#number() };
    if (this.#take('jhash')) return { kind: 'jhash', key: this.#hashed() };
    const key = this.#concat();
    this.#expect('map');
    return { kind: 'map', key, map: this.#name() };
  }

  #hashed(): readonly Field[] {
    const key = this.#concat();
    this.#expect('mod');
    this.#number();
    this.#expect('seed');
    this.#number();
    return key;
  }

  /** `update @m { key timeout 10s : jhash … }`, `delete @m { key : data }`. */
  #dynamic(kind: 'remember' | 'forget'): Statement {
    const map = this.#name();
    this.#expect('{');
    this.#concat();
    if (kind === 'remember') {
      this.#expect('timeout');
      const timeout = this.#next();
      if (!/^[1-9][0-9]*s$/.test(timeout)) throw this.#unknown(timeout);
      this.#expect(':');
      this.#expect('jhash');
      this.#hashed();
    } else {
      this.#expect(':');
      this.#concat();
    }
    this.#expect('}');
    return { kind, map };
  }

  #comparison(key: readonly Field[]): Statement {
    if (this.#take('vmap')) return { kind: 'vmap', key, map: this.#name() };
    const negated = this.#take('!=');
    const word = this.#peek();
    if (word?.startsWith('@')) return { kind: 'in-set', key, set: this.#name(), negated };
    const [field, ...more] = key;
    if (field === undefined || more.length > 0) throw this.#unknown(word ?? 'the end');
    return { kind: 'one-of', field, values: this.#values(), negated };
  }

  #values(): readonly string[] {
    if (!this.#take('{')) return [this.#next()];
    const values: string[] = [];
    while (!this.#take('}')) values.push(this.#next().replace(/,$/, ''));
    return values;
  }

  #concat(): readonly Field[] {
    const fields = [this.#field()];
    while (this.#take('.')) fields.push(this.#field());
    return fields;
  }

  #field(): Field {
    if (this.#take('meta', 'l4proto')) return 'l4proto';
    if (this.#take('meta', 'priority')) return 'priority';
    if (this.#take('th', 'dport')) return 'dport';
    if (this.#take(this.#ip, 'daddr')) return 'daddr';
    if (this.#take(this.#ip, 'saddr')) return 'saddr';
    if (this.#take('ct', 'original', this.#ip, 'daddr')) return 'original-daddr';
    if (this.#take('ct', 'original', this.#ip, 'saddr')) return 'original-saddr';
    if (this.#take('ct', 'original', 'proto-dst')) return 'original-dport';
    if (this.#take('iifname')) return 'iifname';
    throw this.#unknown(this.#peek() ?? 'the end');
  }

  #name(): string {
    const word = this.#next();
    if (!/^@[a-z-]+$/.test(word)) throw this.#unknown(word);
    return word.slice(1);
  }

  #number(): number {
    const word = this.#next();
    if (!/^(0x[0-9a-f]+|[0-9]+)$/.test(word)) throw this.#unknown(word);
    return Number(word);
  }

  #peek(): string | undefined {
    return this.#words[this.#at];
  }

  #next(): string {
    const word = this.#words[this.#at++];
    if (word === undefined) throw this.#unknown('the end');
    return word;
  }

  #take(...words: readonly string[]): boolean {
    if (!words.every((word, index) => this.#words[this.#at + index] === word)) return false;
    this.#at += words.length;
    return true;
  }

  #expect(word: string): void {
    if (!this.#take(word)) throw this.#unknown(this.#peek() ?? 'the end');
  }

  #unknown(word: string): NftTextError {
    return new NftTextError(`"${word}" is not understood in the rule "${this.#text}"`);
  }
}
