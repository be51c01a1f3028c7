// The part of PCRE's syntax that can be run in linear time, read into a tree.

export type Node =
  | { readonly kind: 'char'; readonly test: (code: number) => boolean }
  | { readonly kind: 'assert'; readonly at: 'start' | 'end' | 'word' | 'notWord' }
  | { readonly kind: 'sequence' | 'choice'; readonly nodes: readonly Node[] }
  | { readonly kind: 'group'; readonly index: number | undefined; readonly node: Node }
  | {
      readonly kind: 'repeat';
      readonly node: Node;
      readonly min: number;
      readonly max: number | undefined;
      readonly lazy: boolean;
    };

export type ParsedPattern =
  | {
      readonly kind: 'pattern';
      readonly node: Node;
      readonly groups: number;
      readonly names: ReadonlyMap<string, number>;
    }
  | { readonly kind: 'refused'; readonly reason: string };

const MAX_REPEAT = 500;
const MAX_DEPTH = 50;

class Refused extends Error {}

export function parsePattern(source: string, ignoreCase: boolean): ParsedPattern {
  const reader = new PatternReader(source, ignoreCase);
  try {
    return { kind: 'pattern', node: reader.read(), groups: reader.groups, names: reader.names };
  } catch (error) {
    if (error instanceof Refused) return { kind: 'refused', reason: error.message };
    throw error;
  }
}

type Test = (code: number) => boolean;

const DIGIT: Test = (code) => code >= 48 && code <= 57;
const WORD: Test = (code) => DIGIT(code) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122) || code === 95;
const SPACE: Test = (code) => code === 32 || (code >= 9 && code <= 13);
const CLASSES: Readonly<Record<string, Test>> = {
  d: DIGIT,
  w: WORD,
  s: SPACE,
  D: (code) => !DIGIT(code),
  W: (code) => !WORD(code),
  S: (code) => !SPACE(code),
};
const CONTROL: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11 };

class PatternReader {
  groups = 0;
  readonly names = new Map<string, number>();
  readonly #source: string;
  #ignoreCase: boolean;
  #at = 0;
  #depth = 0;

  constructor(source: string, ignoreCase: boolean) {
    this.#source = source;
    this.#ignoreCase = ignoreCase;
  }

  read(): Node {
    if (this.#source.startsWith('(?i)')) {
      this.#at = 4;
      this.#ignoreCase = true;
    }
    const node = this.#choice();
    if (this.#at < this.#source.length) throw new Refused('there is a ) without its (');
    return node;
  }

  #choice(): Node {
    if (++this.#depth > MAX_DEPTH) throw new Refused('groups are nested too deep');
    const nodes = [this.#sequence()];
    while (this.#peek() === '|') {
      this.#at++;
      nodes.push(this.#sequence());
    }
    this.#depth--;
    return nodes.length === 1 && nodes[0] ? nodes[0] : { kind: 'choice', nodes };
  }

  #sequence(): Node {
    const nodes: Node[] = [];
    for (let char = this.#peek(); char !== undefined && char !== '|' && char !== ')'; char = this.#peek()) {
      nodes.push(this.#repeated(this.#atom()));
    }
    return { kind: 'sequence', nodes };
  }

  #peek(): string | undefined {
    return this.#source[this.#at];
  }

  #next(): string {
    const char = this.#source[this.#at++];
    if (char === undefined) throw new Refused('the expression ends too early');
    return char;
  }

  #atom(): Node {
    const char = this.#next();
    switch (char) {
      case '.':
        return { kind: 'char', test: (code) => code !== 10 };
      case '^':
        return { kind: 'assert', at: 'start' };
      case '$':
        return { kind: 'assert', at: 'end' };
      case '(':
        return this.#group();
      case '[':
        return { kind: 'char', test: this.#set() };
      case '\\':
        return this.#escape();
      case '*':
      case '+':
      case '?':
        throw new Refused(`there is nothing that ${char} could repeat`);
      default:
        return { kind: 'char', test: this.#only(char.charCodeAt(0)) };
    }
  }

  #group(): Node {
    let index: number | undefined;
    if (this.#peek() === '?') {
      const named = /^\?P?<([A-Za-z_][A-Za-z0-9_]*)>/.exec(this.#source.slice(this.#at, this.#at + 80));
      if (named) {
        this.#at += named[0].length;
        index = ++this.groups;
        if (named[1] !== undefined) this.names.set(named[1], index);
      } else if (this.#source.startsWith('?:', this.#at)) this.#at += 2;
      else throw new Refused('look-around, atomic groups and inline options cannot be matched in linear time');
    } else index = ++this.groups;
    const node = this.#choice();
    if (this.#peek() !== ')') throw new Refused('a ( has no )');
    this.#at++;
    return { kind: 'group', index, node };
  }

  #escape(): Node {
    const char = this.#next();
    if (/[1-9k]/.test(char)) throw new Refused('back references cannot be matched in linear time');
    if (char === 'b') return { kind: 'assert', at: 'word' };
    if (char === 'B') return { kind: 'assert', at: 'notWord' };
    if (char === 'A') return { kind: 'assert', at: 'start' };
    if (char === 'z' || char === 'Z') return { kind: 'assert', at: 'end' };
    return { kind: 'char', test: CLASSES[char] ?? this.#only(this.#escapedCode(char)) };
  }

  #escapedCode(char: string): number {
    const control = CONTROL[char];
    if (control !== undefined) return control;
    if (char === 'x') {
      const digits = this.#source.slice(this.#at, this.#at + 2);
      if (!/^[0-9A-Fa-f]{2}$/.test(digits)) throw new Refused('\\x needs two hexadecimal digits');
      this.#at += 2;
      return Number.parseInt(digits, 16);
    }
    if (/[A-Za-z0-9]/.test(char)) throw new Refused(`\\${char} is not supported`);
    return char.charCodeAt(0);
  }

  #set(): Test {
    const tests: Test[] = [];
    const negated = this.#peek() === '^';
    if (negated) this.#at++;
    for (let first = true; first || this.#peek() !== ']'; first = false) {
      const from = this.#setMember();
      if (typeof from !== 'number') {
        tests.push(from);
        continue;
      }
      if (this.#peek() !== '-' || this.#source[this.#at + 1] === ']') {
        tests.push(this.#only(from));
        continue;
      }
      this.#at++;
      const to = this.#setMember();
      if (typeof to !== 'number' || to < from) throw new Refused('a range in [ ] is out of order');
      tests.push(this.#range(from, to));
    }
    this.#at++;
    return negated ? (code) => !tests.some((test) => test(code)) : (code) => tests.some((test) => test(code));
  }

  #setMember(): number | Test {
    const char = this.#next();
    if (char === '[' && /[:.=]/.test(this.#peek() ?? '')) throw new Refused('POSIX classes in [ ] are not supported');
    if (char !== '\\') return char.charCodeAt(0);
    const escaped = this.#next();
    return CLASSES[escaped] ?? (escaped === 'b' ? 8 : this.#escapedCode(escaped));
  }

  #only(code: number): Test {
    return this.#range(code, code);
  }

  #range(from: number, to: number): Test {
    const inside: Test = (code) => code >= from && code <= to;
    if (!this.#ignoreCase) return inside;
    return (code) => inside(code) || (isLetter(code) && inside(code ^ 0x20));
  }

  #repeated(node: Node): Node {
    const char = this.#peek();
    let bounds: readonly [number, number | undefined] | undefined;
    if (char === '*') bounds = [0, undefined];
    else if (char === '+') bounds = [1, undefined];
    else if (char === '?') bounds = [0, 1];
    if (bounds) this.#at++;
    else if (char === '{') {
      const match = /^\{([0-9]{1,4})(,([0-9]{1,4})?)?\}/.exec(this.#source.slice(this.#at, this.#at + 12));
      if (!match) return node;
      const min = Number(match[1]);
      const max = match[2] === undefined ? min : match[3] === undefined ? undefined : Number(match[3]);
      if (min > MAX_REPEAT || (max ?? 0) > MAX_REPEAT || (max !== undefined && max < min)) {
        throw new Refused(`a repetition counts from 0 to ${MAX_REPEAT}, the smaller number first`);
      }
      bounds = [min, max];
      this.#at += match[0].length;
    }
    if (!bounds) return node;
    if (node.kind === 'assert') throw new Refused('there is nothing that could be repeated');
    const mark = this.#peek();
    if (mark === '+') throw new Refused('possessive repetitions cannot be matched in linear time');
    const lazy = mark === '?';
    if (lazy) this.#at++;
    if (/[*+?]/.test(this.#peek() ?? '')) throw new Refused('a repetition cannot be repeated without a group');
    return { kind: 'repeat', node, min: bounds[0], max: bounds[1], lazy };
  }
}

function isLetter(code: number): boolean {
  return (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
}
