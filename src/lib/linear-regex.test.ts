import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { compileRegex, type LinearRegex } from './linear-regex.ts';

function compiled(source: string, ignoreCase = false, anchored = false): LinearRegex {
  const result = compileRegex(source, { ignoreCase, anchored });
  if (result.kind === 'refused') throw new Error(result.reason);
  return result.regex;
}

const piece = fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '\\d', '\\w', '(a|b)', '(?:ab|a)', '(a*)', '/', 'x');
const quantifier = fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{1,2}', '*?', '+?', '??');
const pattern = fc
  .array(fc.tuple(piece, quantifier), { minLength: 1, maxLength: 5 })
  .map((parts) => parts.map(([text, times]) => text + times).join(''));
const alternatives = fc.array(pattern, { minLength: 1, maxLength: 3 }).map((list) => list.join('|'));
const text = fc
  .array(fc.constantFrom('a', 'b', 'A', '1', '/', 'x', '.'), { maxLength: 12 })
  .map((characters) => characters.join(''));

test('says the same as the regular expressions of the language', () => {
  fc.assert(
    fc.property(alternatives, text, fc.boolean(), (source, input, ignoreCase) => {
      const expected = new RegExp(source, ignoreCase ? 'i' : '').exec(input);
      const found = compiled(source, ignoreCase).exec(input);
      // Groups inside of repetitions of empty matches differ between engines: the whole match must not.
      expect(found?.[0]).toBe(expected?.[0]);
      const anchored = new RegExp(`^(?:${source})`, ignoreCase ? 'i' : '').exec(input);
      expect(compiled(source, ignoreCase, true).exec(input)?.[0]).toBe(anchored?.[0]);
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ['/something(/|$)(.*)', '/something/new', ['/something/new', '/', 'new']],
  ['/something(/|$)(.*)', '/something', ['/something', '', '']],
  ['/(?<first>[^/]+)/(.+)$', '/a/b/c', ['/a/b/c', 'a', 'b/c']],
  ['\\bfoo\\b', 'a foo b', ['foo']],
  ['a{2,3}', 'aaaa', ['aaa']],
])('gives the groups of %s in %s', (source, input, groups) => {
  expect(compiled(source).exec(input)).toEqual(groups);
});

test.each(['(?=a)', '(?<!a)b', '(a)\\1', 'a++', '(?>a)', '(', ')', '[a', '*', 'a{9999}', '\\p{L}', '(?m)a', '\\'])(
  'refuses %s with a reason',
  (source) => {
    const result = compileRegex(source, { ignoreCase: false, anchored: false });
    expect(result).toMatchObject({ kind: 'refused', reason: expect.stringMatching(/./) });
  },
);

test('an expression that makes backtracking explode takes time in proportion to the text', () => {
  const regex = compiled('^(a+)+(b|a?)*c$');
  const started = performance.now();
  expect(regex.test('a'.repeat(8000))).toBe(false);
  expect(performance.now() - started).toBeLessThan(2000);
});

test('a program stays small: nested repetitions are refused before they are unfolded', () => {
  expect(compileRegex('((a{100}){100}){100}', { ignoreCase: false, anchored: false }).kind).toBe('refused');
});
