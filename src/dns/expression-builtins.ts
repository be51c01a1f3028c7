// Functions of the expr language (expr-lang.org) that work on texts, numbers and lists.

import { ExpressionError, numeric, textual, type Value } from './expression-value.ts';

export interface Builtin {
  readonly least: number;
  readonly most: number;
  readonly call: (args: readonly Value[]) => Value;
}

const builtin = (least: number, most: number, call: (...args: readonly Value[]) => Value): Builtin => ({
  least,
  most,
  call: (args) => call(...args),
});

const text1 = (change: (text: string) => Value): Builtin => builtin(1, 1, (text) => change(textual(text)));
const number2 = (change: (a: number, b: number) => number): Builtin =>
  builtin(2, 2, (a, b) => change(numeric(a), numeric(b)));

export const BUILTINS: ReadonlyMap<string, Builtin> = new Map([
  ['len', builtin(1, 1, (value) => (isList(value) ? value.length : textual(value).length))],
  ['upper', text1((text) => text.toUpperCase())],
  ['lower', text1((text) => text.toLowerCase())],
  ['trim', builtin(1, 2, (text, chars) => trimmed(textual(text), chars === undefined ? undefined : textual(chars)))],
  ['trimPrefix', builtin(2, 2, (text, start) => without(textual(text), textual(start), 'start'))],
  ['trimSuffix', builtin(2, 2, (text, end) => without(textual(text), textual(end), 'end'))],
  ['hasPrefix', builtin(2, 2, (text, start) => textual(text).startsWith(textual(start)))],
  ['hasSuffix', builtin(2, 2, (text, end) => textual(text).endsWith(textual(end)))],
  ['indexOf', builtin(2, 2, (text, part) => textual(text).indexOf(textual(part)))],
  ['lastIndexOf', builtin(2, 2, (text, part) => textual(text).lastIndexOf(textual(part)))],
  ['replace', builtin(3, 3, (text, from, to) => textual(text).replaceAll(textual(from), textual(to)))],
  ['split', builtin(2, 2, (text, by) => textual(text).split(textual(by)))],
  [
    'join',
    builtin(1, 2, (list, by) =>
      listed(list)
        .map(textual)
        .join(by === undefined ? '' : textual(by)),
    ),
  ],
  ['repeat', builtin(2, 2, (text, times) => repeated(textual(text), numeric(times)))],
  ['reverse', builtin(1, 1, (list) => listed(list).toReversed())],
  ['first', builtin(1, 1, (list) => listed(list)[0])],
  ['last', builtin(1, 1, (list) => listed(list).at(-1))],
  ['string', builtin(1, 1, (value) => shown(value))],
  ['int', builtin(1, 1, (value) => Math.trunc(typeof value === 'string' ? parsed(value) : numeric(value)))],
  ['float', builtin(1, 1, (value) => (typeof value === 'string' ? parsed(value) : numeric(value)))],
  ['abs', builtin(1, 1, (value) => Math.abs(numeric(value)))],
  ['ceil', builtin(1, 1, (value) => Math.ceil(numeric(value)))],
  ['floor', builtin(1, 1, (value) => Math.floor(numeric(value)))],
  ['round', builtin(1, 1, (value) => Math.round(numeric(value)))],
  ['max', builtin(1, Infinity, (...values) => Math.max(...values.map(numeric)))],
  ['min', builtin(1, Infinity, (...values) => Math.min(...values.map(numeric)))],
  ['bitand', number2((a, b) => Number(BigInt.asUintN(64, BigInt(a) & BigInt(b))))],
  ['bitor', number2((a, b) => Number(BigInt.asUintN(64, BigInt(a) | BigInt(b))))],
  ['bitxor', number2((a, b) => Number(BigInt.asUintN(64, BigInt(a) ^ BigInt(b))))],
  ['bitshl', number2((a, b) => Number(BigInt.asUintN(64, BigInt(a) << BigInt(b))))],
  ['bitshr', number2((a, b) => Number(BigInt.asUintN(64, BigInt(a) >> BigInt(b))))],
]);

/** What a name is made of has no more than this. */
const MOST_TEXT = 10_000;

function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

function listed(value: Value): readonly Value[] {
  if (!isList(value)) throw new ExpressionError('a list was expected');
  return value;
}

function trimmed(text: string, chars: string | undefined): string {
  if (chars === undefined) return text.trim();
  const all = new Set(chars.split(''));
  const letters = text.split('');
  const start = letters.findIndex((letter) => !all.has(letter));
  const end = letters.findLastIndex((letter) => !all.has(letter));
  return start < 0 ? '' : letters.slice(start, end + 1).join('');
}

function without(text: string, part: string, where: 'start' | 'end'): string {
  if (part === '') return text;
  if (where === 'start') return text.startsWith(part) ? text.slice(part.length) : text;
  return text.endsWith(part) ? text.slice(0, -part.length) : text;
}

function repeated(text: string, times: number): string {
  if (times < 0 || text.length * times > MOST_TEXT) throw new ExpressionError('repeat makes too long a text');
  return text.repeat(times);
}

function parsed(text: string): number {
  if (!/^-?[0-9]+(\.[0-9]+)?$/.test(text)) throw new ExpressionError(`"${text}" is no number`);
  return Number(text);
}

function shown(value: Value): string {
  return isList(value) ? `[${value.map(shown).join(' ')}]` : String(value ?? '<nil>');
}
