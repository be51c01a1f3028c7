// The counts of a run of tests, from vitest's JSON report.

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly success: boolean;
}

/** `status` is vitest's own. No report, or a bad end without a failed test (a file that could not be loaded, an error outside of any test), is one failure. */
export function countsOf(report: string | undefined, status: number | null): Counts {
  if (report === undefined) return { passed: 0, failed: 1, skipped: 0 };
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, success } = JSON.parse(report) as Report;
  return {
    passed: numPassedTests,
    failed: Math.max(numFailedTests, success && status === 0 ? 0 : 1),
    skipped: numPendingTests + numTodoTests,
  };
}

export function addCounts(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}
