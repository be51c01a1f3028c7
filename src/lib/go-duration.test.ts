import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatGoDuration, parseGoDuration } from './go-duration.ts';

describe('durations as Go has them', () => {
  test.each([
    ['30s', 30_000],
    ['1h0m0s', 3_600_000],
    ['1.5h', 5_400_000],
    ['250ms', 250],
    ['2us', 0.002],
    ['-1m', -60_000],
    ['0', 0],
    ['.5s', 500],
  ])('%s', (text, ms) => expect(parseGoDuration(text)).toBe(ms));

  test.each(['', '30', 's', '1x', '1 s', '1s 2s', '1d', '--1s'])('"%s" is none', (text) =>
    expect(parseGoDuration(text)).toBeUndefined(),
  );

  test.each([
    [0, '0s'],
    [30_000, '30s'],
    [86_400_000, '24h0m0s'],
    [900_000, '15m0s'],
    [1500, '1.5s'],
    [10, '10ms'],
  ])('%d ms is written as Go would', (ms, text) => expect(formatGoDuration(ms)).toBe(text));

  test('what is written is read again', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e9, max: 1e9 }), (ms) => {
        expect(parseGoDuration(formatGoDuration(ms))).toBe(ms);
      }),
    );
  });
});
