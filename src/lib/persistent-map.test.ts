import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { changesFrom, PersistentMap } from './persistent-map.ts';

const entries = fc.array(fc.tuple(fc.string({ maxLength: 3 }), fc.option(fc.nat(9), { nil: undefined })));

test('behaves as a plain map does, and leaves the older version as it was', () => {
  fc.assert(
    fc.property(entries, entries, (first, second) => {
      const before = PersistentMap.empty<number>().with(first);
      const after = before.with(second);
      const plain = new Map<string, number>();
      const apply = (list: typeof first): void => {
        for (const [key, value] of list)
          if (value === undefined) plain.delete(key);
          else plain.set(key, value);
      };
      apply(first);
      expect(new Map(before.entries())).toEqual(plain);
      expect(before.size).toBe(plain.size);
      const old = new Map(plain);
      apply(second);
      expect(new Map(after.entries())).toEqual(plain);
      expect(after.size).toBe(plain.size);
      expect(new Map(before.entries())).toEqual(old);
    }),
  );
});

test('the differences between two versions, applied to the first, give the second', () => {
  fc.assert(
    fc.property(entries, entries, (first, second) => {
      const before = PersistentMap.empty<number>().with(first);
      const after = PersistentMap.empty<number>().with(second);
      const differences = [...after.differences(before)];
      for (const { before: old, after: now } of differences) expect(old).not.toBe(now);
      const rebuilt = before.with(changesFrom(before, after));
      expect(new Map(rebuilt.entries())).toEqual(new Map(after.entries()));
      expect([...after.differences(after)]).toEqual([]);
    }),
  );
});
