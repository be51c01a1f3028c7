import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { JsonLines } from './json-lines.ts';

test('lines are the same wherever the stream is cut, even inside a character', () => {
  const line = fc.string({ unit: fc.constantFrom('a', 'ß', '漢', '🚢', '{', '"', '\r') });
  fc.assert(
    fc.property(fc.array(line), fc.string({ maxLength: 3 }), fc.array(fc.nat(9)), (lines, rest, cuts) => {
      const bytes = Buffer.from(`${lines.map((text) => `${text}\n`).join('')}${rest.replaceAll('\n', '')}`);
      const reader = new JsonLines();
      const found: string[] = [];
      let at = 0;
      for (const cut of cuts) {
        found.push(...reader.push(bytes.subarray(at, at + cut)));
        at = Math.min(bytes.length, at + cut);
      }
      found.push(...reader.push(bytes.subarray(at)));
      expect(found).toEqual(lines.map((text) => text.trim()).filter((text) => text !== ''));
    }),
  );
});
