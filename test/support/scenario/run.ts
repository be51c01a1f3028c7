// Runs one scenario in this process.

import type { Consumer, Running, ScenarioResult, Start } from './consumer.ts';
import { isNothing } from './expect.ts';
import type { Row, Scenario, TableKind } from './parse.ts';
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
        failures.push(...(await checkRows(scenario, consumer.name, running, kind, rows)));
        checked += rows.length;
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

/** Rows that wait for silence do so while the others are tried, one after another: those may be served in turns. */
async function checkRows(
  scenario: Scenario,
  consumer: string,
  running: Running,
  kind: TableKind,
  rows: readonly Row[],
): Promise<readonly string[]> {
  const check = async (row: Row): Promise<readonly string[]> => {
    const failure = await running.check(kind, row);
    return failure === undefined ? [] : [`${scenario.file}:${row.line}: ${consumer}: ${failure}`];
  };
  const isSilent = (row: Row): boolean => row.cells['verdict'] === 'DROP' || isNothing(row.cells['verdict']);
  const silent = Promise.all(rows.filter(isSilent).map(check));
  const failures: string[] = [];
  try {
    for (const row of rows) if (!isSilent(row)) failures.push(...(await check(row)));
  } finally {
    failures.push(...(await silent).flat());
  }
  return failures;
}
