// `npm test`: sets up what the tests need from Debian, runs the whole suite, and ends with its real counts.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Program → the Debian package that brings it. */
const TOOLS = new Map([
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['ipset', 'ipset'],
  ['ipvsadm', 'ipvsadm'],
  ['conntrack', 'conntrack'],
  ['ip', 'iproute2'],
  ['dig', 'bind9-dnsutils'],
  ['curl', 'curl'],
  ['openssl', 'openssl'],
  ['nc', 'netcat-openbsd'],
]);

process.exitCode = main(process.argv.slice(2));

function main(words: readonly string[]): number {
  const isRoot = process.getuid?.() === 0;
  const missing = [...TOOLS].filter(([tool]) => !isInstalled(tool));
  if (isRoot && missing.length > 0) install(missing.map(([, name]) => name));
  const absent = [...TOOLS].filter(([tool]) => !isInstalled(tool));
  if (!isRoot) {
    console.log(
      'Not root: the tests that need the kernel (network namespaces, nftables) are left out. Run as root for all.',
    );
  }
  if (absent.length > 0) {
    console.log(`Missing: ${absent.map(([tool, name]) => `${tool} (Debian package ${name})`).join(', ')}.`);
  }
  return runSuite(words);
}

function isInstalled(tool: string): boolean {
  const dirs = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return dirs.some((dir) => existsSync(join(dir, tool)));
}

function install(packages: readonly string[]): void {
  if (!isInstalled('apt-get')) {
    console.log(`No apt-get here: install ${packages.join(', ')} by hand.`);
    return;
  }
  console.log(`Installing ${packages.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const quiet = { env, stdio: ['ignore', 'ignore', 'inherit'] as const };
  for (const args of [
    ['-qq', 'update'],
    ['-qq', 'install', '-y', '--no-install-recommends', ...packages],
  ]) {
    const { status } = spawnSync('apt-get', args, { env: quiet.env, stdio: [...quiet.stdio] });
    if (status !== 0) console.log(`apt-get ${args.slice(0, 3).join(' ')} ended with ${status}`);
  }
}

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly numFailedTestSuites: number;
  readonly success: boolean;
}

function runSuite(words: readonly string[]): number {
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
    const report = readReport(file);
    // A file that could not be loaded, or an error outside of any test, has no test that failed.
    const failed = report ? Math.max(report.numFailedTests, report.success && status === 0 ? 0 : 1) : 1;
    const skipped = report ? report.numPendingTests + report.numTodoTests : 0;
    console.log(`${report?.numPassedTests ?? 0} passed, ${failed} failed, ${skipped} skipped`);
    return status === 0 && report !== undefined ? 0 : 1;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function readReport(file: string): Report | undefined {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Report) : undefined;
}
