// A module run in a process of its own, for what would cost this one memory for good: one question, one answer.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface ChildModuleOptions {
  readonly timeoutMs: number;
}

const STDERR_KEPT = 2000;

/**
 * Runs the module, sends it `question` and returns the first message that it sends back, once it has ended. Rejects
 * when it ends without one, with what it wrote to standard error, or takes too long.
 */
export function askChildModule(module: URL, question: object, options: ChildModuleOptions): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(module), { execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    let answer: { readonly value: unknown } | undefined;
    let stderr = '';
    let failure: Error | undefined;
    const timer = setTimeout(() => {
      failure = new Error(`no answer within ${options.timeoutMs / 1000} s`);
      child.kill('SIGKILL');
    }, options.timeoutMs);
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (text: string) => (stderr = `${stderr}${text}`.slice(-STDERR_KEPT)));
    child.on('message', (value) => (answer ??= { value }));
    child.on('error', (error) => (failure = error));
    child.on('close', () => {
      clearTimeout(timer);
      if (answer) resolve(answer.value);
      else reject(failure ?? new Error(stderr.trim() === '' ? 'ended without an answer' : stderr.trim()));
    });
    child.send(question, (error) => (failure ??= error ?? undefined));
  });
}
