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

/** How many files this process may have open; undefined where the kernel does not say. */
export function openFilesLimit(): number | undefined {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    const soft = /^Max open files\s+([0-9]+)/m.exec(limits)?.[1];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}

/** Bytes of address space that this process has; undefined where the kernel does not say. */
export function addressSpace(): number | undefined {
  try {
    const kilobytes = /^VmSize:\s+([0-9]+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}
