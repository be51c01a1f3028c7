import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { CONSUMERS } from './support/scenario/consumers.ts';
import { ipvsMissing } from './support/netns.ts';
import { parseScenario } from './support/scenario/parse.ts';
import { concerns } from './support/scenario/run.ts';

const DIR = fileURLToPath(new URL('./scenarios', import.meta.url));

const scenarios = readdirSync(DIR)
  .filter((name) => name.endsWith('.md'))
  .map((name) => parseScenario(join(DIR, name), readFileSync(join(DIR, name), 'utf8')));

// Where the kernel has no IPVS, the scenarios run on it in a virtual machine (npm run test:vm).
const here = CONSUMERS.filter(({ name }) => name !== 'kernel-ipvs' || ipvsMissing() === undefined);

for (const consumer of here) {
  const missing = consumer.missing();
  describe(`on ${consumer.name}${missing === undefined ? '' : ` (left out: ${missing})`}`, () => {
    afterAll(() => consumer.close?.());
    for (const scenario of scenarios.filter((candidate) => concerns(candidate, consumer))) {
      test.skipIf(missing !== undefined)(scenario.title, { timeout: 60_000 }, async () => {
        const { checked, failures } = await consumer.run(scenario);
        expect(failures).toEqual([]);
        expect(checked).toBeGreaterThan(0);
      });
    }
  });
}
