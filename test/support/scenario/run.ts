// Runs one scenario in this process.

import type { Consumer, ScenarioResult, Start } from './consumer.ts';
import type { Scenario } from './parse.ts';
import { statesOf } from './state.ts';

/** Whether the scenario says anything that the consumer reads. */
export function concerns(scenario: Scenario, consumer: Consumer): boolean {
  if (scenario.only && consumer.mode && !scenario.only.includes(consumer.mode)) return false;
  return scenario.steps.some(({ tables }) => tables.some(({ kind }) => consumer.reads.includes(kind)));
}

/** Walks the steps: each is brought into force, and then every row of the tables that are read is held against it. */
export async function walk(
  scenario: Scenario,
  consumer: Pick<Consumer, 'name' | 'reads'>,
  start: Start,
): Promise<ScenarioResult> {
  const { steps, empty } = statesOf(scenario);
  const failures: string[] = [];
  let checked = 0;
  const running = await start(scenario, steps);
  try {
    for (const state of steps) {
      await running.update(state);
      for (const { kind, rows } of state.tables) {
        if (!consumer.reads.includes(kind)) continue;
        for (const row of rows) {
          const failure = await running.check(kind, row);
          checked++;
          if (failure !== undefined) failures.push(`${scenario.file}:${row.line}: ${consumer.name}: ${failure}`);
        }
      }
    }
    if (scenario.nothingRemains) {
      await running.update({ snapshot: empty, full: empty, tables: [] });
      const remains = await running.nothingRemains(empty);
      checked++;
      if (remains !== undefined) failures.push(`${scenario.file}: ${consumer.name}: finally: ${remains}`);
    }
  } finally {
    await running.stop();
  }
  return { checked, failures };
}
