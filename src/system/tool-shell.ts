// Runs tools through a shell that was started once. Node starts a child by fork, which copies the page tables of the whole process: 2 ms
// in a small one, 20 ms beside 300 MB and 35 ms beside 600 MB, during all of which nothing else runs. A shell is small: its fork
// takes half a millisecond whatever our size. Where there is none, and for what it is not made for, tools are started directly.

import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { killGroup, toolPath, type Exec, type ExecOptions, type ExecResult } from './exec.ts';

/** Shells there are at most: a second one for what runs while the first is busy. What comes beyond is started directly. */
const MOST_SHELLS = 2;
/** A shell may read its input a byte at a time; a larger input is worth a process of its own. */
const LONGEST_INPUT = 32_768;
/** As shells report a program that is not there (POSIX, 2.8.2), and from where on one that a signal ended. */
const NOT_FOUND = 127;
const SIGNALLED = 128;

export class ToolShells implements Exec {
  readonly #direct: Exec;
  readonly #shells = new Set<Shell>();
  readonly #command: readonly string[];
  #usable = true;

  /** `direct` runs what no shell can take. `command` starts a shell that reads commands from its standard input. */
  constructor(direct: Exec, command: readonly string[] = ['sh', '-s']) {
    this.#direct = direct;
    this.#command = command;
  }

  async run(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { input = '', timeoutMs } = options;
    const shell = typeof input === 'string' && isSmall(input) ? this.#free() : undefined;
    const result = typeof input === 'string' ? await shell?.run([file, ...args], input, timeoutMs) : undefined;
    if (result === 'no-shell') this.#usable = false;
    else if (result) return result;
    return this.#direct.run(file, args, options);
  }

  /** Ends the shells; what still runs is killed. Whatever is run from then on is started directly. */
  async close(): Promise<void> {
    this.#usable = false;
    await Promise.all([...this.#shells].map((shell) => shell.end()));
  }

  #free(): Shell | undefined {
    if (!this.#usable) return undefined;
    for (const shell of this.#shells) if (!shell.busy) return shell;
    if (this.#shells.size >= MOST_SHELLS) return undefined;
    const shell = new Shell(this.#command, () => this.#shells.delete(shell));
    this.#shells.add(shell);
    return shell;
  }
}

function isSmall(input: string): boolean {
  // A here-document ends with a line end.
  return input === '' || (input.length <= LONGEST_INPUT && input.endsWith('\n') && !input.includes('\0'));
}

interface Run {
  readonly end: string;
  readonly resolve: (result: ExecResult | 'no-shell') => void;
  readonly timer: NodeJS.Timeout | undefined;
  timedOut: boolean;
}

class Shell {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #stdout = new Output();
  readonly #stderr = new Output();
  readonly #closed: Promise<void>;
  #run: Run | undefined;
  #runs = 0;

  constructor([file = 'sh', ...args]: readonly string[], onEnd: () => void) {
    const child = spawn(file, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: toolPath(), LC_ALL: 'C' },
      // A group of its own, so that a tool which takes too long is killed with it.
      detached: true,
    });
    this.#child = child;
    child.stdin.on('error', () => {});
    for (const [stream, output] of [
      [child.stdout, this.#stdout],
      [child.stderr, this.#stderr],
    ] as const) {
      stream.on('data', (chunk: Buffer) => {
        output.add(chunk);
        this.#look();
      });
    }
    this.#closed = new Promise((resolve) => {
      const ended = (missing: boolean): void => {
        onEnd();
        this.#finish(missing ? 'no-shell' : 'shell-ended');
        resolve();
      };
      child.once('error', () => ended(true));
      child.once('close', () => ended(false));
    });
    this.#keepAlive(false);
  }

  get busy(): boolean {
    return this.#run !== undefined;
  }

  run(words: readonly string[], input: string, timeoutMs: number | undefined): Promise<ExecResult | 'no-shell'> {
    return new Promise((resolve) => {
      const end = unusedEnd(++this.#runs, input);
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => this.#timeOut(), timeoutMs);
      this.#run = { end, resolve, timer, timedOut: false };
      this.#keepAlive(true);
      const from = input === '' ? `</dev/null\n` : `<<'${end}'\n${input}${end}\n`;
      this.#child.stdin.write(
        `${words.map(quoted).join(' ')} ${from}printf '${end} %3d\\n' $?; printf '${end} %3d\\n' 0 >&2\n`,
      );
    });
  }

  async end(): Promise<void> {
    this.#keepAlive(true);
    if (this.#run) this.#kill();
    else this.#child.stdin.end();
    await this.#closed;
  }

  #timeOut(): void {
    if (this.#run) this.#run.timedOut = true;
    this.#kill();
  }

  #kill(): void {
    if (this.#child.pid !== undefined) killGroup(this.#child.pid);
  }

  /** Both streams have come to the mark behind the tool. */
  #look(): void {
    const { end } = this.#run ?? {};
    if (end === undefined) return;
    const code = this.#stdout.codeAfter(end);
    if (code !== undefined && this.#stderr.codeAfter(end) !== undefined) this.#finish(code);
  }

  #finish(how: number | 'no-shell' | 'shell-ended'): void {
    const run = this.#run;
    if (!run) return;
    this.#run = undefined;
    clearTimeout(run.timer);
    this.#keepAlive(false);
    const length = how === 'shell-ended' ? 0 : markLength(run.end);
    const stdout = this.#stdout.take(length);
    const stderr = this.#stderr.take(length);
    if (how === 'no-shell') {
      run.resolve(how);
      return;
    }
    run.resolve({
      exitCode: how === 'shell-ended' || how > SIGNALLED ? -1 : how,
      stdout,
      stderr,
      notFound: how === NOT_FOUND,
      timedOut: run.timedOut,
    });
  }

  /** Only while a tool runs. */
  #keepAlive(wanted: boolean): void {
    for (const each of [this.#child, ...this.#child.stdio]) {
      if (each && 'ref' in each && 'unref' in each) callRef(each, wanted);
    }
  }
}

function callRef(handle: { readonly ref: unknown; readonly unref: unknown }, wanted: boolean): void {
  const change = wanted ? handle.ref : handle.unref;
  if (typeof change === 'function') change.call(handle);
}

/** The bytes of one stream since the last tool. */
class Output {
  #chunks: Buffer[] = [];
  #tail = '';

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#tail = (this.#tail + chunk.toString('latin1')).slice(-MARK_LONGEST);
  }

  codeAfter(end: string): number | undefined {
    const mark = this.#tail.slice(-markLength(end));
    return mark.startsWith(`${end} `) && mark.endsWith('\n') ? Number(mark.slice(end.length)) : undefined;
  }

  /** What there is, without that many bytes at its end. */
  take(without: number): string {
    const whole = Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#tail = '';
    return whole.toString('utf8', 0, Math.max(0, whole.length - without));
  }
}

const MARK_LONGEST = 64;

/** The word, a blank, three places for the code, a line end. */
function markLength(end: string): number {
  return end.length + 5;
}

/** A word that stands in no line of the input. */
function unusedEnd(number: number, input: string): string {
  let end = `END-OF-TOOL-${number}`;
  while (input.includes(end)) end += '+';
  return end;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
