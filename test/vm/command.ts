import { spawnSync } from 'node:child_process';

/** Runs a program to its end and gives its standard output. Throws with its standard error when it fails. */
export function command(file: string, args: readonly string[], options: { cwd?: string; input?: string } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    ...options,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: 180_000,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${file} ${args.slice(0, 4).join(' ')} ended with ${status}: ${stderr.trim()}`);
  return stdout;
}
