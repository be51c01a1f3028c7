// What a run of tests came to, from vitest's JSON report, and what a second look at its failures says.

import { sep } from 'node:path';

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface FailedTest {
  /** Absolute. */
  readonly file: string;
  /** Its groups' names and its own, as vitest joins them. */
  readonly name: string;
  /** What went wrong, of the first try. */
  readonly message: string;
}

export interface RunResult {
  readonly counts: Counts;
  readonly failures: readonly FailedTest[];
  /** Full names. */
  readonly passed: ReadonlySet<string>;
}

interface JsonReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly {
      readonly ancestorTitles: readonly string[];
      readonly title: string;
      readonly status: string;
      readonly failureMessages: readonly string[] | null;
    }[];
  }[];
}

/** Looking again at more than that would take long, and would find what is plain already: something is broken. */
const MOST_LOOKED_AT = 6;

/** `status` is vitest's own. No report, or a bad end without a failed test (a file that could not be loaded, an error outside of any test), is one failure. */
export function resultOf(report: string | undefined, status: number | null): RunResult {
  if (report === undefined) return { counts: { passed: 0, failed: 1, skipped: 0 }, failures: [], passed: new Set() };
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, success, testResults } = JSON.parse(
    report,
  ) as JsonReport;
  const tests = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults.map(({ ancestorTitles, title, status, failureMessages }) => ({
      file: name,
      name: [...ancestorTitles, title].join(' > '),
      status,
      message: failureMessages?.[0] ?? '',
    })),
  );
  return {
    counts: {
      passed: numPassedTests,
      failed: Math.max(numFailedTests, success && status === 0 ? 0 : 1),
      skipped: numPendingTests + numTodoTests,
    },
    failures: tests
      .filter(({ status }) => status === 'failed')
      .map(({ file, name, message }) => ({ file, name, message })),
    passed: new Set(tests.filter(({ status }) => status === 'passed').map(({ name }) => name)),
  };
}

export function addCounts(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/**
 * The failures that deserve a second look: of tests with real kernels, sockets and processes, which a machine that stalls
 * can fail. What is pure (`src/`) fails for a reason; so does what fails in numbers, or outside of any test.
 */
export function worthALook({ counts, failures }: RunResult): readonly FailedTest[] {
  if (counts.failed !== failures.length || failures.length > MOST_LOOKED_AT) return [];
  return failures.filter(({ file }) => file.includes(`${sep}test${sep}`));
}

/** For vitest's `--testNamePattern`: these tests and no others. */
export function patternOf(tests: readonly FailedTest[]): string {
  return `^(${tests.map(({ name }) => name.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&')).join('|')})$`;
}

/** The counts after the second look, and what it found unsteady: failed among all others, passed alone. */
export function afterSecondLook(
  first: RunResult,
  again: RunResult,
): { readonly counts: Counts; readonly unsteady: readonly FailedTest[] } {
  const unsteady = worthALook(first).filter(({ name }) => again.passed.has(name));
  const { passed, failed, skipped } = first.counts;
  return { counts: { passed: passed + unsteady.length, failed: failed - unsteady.length, skipped }, unsteady };
}

/** For the end of the output, where it is seen: an unsteady test is a fault of the test or of the program, and not yet understood. */
export function describeUnsteady(unsteady: readonly FailedTest[]): string {
  const lines = unsteady.map(({ name, message }) => `  ${name}\n    first: ${message.split('\n', 1).join('')}`);
  return `UNSTEADY: failed among the others, passed when run once more alone; each is a fault to be found:\n${lines.join('\n')}`;
}
