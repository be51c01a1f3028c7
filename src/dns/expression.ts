// Expressions of `view` and `template`: the part of the expr language (expr-lang.org) that routing of DNS needs.
// Compiled once to closures; nothing of it can loop.

import { compileRegex, type LinearRegex } from '../lib/linear-regex.ts';
import { BUILTINS } from './expression-builtins.ts';
import { ExpressionError, numeric, textual, truth, type Value } from './expression-value.ts';

/** A function that expressions may call; throws ExpressionError for arguments that are none. */
type Call<E> = (environment: E, args: readonly Value[]) => Value;

export type Functions<E> = ReadonlyMap<string, { readonly arity: number; readonly call: Call<E> }>;

/** Names that stand for values of their own. */
export type Variables<E> = ReadonlyMap<string, (environment: E) => Value>;

export type Compiled<E> =
  | { readonly kind: 'expression'; readonly evaluate: (environment: E) => Value }
  | { readonly kind: 'mistake'; readonly what: string };

type Node<E> = (environment: E) => Value;

/** Literals, `[…]`, calls, `x[1]`, `x[1:3]`, `??`, `|`, `!`/`not`, `* / %`, `+ -`, comparisons, `in`, `matches`, `contains`, `startsWith`, `endsWith`, `and`/`&&`, `or`/`||`, `? :`. */
export function compileExpression<E>(
  text: string,
  functions: Functions<E>,
  variables: Variables<E> = new Map(),
): Compiled<E> {
  try {
    const parser = new Parser(tokens(text), functions, variables);
    const evaluate = parser.ternary();
    parser.end();
    return { kind: 'expression', evaluate };
  } catch (error) {
    if (error instanceof ExpressionError) return { kind: 'mistake', what: error.message };
    throw error;
  }
}

interface Token {
  readonly kind: 'text' | 'number' | 'word' | 'sign' | 'end';
  readonly text: string;
}

const TOKEN =
  /\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|([0-9][0-9_]*(?:\.[0-9]+)?)|([A-Za-z_][A-Za-z0-9_]*)|(&&|\|\||==|!=|<=|>=|\?\?|[-+*/%!<>()[\],?:|]))/y;

function tokens(text: string): readonly Token[] {
  const found: Token[] = [];
  let at = 0;
  while (text.slice(at).trim() !== '') {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) throw new ExpressionError(`"${text.slice(at).trim().slice(0, 20)}" is not understood`);
    at = TOKEN.lastIndex;
    const [, quoted, number, word, sign] = match;
    if (quoted !== undefined) found.push({ kind: 'text', text: unquoted(quoted) });
    else if (number !== undefined) found.push({ kind: 'number', text: number.replaceAll('_', '') });
    else if (word !== undefined) found.push({ kind: 'word', text: word });
    else found.push({ kind: 'sign', text: sign ?? '' });
  }
  return [...found, { kind: 'end', text: '' }];
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['n', '\n'],
  ['t', '\t'],
  ['r', '\r'],
]);

function unquoted(text: string): string {
  const inner = text.slice(1, -1);
  return text.startsWith('`') ? inner : inner.replace(/\\(.)/gs, (_, char: string) => ESCAPES.get(char) ?? char);
}

class Parser<E> {
  readonly #tokens: readonly Token[];
  readonly #functions: Functions<E>;
  readonly #variables: Variables<E>;
  #at = 0;

  constructor(list: readonly Token[], functions: Functions<E>, variables: Variables<E>) {
    this.#tokens = list;
    this.#functions = functions;
    this.#variables = variables;
  }

  end(): void {
    if (this.#token.kind !== 'end') throw new ExpressionError(`"${this.#token.text}" was not expected there`);
  }

  ternary(): Node<E> {
    const test = this.#alternative();
    if (!this.#take('?')) return test;
    const yes = this.ternary();
    this.#expect(':');
    const no = this.ternary();
    return (e) => (truth(test(e)) ? yes(e) : no(e));
  }

  /** `a ?? b`: b where a is nothing. */
  #alternative(): Node<E> {
    let left = this.#or();
    while (this.#take('??')) {
      const [a, b] = [left, this.#or()];
      left = (e) => a(e) ?? b(e);
    }
    return left;
  }

  #or(): Node<E> {
    let left = this.#and();
    while (this.#take('||') || this.#take('or')) {
      const [a, b] = [left, this.#and()];
      left = (e) => truth(a(e)) || truth(b(e));
    }
    return left;
  }

  #and(): Node<E> {
    let left = this.#comparison();
    while (this.#take('&&') || this.#take('and')) {
      const [a, b] = [left, this.#comparison()];
      left = (e) => truth(a(e)) && truth(b(e));
    }
    return left;
  }

  #comparison(): Node<E> {
    const left = this.#sum();
    const negated = this.#token.text === 'not' && this.#token.kind === 'word';
    if (negated) this.#at++;
    const word = this.#token;
    const compare = word.kind === 'word' || word.kind === 'sign' ? COMPARISONS.get(word.text) : undefined;
    if (!compare) {
      if (negated) throw new ExpressionError('after "not", an operator such as "in" was expected');
      return left;
    }
    this.#at++;
    const right = word.text === 'matches' ? this.#pattern() : this.#sum();
    return (e) => compare(left(e), right(e)) !== negated;
  }

  /** A pattern stands there as text, so that a wrong one is told when the file is read. */
  #pattern(): Node<E> {
    const token = this.#token;
    const node = this.#sum();
    if (token.kind === 'text' && !patternOf(token.text))
      throw new ExpressionError(`"${token.text}" is no pattern that can be used`);
    return node;
  }

  #sum(): Node<E> {
    let left = this.#product();
    for (;;) {
      const sign = this.#token.text;
      if (this.#token.kind !== 'sign' || (sign !== '+' && sign !== '-')) return left;
      this.#at++;
      const [a, b] = [left, this.#product()];
      left = (e) => (sign === '+' ? added(a(e), b(e)) : numeric(a(e)) - numeric(b(e)));
    }
  }

  #product(): Node<E> {
    let left = this.#unary();
    for (;;) {
      const sign = this.#token.text;
      if (this.#token.kind !== 'sign' || !['*', '/', '%'].includes(sign)) return left;
      this.#at++;
      const [a, b] = [left, this.#unary()];
      left = (e) => {
        const [x, y] = [numeric(a(e)), numeric(b(e))];
        return sign === '*' ? x * y : sign === '/' ? x / y : x % y;
      };
    }
  }

  #unary(): Node<E> {
    if (this.#take('!') || this.#take('not')) {
      const inner = this.#unary();
      return (e) => !truth(inner(e));
    }
    if (this.#take('-')) {
      const inner = this.#unary();
      return (e) => -numeric(inner(e));
    }
    return this.#postfix();
  }

  /** `x[1]`, `x[1:3]`, and `x | upper()`, which puts x in front of the arguments. */
  #postfix(): Node<E> {
    let node = this.#primary();
    for (;;) {
      if (this.#take('[')) node = this.#indexed(node);
      else if (this.#take('|')) node = this.#call(this.#name(), node);
      else return node;
    }
  }

  #indexed(list: Node<E>): Node<E> {
    const from = this.#take(':') ? undefined : this.ternary();
    if (from && this.#take(']')) return (e) => at(list(e), numeric(from(e)));
    if (from) this.#expect(':');
    const to = this.#take(']') ? undefined : this.ternary();
    if (to) this.#expect(']');
    return (e) => {
      const [first, last] = [from && numeric(from(e)), to && numeric(to(e))];
      const value = list(e);
      return isList(value) ? value.slice(first, last) : textual(value).slice(first, last);
    };
  }

  #name(): string {
    const { kind, text } = this.#token;
    if (kind !== 'word') throw new ExpressionError('after "|", a function was expected');
    this.#at++;
    return text;
  }

  #primary(): Node<E> {
    const token = this.#token;
    this.#at++;
    switch (token.kind) {
      case 'text':
        return () => token.text;
      case 'number': {
        const value = Number(token.text);
        return () => value;
      }
      case 'word':
        return this.#word(token.text);
      case 'sign': {
        if (token.text === '(') {
          const inner = this.ternary();
          this.#expect(')');
          return inner;
        }
        if (token.text === '[') {
          const items = this.#list(']');
          return (e) => items.map((item) => item(e));
        }
        throw new ExpressionError(`"${token.text}" was not expected there`);
      }
      case 'end':
        throw new ExpressionError('the expression ends too early');
    }
  }

  #word(word: string): Node<E> {
    if (word === 'true' || word === 'false') return () => word === 'true';
    if (word === 'nil') return () => undefined;
    const variable = this.#variables.get(word);
    return variable ?? this.#call(word, undefined);
  }

  /** `piped` is the first argument. */
  #call(word: string, piped: Node<E> | undefined): Node<E> {
    const known = this.#functions.get(word);
    const builtin = known ? undefined : BUILTINS.get(word);
    if (!known && !builtin) {
      const names = [...this.#functions.keys()].map((name) => `${name}()`).join(', ');
      throw new ExpressionError(`"${word}" is unknown; there are: ${names}`);
    }
    this.#expect('(');
    const args = [...(piped ? [piped] : []), ...this.#list(')')];
    const [least, most] = known ? [known.arity, known.arity] : [builtin?.least ?? 0, builtin?.most ?? 0];
    if (args.length < least || args.length > most)
      throw new ExpressionError(
        `${word}() takes ${least === most ? least : `${least} to ${most}`} argument(s), not ${args.length}`,
      );
    return (e) => {
      const values = args.map((arg) => arg(e));
      return known ? known.call(e, values) : builtin?.call(values);
    };
  }

  #list(close: string): readonly Node<E>[] {
    const items: Node<E>[] = [];
    if (this.#take(close)) return items;
    do items.push(this.ternary());
    while (this.#take(','));
    this.#expect(close);
    return items;
  }

  get #token(): Token {
    return this.#tokens[this.#at] ?? { kind: 'end', text: '' };
  }

  #take(text: string): boolean {
    const { kind } = this.#token;
    if (this.#token.text !== text || (kind !== 'sign' && kind !== 'word')) return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text))
      throw new ExpressionError(`"${text}" was expected before "${this.#token.text || 'the end'}"`);
  }
}

const COMPARISONS: ReadonlyMap<string, (a: Value, b: Value) => boolean> = new Map([
  ['==', (a: Value, b: Value) => equal(a, b)],
  ['!=', (a: Value, b: Value) => !equal(a, b)],
  ['<', (a: Value, b: Value) => order(a, b) < 0],
  ['<=', (a: Value, b: Value) => order(a, b) <= 0],
  ['>', (a: Value, b: Value) => order(a, b) > 0],
  ['>=', (a: Value, b: Value) => order(a, b) >= 0],
  ['in', (a: Value, b: Value) => isList(b) && b.some((item) => equal(item, a))],
  ['contains', (a: Value, b: Value) => textual(a).includes(textual(b))],
  ['startsWith', (a: Value, b: Value) => textual(a).startsWith(textual(b))],
  ['endsWith', (a: Value, b: Value) => textual(a).endsWith(textual(b))],
  ['matches', (a: Value, b: Value) => patternOf(textual(b))?.exec(textual(a)) !== undefined],
]);

const PATTERNS = new Map<string, LinearRegex>();
/** Patterns that are made while queries are answered are few; this keeps a Corefile's changes from piling up. */
const MOST_PATTERNS = 1000;

function patternOf(text: string): LinearRegex | undefined {
  const known = PATTERNS.get(text);
  if (known) return known;
  const compiled = compileRegex(text, { ignoreCase: false, anchored: false });
  if (compiled.kind !== 'regex') return undefined;
  if (PATTERNS.size >= MOST_PATTERNS) PATTERNS.clear();
  PATTERNS.set(text, compiled.regex);
  return compiled.regex;
}

/** From the end where it is negative; what is not there is an error. */
function at(value: Value, index: number): Value {
  const list = isList(value) ? value : textual(value).split('');
  if (index >= list.length || index < -list.length) throw new ExpressionError(`there is nothing at ${index}`);
  return list.at(index);
}

function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

function equal(a: Value, b: Value): boolean {
  if (!isList(a) || !isList(b)) return a === b;
  return a.length === b.length && a.every((item, i) => equal(item, b[i]));
}

function order(a: Value, b: Value): number {
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0;
  return numeric(a) - numeric(b);
}

function added(a: Value, b: Value): Value {
  return typeof a === 'string' && typeof b === 'string' ? a + b : numeric(a) + numeric(b);
}
