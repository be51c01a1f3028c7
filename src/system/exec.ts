// Running other programs: `nft`, `iptables-restore`, `conntrack`, `ip`. The only door to child processes for tools.

import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:buffer';
import type { Readable } from 'node:stream';
import { messageOf } from '../lib/message-of.ts';

export interface ExecOptions {
  /** Written to standard input, which is then closed. */
  readonly input?: string | Uint8Array;
  /** It is killed then. */
  readonly timeoutMs?: number;
}

export interface ExecResult {
  /** -1 when the program could not be started or was ended by a signal. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The program is not on this machine. */
  readonly notFound: boolean;
  readonly timedOut: boolean;
}

export interface Exec {
  /** Runs to the end. A failure is a result, not an exception. */
  run(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult>;
}

/** Distributions keep these tools in /usr/sbin, which is not on every user's PATH. */
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Where tools are looked for. */
export function toolPath(): string {
  return [process.env['PATH'] ?? '', ...SBIN].join(':');
}

/** Longer output than this cannot be one string; what comes beyond is left out. */
const LONGEST_OUTPUT = constants.MAX_STRING_LENGTH;

export const systemExec: Exec = {
  run(file, args, { input, timeoutMs } = {}) {
    return new Promise((resolve) => {
      let timedOut = false;
      const notStarted = (error: unknown): void => {
        const notFound = error instanceof Error && 'code' in error && error.code === 'ENOENT';
        resolve({ exitCode: -1, stdout: '', stderr: `${messageOf(error)}\n`, notFound, timedOut: false });
      };
      let child: ChildProcess;
      try {
        child = spawn(file, args, {
          stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
          env: { ...process.env, PATH: toolPath(), LC_ALL: 'C' },
          // A group of its own, to be killed with what it has started; and what a terminal interrupts is not a transaction.
          detached: true,
        });
      } catch (error) {
        // Some of what keeps it from starting is thrown: no memory, too many words.
        notStarted(error);
        return;
      }
      const stdout = collect(child.stdout);
      const stderr = collect(child.stderr);
      const kill = (): void => {
        timedOut = true;
        if (child.pid !== undefined) killGroup(child.pid);
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(kill, timeoutMs);
      child.once('error', (error) => {
        clearTimeout(timer);
        notStarted(error);
      });
      child.once('close', (code) => {
        clearTimeout(timer);
        resolve({ exitCode: code ?? -1, stdout: stdout(), stderr: stderr(), notFound: false, timedOut });
      });
      // It may end before it has read everything.
      child.stdin?.on('error', () => {});
      child.stdin?.end(input);
    });
  },
};

/** What comes out of the stream until the call. */
function collect(stream: Readable | null): () => string {
  const chunks: Buffer[] = [];
  let length = 0;
  stream?.on('data', (chunk: Buffer) => {
    if (length + chunk.length > LONGEST_OUTPUT) return;
    length += chunk.length;
    chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString();
}

/** Kills a process that leads a group, and all in it. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}
