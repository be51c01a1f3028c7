// `npm test`: sets up what the tests need from Debian, runs the whole suite, that in the virtual machine included, and ends with its real counts.
// `npm test -- FILTER ...`: those test files alone, and no machine.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeTools, installPackages, missingTools, type Tools } from './support/debian-tools.ts';
import { addCounts, countsOf, type Counts } from './support/test-counts.ts';
import { missingMachine, runTestsInMachine } from './vm/tests.ts';

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
  const suite = runSuite(words);
  const inMachine = words.length === 0 ? await runMachineTests(isRoot) : NOTHING;
  const { passed, failed, skipped } = addCounts(suite, inMachine);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 ? 0 : 1;
}

function runSuite(words: readonly string[]): Counts {
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
        ...words,
      ],
      { stdio: 'inherit', env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } },
    );
    return countsOf(existsSync(file) ? readFileSync(file, 'utf8') : undefined, status);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** As an ordinary user a machine that cannot be had is left out; as root, where it could be installed, that is a failure. */
async function runMachineTests(isRoot: boolean): Promise<Counts> {
  const problem = missingMachine();
  if (problem === undefined) {
    console.log('The tests in the virtual machine:');
    return runTestsInMachine([]);
  }
  console.log(`The tests in the virtual machine are left out: ${problem}`);
  return { ...NOTHING, failed: isRoot && process.arch === 'x64' ? 1 : 0 };
}
