import { expect, test } from 'vitest';
import { fuzzDns } from '../fuzz/dns.ts';

test('100,000 malformed packets: nothing throws, nothing hangs, memory stays flat', { timeout: 120_000 }, async () => {
  const result = await fuzzDns({ cases: 100_000, seed: 20261121 });
  expect(result.answered + result.dropped).toBe(100_000);
  // Both kinds of outcome are well covered, or the packets are not what they should be.
  expect(result.answered).toBeGreaterThan(20_000);
  expect(result.dropped).toBeGreaterThan(5_000);
  expect(result.slowestMs).toBeLessThan(1000);
  // The finished answers of two sockets are kept, within bounds.
  expect(result.heapGrowthBytes).toBeLessThan(16 << 20);
});
