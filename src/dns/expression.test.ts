import { expect, test } from 'vitest';
import { compileExpression, type Functions } from './expression.ts';
import { ExpressionError } from './expression-value.ts';

const FUNCTIONS: Functions<{ name: string }> = new Map([
  ['name', { arity: 0, call: ({ name }: { name: string }) => name }],
  ['size', { arity: 0, call: () => 40 }],
  ['upper', { arity: 1, call: (_: unknown, [text]: readonly unknown[]) => String(text).toUpperCase() }],
]);

function evaluate(text: string): unknown {
  const compiled = compileExpression(text, FUNCTIONS);
  if (compiled.kind === 'mistake') return `mistake: ${compiled.what}`;
  return compiled.evaluate({ name: 'a.example.' });
}

test.each([
  ["name() == 'a.example.'", true],
  ['name() != "a.example." || size() > 39', true],
  ["name() in ['b.', 'a.example.'] && !false", true],
  ["name() not in ['b.']", true],
  ["name() matches '^a[.]ex.*$'", true],
  ["name() matches '^abc\\\\..*$'", false],
  ["name() startsWith 'a.' and name() endsWith '.' and name() contains 'xam'", true],
  ['not (size() + 2 * 3 == 46) or size() % 7 == 5', true],
  ["upper('x') == 'X' ? 1 : 2", 1],
  ['-size() < 0', true],
  ["`raw\\` == 'raw\\\\'", true],
])('%s is %s', (text, value) => {
  expect(evaluate(text)).toBe(value);
});

test.each([
  ['', 'ends too early'],
  ['name() ==', 'ends too early'],
  ['nosuch()', '"nosuch" is unknown; there are: name(), size(), upper()'],
  ['invalid expression', '"invalid" is unknown'],
  ["upper('a', 'b')", 'upper() takes 1 argument(s), not 2'],
  ['name() size()', '"size" was not expected there'],
  ["name() matches '('", 'no pattern'],
  ['name() ; 1', 'not understood'],
])('%s is a mistake: %s', (text, why) => {
  expect(evaluate(text)).toContain(why);
});

test('what has no meaning for a value is an error of its own', () => {
  expect(() => evaluate('name() && true')).toThrow(ExpressionError);
  expect(() => evaluate('name() < 3')).toThrow(ExpressionError);
});
