import { expect, test } from 'vitest';
import { fuzzHttp } from '../fuzz/http.ts';

test('100,000 malformed requests: no crash, no hang, nothing smuggled, memory flat', async () => {
  const result = await fuzzHttp({ cases: 100_000, seed: 20_261_121 });
  expect(result.cases).toBe(100_000);
  expect(result.statuses['200']).toBeGreaterThan(10_000);
  expect(result.statuses['400']).toBeGreaterThan(10_000);
  expect(result.statuses).toHaveProperty('431');
  expect(result.statuses).not.toHaveProperty('500');
  expect(result.heapGrowthBytes).toBeLessThan(8 * 1024 * 1024);
}, 120_000);
