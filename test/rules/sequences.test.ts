import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkSequence, sequences } from './sequences.ts';

test('changes of Services, endpoints, policies, node and configuration leave what one full sync would, in every backend', async () => {
  await fc.assert(
    fc.asyncProperty(sequences, async (steps) => {
      await expect(checkSequence(steps)).resolves.toBeUndefined();
    }),
    { numRuns: 60 },
  );
});
