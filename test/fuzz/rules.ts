// Sequences of changes against the resolver and the backends of the kernel: at every step, increments leave what one full sync would.

import * as fc from 'fast-check';
import { createMetrics } from '../../src/observe/metrics.ts';
import { checkSequence, sequences } from '../rules/sequences.ts';

export interface FuzzRulesResult {
  readonly cases: number;
  readonly steps: number;
  readonly seconds: number;
}

/** Rejects with the sequence that fails, and the seed that brings it back. */
export async function fuzzRules({
  cases,
  seed,
}: {
  readonly cases: number;
  readonly seed: number;
}): Promise<FuzzRulesResult> {
  const metrics = createMetrics();
  const begun = performance.now();
  let steps = 0;
  await fc.assert(
    fc.asyncProperty(sequences, async (sequence) => {
      steps += sequence.length;
      await checkSequence(sequence, metrics);
    }),
    { numRuns: cases, seed },
  );
  return { cases, steps, seconds: Math.round((performance.now() - begun) / 1000) };
}
