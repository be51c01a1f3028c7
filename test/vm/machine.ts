// One machine, from its start to its end.

import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Disks } from './disk.ts';
import type { Kernel } from './kernel.ts';

export interface MachineOptions {
  readonly kernel: Kernel;
  readonly disks: Disks;
  readonly sources: string;
  /** A folder for what the machine writes; the caller removes it. */
  readonly work: string;
  /** It is ended after this, whatever it does. */
  readonly limitMs: number;
  /** What the command prints, as it comes. */
  readonly onOutput: (text: string) => void;
}

export type MachineEnd =
  /** The command ended by itself. `report`: the text of /tmp/report.json, when it left one. */
  | { readonly kind: 'ended'; readonly status: number; readonly report: string | undefined }
  /** A panic, a hang, or an end before its time; with the last lines of the console. */
  | { readonly kind: 'broken'; readonly reason: string; readonly console: string };

const MEMORY_MIB = 3072;

export async function runMachine(options: MachineOptions): Promise<MachineEnd> {
  const { work } = options;
  const files = { console: join(work, 'console'), output: join(work, 'output'), report: join(work, 'report') };
  for (const file of Object.values(files)) closeSync(openSync(file, 'w'));
  const child = spawn('qemu-system-x86_64', qemuArguments(options, files), { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaint = '';
  const complain = (data: Buffer): void => {
    complaint += data.toString();
  };
  child.stdout.on('data', complain);
  child.stderr.on('data', complain);
  const follow = follower(files.output, options.onOutput);
  const following = setInterval(follow, 100);
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, options.limitMs);
  const stop = (): void => void child.kill('SIGKILL');
  process.once('exit', stop);
  try {
    const reason = await new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(`qemu-system-x86_64: ${error.message}`));
      child.once('close', (code, signal) => resolve(`the machine ended (${signal ?? code}) before it reported`));
    });
    follow();
    const end = readReport(files.report);
    if (end) return end;
    const console = `${complaint}${readFileSync(files.console, 'utf8')}`.split('\n').slice(-40).join('\n');
    return { kind: 'broken', reason: late ? `no end after ${options.limitMs / 1000} s` : reason, console };
  } finally {
    clearTimeout(limit);
    clearInterval(following);
    process.off('exit', stop);
  }
}

function qemuArguments(
  { kernel, disks, sources }: MachineOptions,
  files: { readonly console: string; readonly output: string; readonly report: string },
): readonly string[] {
  // A disk is shared with other runs: what is written goes to a file of this run's own, and is forgotten.
  const disk = (file: string): string[] => ['-drive', `file=${file},format=raw,if=virtio,snapshot=on,cache=unsafe`];
  const port = (name: string, file: string): string[] => [
    '-chardev',
    `file,id=${name},path=${file}`,
    '-device',
    `virtserialport,chardev=${name},name=${name}`,
  ];
  const words =
    '-nodefaults -no-user-config -display none -no-reboot -accel tcg,thread=multi -cpu max -smp 2 -device virtio-serial-pci';
  return words
    .split(' ')
    .concat(
      ['-m', String(MEMORY_MIB), '-kernel', kernel.image, '-initrd', disks.initramfs],
      ['-append', 'console=ttyS0 loglevel=5 panic=-1 mitigations=off', '-serial', `file:${files.console}`],
      disk(disks.base),
      disk(sources),
      port('output', files.output),
      port('report', files.report),
    );
}

/** Passes on what was added to the file since the last call. */
function follower(file: string, onText: (text: string) => void): () => void {
  const buffer = Buffer.alloc(65_536);
  let at = 0;
  return () => {
    const handle = openSync(file, 'r');
    try {
      for (let size; (size = readSync(handle, buffer, 0, buffer.length, at)) > 0; at += size) {
        onText(buffer.toString('utf8', 0, size));
      }
    } finally {
      closeSync(handle);
    }
  };
}

/** The status in the first line, what the run reported, and a last line that says that it is whole. */
function readReport(file: string): MachineEnd | undefined {
  const match = /^(\d+)\n([\s\S]*)\nend of report\n$/.exec(readFileSync(file, 'utf8'));
  if (!match) return undefined;
  return { kind: 'ended', status: Number(match[1]), report: match[2]?.trim() || undefined };
}
