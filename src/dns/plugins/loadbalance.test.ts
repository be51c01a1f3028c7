import { describe, expect, test } from 'vitest';
import { parseRecord } from '../record-text.ts';
import { addressData } from '../wire/record.ts';
import { parseName } from '../wire/name.ts';
import { CLASS_IN } from '../wire/types.ts';
import type { OwnedRecord } from '../wire/message.ts';
import { parseWeights, preferred, shuffled, weightedFirst } from './loadbalance.ts';
import { cidr, ip } from '../../../test/support/values.ts';

const addresses: readonly OwnedRecord[] = ['192.0.2.1', '192.0.2.2', '10.0.0.3'].flatMap((ip) => {
  const record = parseRecord(`www.example.org. 60 IN A ${ip}`);
  return record?.owner === undefined ? [] : [{ ...record, owner: record.owner, klass: CLASS_IN }];
});
const shown = (records: readonly OwnedRecord[]): readonly string[] =>
  records.map(({ data }) => Buffer.from(data, 'latin1').join('.'));

describe('the file of weights', () => {
  test('has names, and addresses with their weights below', () => {
    const read = parseWeights('# weights\n\nwww.example.org\n192.0.2.1 3\n  fd00::1 255\nother\n10.0.0.1 1\n');
    const own = read.kind === 'weights' ? read.weights.get(parseName('www.example.org.') ?? ('' as never)) : undefined;
    expect(['192.0.2.1', 'fd00::1'].map((text) => own?.get(addressData(ip(text))))).toEqual([3, 255]);
  });

  test.each([
    ['192.0.2.1 3', 'line 1: a name was expected before its addresses'],
    ['a\n192.0.2.1 0', 'line 2: a weight is from 1 to 255, not "0"'],
    ['a\n192.0.2.1 256', 'line 2: a weight is from 1 to 255'],
    ['a\n192.0.2.1', 'line 2: "192.0.2.1" is no name'],
    ['a\nb 3', 'line 2: ADDRESS WEIGHT was expected, not "b 3"'],
    ['a\n192.0.2.1 3 4', 'line 2: ADDRESS WEIGHT was expected'],
  ])('%j is a mistake with its line', (text, why) => {
    const read = parseWeights(text);
    expect(read.kind === 'mistake' ? read.why : '').toContain(why);
  });
});

test('each address comes first as often as its weight says', () => {
  const read = parseWeights('www.example.org\n192.0.2.1 2\n10.0.0.3 7\n');
  const order = weightedFirst(() => (read.kind === 'weights' ? read.weights : new Map()));
  const first = new Map<string, number>();
  for (let i = 0; i < 100; i++) {
    const [top = ''] = shown(order(addresses, () => (i + 0.5) / 100));
    first.set(top, (first.get(top) ?? 0) + 1);
  }
  expect(Object.fromEntries(first)).toEqual({ '192.0.2.1': 20, '192.0.2.2': 10, '10.0.0.3': 70 });
  expect(shown(order(addresses, () => 0.99)).toSorted()).toEqual(shown(addresses).toSorted());
});

test('addresses of preferred ranges come first, in the order of the ranges', () => {
  const ranges = ['10.0.0.0/8', '192.0.2.2/32'].map(cidr);
  expect(shown(preferred(ranges, shuffled)(addresses, Math.random))).toEqual(['10.0.0.3', '192.0.2.2', '192.0.2.1']);
});

test('any order comes of shuffling', () => {
  const seen = new Set<string>();
  for (let i = 0; i < 500; i++) seen.add(shown(shuffled(addresses, Math.random)).join());
  expect(seen.size).toBe(6);
});
