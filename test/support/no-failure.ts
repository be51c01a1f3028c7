import { expect } from 'vitest';
import type { HammerResult } from './hammer.ts';

/** Every connection was answered, and there were more than so many. */
export function expectNoFailure(result: HammerResult, attempts = 50): void {
  expect(result.failures).toEqual([]);
  expect(result.attempts).toBeGreaterThan(attempts);
}
