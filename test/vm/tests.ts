// Runs the tests (`*.vm.ts`) or a command in a virtual machine, and says how they ended.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../src/lib/message-of.ts';
import { describeTools, installPackages, missingTools, type Tools } from '../support/debian-tools.ts';
import { resultOf, type RunResult } from '../support/test-report.ts';
import { baseDisks, sourceDisk } from './disk.ts';
import { fetchKernel } from './kernel.ts';
import { runMachine, type MachineEnd } from './machine.ts';

/** What makes the machine, and what it gets of this host. */
const TOOLS: Tools = new Map([
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['busybox', 'busybox-static'],
  ['mkfs.ext4', 'e2fsprogs'],
  ['kmod', 'kmod'],
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['ipset', 'ipset'],
  ['ipvsadm', 'ipvsadm'],
  ['conntrack', 'conntrack'],
  ['ip', 'iproute2'],
  ['sysctl', 'procps'],
  ['curl', 'curl'],
  ['nc', 'netcat-openbsd'],
]);

/** A machine that takes longer is broken. */
const LIMIT_MS = Number(process.env['FAIRLEAD_VM_LIMIT_S'] ?? 1200) * 1000;

const VITEST = 'node node_modules/vitest/vitest.mjs run --config=test/vm/vitest.config.ts';

/** Why there can be no machine here; undefined when there can. As root, what is missing is installed first. */
export function missingMachine(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return `it is for Linux on amd64, not ${process.arch}`;
  if (process.getuid?.() === 0 && missingTools(TOOLS).size > 0) installPackages([...missingTools(TOOLS).values()]);
  const missing = missingTools(TOOLS);
  if (missing.size > 0) return `there is no ${describeTools(missing)}`;
  try {
    fetchKernel();
    return undefined;
  } catch (error) {
    return `Debian's kernel cannot be had: ${messageOf(error)}`;
  }
}

/** Runs the tests whose file names contain one of `filters`, or all; of these, those whose names match `pattern`. */
export async function testInMachine(filters: readonly string[], pattern?: string): Promise<RunResult> {
  const words = [...(pattern === undefined ? [] : ['--testNamePattern', pattern]), ...filters];
  const end = await boot(
    `${VITEST} --reporter=verbose --reporter=json --outputFile.json=/tmp/report.json ${words.map(quote).join(' ')}`,
  );
  if (end.kind === 'broken') {
    console.log(`The virtual machine: ${end.reason}. Its console:\n${end.console}`);
    return resultOf(undefined, null);
  }
  return resultOf(end.report, end.status);
}

/** Gives the status of the command. */
export async function runCommandInMachine(text: string): Promise<number> {
  const end = await boot(text);
  if (end.kind === 'ended') return end.status;
  console.log(`The virtual machine: ${end.reason}. Its console:\n${end.console}`);
  return 1;
}

async function boot(text: string): Promise<MachineEnd> {
  const work = mkdtempSync(join(tmpdir(), 'fairlead-vm-'));
  const removeWork = (): void => rmSync(work, { recursive: true, force: true });
  const leave = (): void => process.exit(130);
  process.once('exit', removeWork);
  process.once('SIGINT', leave);
  process.once('SIGTERM', leave);
  try {
    const kernel = fetchKernel();
    const disks = baseDisks(kernel);
    const sources = sourceDisk(work, { '.vm-command': `${text}\n`, '.vm-environment': environment() });
    const onOutput = (output: string): void => void process.stdout.write(output);
    return await runMachine({ kernel, disks, sources, work, limitMs: LIMIT_MS, onOutput });
  } catch (error) {
    return { kind: 'broken', reason: messageOf(error), console: '' };
  } finally {
    removeWork();
    process.off('exit', removeWork);
    process.off('SIGINT', leave);
    process.off('SIGTERM', leave);
  }
}

/** What tests may want to know of: that they are in the machine, how slow it is, and what the user set for them. */
function environment(): string {
  const ours = Object.entries(process.env).filter(([name]) => name.startsWith('FAIRLEAD_'));
  const all = [
    ['FAIRLEAD_TEST_SLOWNESS', '5'],
    ['FAIRLEAD_IN_VM', '1'],
    // Node's stripper of types is WebAssembly, whose code V8 replaces while it runs. On the emulated processors that went wrong in one start of five on a
    // busy machine (SIGSEGV, or SIGTRAP of a check of V8 in Runtime_WasmTriggerTierUp); on real ones never.
    ['FAIRLEAD_TEST_NODE_FLAGS', '--no-wasm-dynamic-tiering'],
    ...ours,
  ];
  return all.map(([name, value = '']) => `export ${name}=${quote(value)}\n`).join('');
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
