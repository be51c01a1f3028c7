// The short form of `npm run bench -- soak`.

import { expect, test } from 'vitest';
import { soak } from '../bench/soak.ts';

test('clients of every kind see no error while endpoints, annotations, certificates and Ingresses change 20 times a second', async () => {
  const { changes, answers, errors, heap } = await soak(8);
  expect(errors).toEqual({});
  expect(Object.keys(answers).sort()).toEqual([
    'h2',
    'https',
    'https, new connections',
    'keep-alive',
    'upload',
    'websocket',
  ]);
  expect(changes).toBeGreaterThan(20);
  expect(heap[1] - heap[0]).toBeLessThan(30);
}, 60_000);
