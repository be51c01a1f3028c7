// The scenarios that the host's kernel may not be able to hold: all of them on IPVS, those with SCTP on every kind of rules, with real packets.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { CONSUMERS } from '../support/scenario/consumers.ts';
import { hasSctp } from '../support/scenario/kernel-world.ts';
import { parseScenario } from '../support/scenario/parse.ts';
import { concerns } from '../support/scenario/run.ts';

const DIR = fileURLToPath(new URL('../scenarios', import.meta.url));

/** Kinds of rules that the host's kernel has no modules for. */
const ALL_ON: ReadonlySet<string> = new Set(['kernel-ipvs']);

const scenarios = readdirSync(DIR)
  .filter((name) => name.endsWith('.md'))
  .map((name) => ({ text: readFileSync(join(DIR, name), 'utf8'), file: join(DIR, name) }));

test('SCTP has sockets here', () => {
  expect(hasSctp()).toBe(true);
});

for (const consumer of CONSUMERS.filter(({ name }) => name === 'kernel' || name.startsWith('kernel-'))) {
  describe.concurrent(`on ${consumer.name}`, () => {
    afterAll(() => consumer.close?.());
    test('can be run', () => {
      expect(consumer.missing()).toBe(undefined);
    });
    for (const { file, text } of scenarios) {
      if (!ALL_ON.has(consumer.name) && !text.includes('/SCTP |')) continue;
      const scenario = parseScenario(file, text);
      if (!concerns(scenario, consumer)) continue;
      test(scenario.title, async ({ expect }) => {
        const { checked, failures } = await consumer.run(scenario);
        expect(failures).toEqual([]);
        expect(checked).toBeGreaterThan(0);
      });
    }
  });
}
