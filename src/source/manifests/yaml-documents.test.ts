import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { parseYamlDocuments } from './yaml-documents.ts';

test('the lines of fields in a large file are found by reading it once more, not once more for each', async () => {
  const text = Array.from({ length: 500 }, (_, i) => `kind: Service\nmetadata:\n  name: s${i}\nspec: {}\n`).join(
    '---\n',
  );
  const before = performance.now();
  const { documents } = parseYamlDocuments('large.yaml', text);
  const onceMs = performance.now() - before;
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  // What is held weakly stays until the end of the task that made it.
  await new Promise((resolve) => setTimeout(resolve, 0));
  collect();
  const start = performance.now();
  const lines = documents.map(({ lineOf }) => lineOf?.(['metadata', 'name']));
  expect(performance.now() - start).toBeLessThan(50 * (onceMs + 10));
  expect(lines).toEqual(Array.from({ length: 500 }, (_, i) => 5 * i + 3));
});
