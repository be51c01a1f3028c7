// One way to hold a scenario against a part of the program.

import type { Snapshot } from '../../../src/model/snapshot.ts';
import type { RulesMode } from '../../../src/rules/backend.ts';
import type { Row, Scenario, TableKind } from './parse.ts';
import type { State } from './state.ts';

export interface Consumer {
  readonly name: string;
  readonly reads: readonly TableKind[];
  /** The mode of the rules that it holds against; undefined when it is none of them. */
  readonly mode?: RulesMode;
  /** Why it cannot run here; undefined when it can. */
  readonly missing: () => string | undefined;
  readonly run: (scenario: Scenario) => Promise<ScenarioResult>;
  /** Gives up what its runs share. */
  readonly close?: () => Promise<void>;
}

export interface ScenarioResult {
  readonly checked: number;
  /** `file:line: consumer: what is wrong`. */
  readonly failures: readonly string[];
}

/** Begins a run. All states are known at the start, so that a world can be built for them. */
export type Start = (scenario: Scenario, states: readonly State[]) => Promise<Running>;

export interface Running {
  update(state: State): Promise<void>;
  /** What is wrong with the row in a sentence, or undefined. */
  check(kind: TableKind, row: Row): Promise<string | undefined>;
  /** Everything of the scenario is gone; what of it is still there, in a sentence. */
  nothingRemains(empty: Snapshot): Promise<string | undefined>;
  stop(): Promise<void>;
}

/** Says how two sets differ, or undefined. */
export function setDifference(expected: readonly string[], actual: readonly string[]): string | undefined {
  const a = [...expected].sort().join(', ');
  const b = [...actual].sort().join(', ');
  return a === b ? undefined : `expected ${a || 'nothing'}, got ${b || 'nothing'}`;
}
