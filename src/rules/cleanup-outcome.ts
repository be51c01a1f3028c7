// What several cleanups came to.

import type { CleanupOutcome } from './backend.ts';

export const NOTHING: CleanupOutcome = { removed: [], problems: [] };

/** One after the other. */
export function all(outcomes: readonly CleanupOutcome[]): CleanupOutcome {
  return {
    removed: outcomes.flatMap(({ removed }) => removed),
    problems: outcomes.flatMap(({ problems }) => problems),
  };
}
