// Programs that run until they are stopped and tell what happens, a line at a time. Their standard input stays open for as long as we live, and they have to
// end when it does: a process that is killed cannot stop them.

import { spawn } from 'node:child_process';
import { toolPath } from './exec.ts';

export interface FollowHandlers {
  /** Each line of standard output, without its end. */
  readonly onLine: (line: string) => void;
  /** It ended, could not be started, or was stopped; called once, with what it said last on standard error. */
  readonly onEnd: (end: { readonly notFound: boolean; readonly stderr: string }) => void;
}

export interface Followed {
  /** Writes a line to its standard input; nothing happens where it has ended. */
  send(line: string): void;
  /** Ends the program and resolves when it has. Never rejects. */
  stop(): Promise<void>;
}

export type Follow = (file: string, args: readonly string[], handlers: FollowHandlers) => Followed;

const STDERR_KEPT = 1000;

export const systemFollow: Follow = (file, args, { onLine, onEnd }) => {
  const child = spawn(file, [...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: toolPath(), LC_ALL: 'C' },
  });
  // That it closes with the program is no error.
  child.stdin.on('error', () => {});
  let rest = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = `${rest}${text}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = `${stderr}${text}`.slice(-STDERR_KEPT)));
  const ended = new Promise<void>((resolve) => {
    let told = false;
    const end = (notFound: boolean): void => {
      if (told) return;
      told = true;
      onEnd({ notFound, stderr: stderr.trim() });
      resolve();
    };
    child.once('error', (error) => end('code' in error && error.code === 'ENOENT'));
    child.once('close', () => end(false));
  });
  // It watches beside the work; it does not keep the process alive.
  child.unref();
  return {
    send: (line) => {
      if (child.stdin.writable) child.stdin.write(`${line}\n`);
    },
    stop: () => {
      child.ref();
      child.kill('SIGKILL');
      return ended;
    },
  };
};
