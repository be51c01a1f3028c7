import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { deepEqual } from './equal.ts';

const leaf = fc.oneof(fc.constantFrom('a', 'b', ''), fc.nat(2), fc.boolean(), fc.constant(undefined));
const value = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc.array(tie('value'), { maxLength: 2 }),
    fc.dictionary(fc.constantFrom('x', 'y'), tie('value'), { maxKeys: 2, noNullPrototype: true }),
    fc.array(fc.tuple(fc.constantFrom('x', 'y'), tie('value')), { maxLength: 2 }).map((entries) => new Map(entries)),
  ),
})).value;

test('equals what Node calls deeply equal', () => {
  fc.assert(
    fc.property(value, value, (a, b) => {
      expect(deepEqual(a, b)).toBe(isDeepStrictEqual(a, b));
      expect(deepEqual(a, structuredClone(a))).toBe(true);
    }),
    { numRuns: 1000 },
  );
});
