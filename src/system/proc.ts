// Numbers that the kernel shows under /proc.

import { readFileSync } from 'node:fs';

/** The number that a file of /proc holds; undefined where there is no such file. */
export function readProcNumber(path: string): number | undefined {
  try {
    const value = Number(readFileSync(path, 'utf8').trim());
    return Number.isFinite(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
