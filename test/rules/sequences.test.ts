import * as fc from 'fast-check';
import { test } from 'vitest';
import { checkSequence, sequences } from './sequences.ts';

test('changes of Services, endpoints, policies, node and configuration leave what one full sync would, in every backend', async () => {
  await fc.assert(fc.asyncProperty(sequences, checkSequenceOf), { numRuns: 60 });
});

function checkSequenceOf(steps: Parameters<typeof checkSequence>[0]): Promise<void> {
  return checkSequence(steps);
}
