// A running `fairlead`, as a user starts it: a process with flags, a log on standard error, and signals.

import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { NODE } from './node-command.ts';
import { until } from './until.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/entry.js', import.meta.url));

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly part?: string;
  readonly [field: string]: unknown;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  /** Runs it in this network namespace. */
  readonly namespace?: string;
  /** Words of a program that starts it, put in front. */
  readonly wrap?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class FairleadProcess {
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #lines: LogLine[] = [];
  #stdout = '';
  #stderr = '';
  #rest = '';
  #exit: Exit | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(words: readonly string[], options: StartOptions = {}) {
    const command = [...(options.wrap ?? []), ...NODE, MAIN, ...words];
    const [file = '', ...args] = options.namespace ? ['ip', 'netns', 'exec', options.namespace, ...command] : command;
    this.#child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
    });
    this.#child.stdout?.on('data', (data: Buffer) => {
      this.#stdout += data.toString();
      this.#wake();
    });
    this.#child.stderr?.on('data', (data: Buffer) => this.#read(data.toString()));
    this.exited = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#exit = { code, signal };
        this.#wake();
        resolve(this.#exit);
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('it did not start');
    return this.#child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** What was logged so far (with `--logging-format json`). */
  get log(): readonly LogLine[] {
    return this.#lines;
  }

  /** Resolves with the first line that fits, among those there are and those to come; rejects after the bound, or when it has ended without one. */
  async logged(fits: (line: LogLine) => boolean, timeoutMs = 30_000): Promise<LogLine> {
    return until(
      () => {
        const line = this.#lines.find(fits);
        if (line || !this.#exit) return line;
        const { code, signal } = this.#exit;
        throw new Error(
          `it ended (code ${code}, signal ${signal}) without such a log line. There is:\n${this.#stderr}`,
        );
      },
      timeoutMs,
      () => `no such log line. There is:\n${this.#stderr}`,
      (wake) => {
        this.#waiting.add(wake);
        return () => this.#waiting.delete(wake);
      },
    );
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#child.kill(signal);
  }

  /** Ends it, if it has not ended; for `afterEach`. */
  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    await this.exited;
  }

  #read(text: string): void {
    this.#stderr += text;
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('{')) this.#lines.push(JSON.parse(line) as LogLine);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

/** Runs to the end and gives what came out. */
export async function runFairlead(
  words: readonly string[],
  options: StartOptions = {},
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const running = new FairleadProcess(words, options);
  const { code } = await running.exited;
  return { code, stdout: running.stdout, stderr: running.stderr };
}
