import { describe, expect, test } from 'vitest';
import { afterSecondLook, describeUnsteady, patternOf, resultOf, worthALook, type RunResult } from './test-report.ts';

/** As vitest writes it: names of tests by file, those that failed with a `!` in front. */
function report(files: Readonly<Record<string, readonly string[]>>, more: { success?: boolean } = {}): string {
  const testResults = Object.entries(files).map(([name, tests]) => ({
    name,
    assertionResults: tests.map((each) =>
      each.startsWith('!')
        ? {
            ancestorTitles: ['group'],
            title: each.slice(1),
            status: 'failed',
            failureMessages: ['Error: reset\n at line 1'],
          }
        : { ancestorTitles: ['group'], title: each, status: 'passed', failureMessages: [] },
    ),
  }));
  const all = testResults.flatMap(({ assertionResults }) => assertionResults);
  const numFailedTests = all.filter(({ status }) => status === 'failed').length;
  const success = more.success ?? numFailedTests === 0;
  return JSON.stringify({
    numPassedTests: all.length - numFailedTests,
    numFailedTests,
    numPendingTests: 0,
    numTodoTests: 0,
    success,
    testResults,
  });
}

function run(files: Readonly<Record<string, readonly string[]>>): RunResult {
  const text = report(files);
  return resultOf(text, text.includes('"failed"') ? 1 : 0);
}

describe('the counts', () => {
  test('are those of the report', () => {
    expect(run({ '/x/test/a.test.ts': ['one', '!two', 'three'] }).counts).toEqual({ passed: 2, failed: 1, skipped: 0 });
  });

  test('have a failure where there is no report, where a file did not load and where vitest says so', () => {
    expect(resultOf(undefined, null).counts.failed).toBe(1);
    expect(resultOf(report({ '/x/test/a.test.ts': [] }, { success: false }), 1).counts.failed).toBe(1);
    expect(resultOf(report({ '/x/test/a.test.ts': ['one'] }), 1).counts.failed).toBe(1);
  });
});

describe('a second look', () => {
  const first = run({ '/x/test/a.test.ts': ['one', '!two (quick)'], '/x/src/b.test.ts': ['!pure'] });

  test('is for tests of the world, not for pure ones', () => {
    expect(worthALook(first).map(({ name }) => name)).toEqual(['group > two (quick)']);
  });

  test('is not for what fails in numbers, nor beside what failed outside of any test', () => {
    const many = Array.from({ length: 7 }, (_, i) => `!test ${i}`);
    expect(worthALook(run({ '/x/test/a.test.ts': many }))).toEqual([]);
    expect(worthALook(resultOf(report({ '/x/test/a.test.ts': [] }, { success: false }), 1))).toEqual([]);
  });

  test('asks for exactly those tests', () => {
    const pattern = new RegExp(patternOf(worthALook(first)));
    expect(['two (quick)', 'two', 'two (quick) and more'].map((name) => pattern.test(`group > ${name}`))).toEqual([
      true,
      false,
      false,
    ]);
  });

  test('counts what passes then, names it with its first failure, and leaves failed what fails again', () => {
    const passes = run({ '/x/test/a.test.ts': ['two (quick)'] });
    const after = afterSecondLook(first, passes);
    expect(after.counts).toEqual({ passed: 2, failed: 1, skipped: 0 });
    expect(describeUnsteady(after.unsteady)).toContain('two (quick)\n    first: Error: reset');
    const fails = run({ '/x/test/a.test.ts': ['!two (quick)'] });
    expect(afterSecondLook(first, fails)).toEqual({ counts: first.counts, unsteady: [] });
    expect(afterSecondLook(first, resultOf(undefined, null))).toEqual({ counts: first.counts, unsteady: [] });
  });
});
