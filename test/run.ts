// `npm test`: sets up what the tests need from Debian, runs the whole suite, that in the virtual machine included, and ends with its real counts.
// `npm test -- FILTER ...`: those test files alone, and no machine. What fails in a test of real sockets and kernels is run once more, alone, and
// named as unsteady when it passes then.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeTools, installPackages, missingTools, type Tools } from './support/debian-tools.ts';
import {
  addCounts,
  afterSecondLook,
  describeUnsteady,
  patternOf,
  resultOf,
  worthALook,
  type Counts,
  type FailedTest,
  type RunResult,
} from './support/test-report.ts';
import { missingMachine, testInMachine } from './vm/tests.ts';

const TOOLS: Tools = new Map([
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['ipset', 'ipset'],
  ['ipvsadm', 'ipvsadm'],
  ['conntrack', 'conntrack'],
  ['ip', 'iproute2'],
  ['dig', 'bind9-dnsutils'],
  ['kdig', 'knot-dnsutils'],
  ['dnsperf', 'dnsperf'],
  ['curl', 'curl'],
  ['openssl', 'openssl'],
  ['nc', 'netcat-openbsd'],
]);

const NOTHING: Counts = { passed: 0, failed: 0, skipped: 0 };

/** Of what was found unsteady, to be said at the end. */
const unsteady: FailedTest[] = [];

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const isRoot = process.getuid?.() === 0;
  if (isRoot && missingTools(TOOLS).size > 0) installPackages([...missingTools(TOOLS).values()]);
  if (!isRoot) {
    console.log(
      'Not root: the tests that need the kernel (network namespaces, nftables) are left out. Run as root for all.',
    );
  }
  const absent = missingTools(TOOLS);
  if (absent.size > 0) console.log(`Missing: ${describeTools(absent)}.`);
  const suite = await lookedAtTwice((again) => runSuite(again ? filesOf(again) : words, again));
  const inMachine = words.length === 0 ? await runMachineTests(isRoot) : NOTHING;
  const { passed, failed, skipped } = addCounts(suite, inMachine);
  if (unsteady.length > 0) console.log(describeUnsteady(unsteady));
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 ? 0 : 1;
}

/** `run` is asked for all, and then for what failed, if that deserves it. */
async function lookedAtTwice(
  run: (again: readonly FailedTest[] | undefined) => RunResult | Promise<RunResult>,
): Promise<Counts> {
  const first = await run(undefined);
  const again = worthALook(first);
  if (again.length === 0) return first.counts;
  console.log(`Once more, alone: ${again.map(({ name }) => name).join('; ')}`);
  const after = afterSecondLook(first, await run(again));
  unsteady.push(...after.unsteady);
  return after.counts;
}

function filesOf(tests: readonly FailedTest[]): readonly string[] {
  return [...new Set(tests.map(({ file }) => file))];
}

function runSuite(words: readonly string[], only: readonly FailedTest[] | undefined): RunResult {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-test-'));
  const file = join(dir, 'report.json');
  try {
    const { status } = spawnSync(
      'vitest',
      [
        'run',
        '--config=test/vitest.config.ts',
        '--reporter=default',
        '--reporter=json',
        `--outputFile.json=${file}`,
        ...(only ? ['--testNamePattern', patternOf(only)] : []),
        ...words,
      ],
      { stdio: 'inherit', env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } },
    );
    return resultOf(existsSync(file) ? readFileSync(file, 'utf8') : undefined, status);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** As an ordinary user a machine that cannot be had is left out; as root, where it could be installed, that is a failure. */
async function runMachineTests(isRoot: boolean): Promise<Counts> {
  const problem = missingMachine();
  if (problem === undefined) {
    console.log('The tests in the virtual machine:');
    return lookedAtTwice((again) => testInMachine([], again && patternOf(again)));
  }
  console.log(`The tests in the virtual machine are left out: ${problem}`);
  return { ...NOTHING, failed: isRoot && process.arch === 'x64' ? 1 : 0 };
}
