// What is made once and used by many runs: the kernel's package, the disk of the machine.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Entries that nobody used for this long are removed. */
const KEPT_MS = 2 * 24 * 3600 * 1000;

/**
 * The folder `KIND-KEY` of the cache, filled by `make` when it is not there. Safe when several runs want it at once, and when one is killed
 * half-way: it is made under another name and moved when it is whole.
 */
export function cached(kind: string, key: string, make: (dir: string) => void): string {
  const root = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'fairlead-vm');
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const entry = join(root, `${kind}-${key}`);
  if (!existsSync(entry)) {
    removeOld(root);
    const half = mkdtempSync(join(root, 'half-'));
    try {
      make(half);
      move(half, entry);
    } finally {
      rmSync(half, { recursive: true, force: true });
    }
  }
  const now = new Date();
  utimesSync(entry, now, now);
  return entry;
}

function move(half: string, entry: string): void {
  try {
    renameSync(half, entry);
  } catch (error) {
    // Another run was faster: its entry is as good.
    if (!existsSync(entry)) throw error;
  }
}

function removeOld(root: string): void {
  for (const name of readdirSync(root)) {
    const path = join(root, name);
    const status = statSync(path, { throwIfNoEntry: false });
    if (status && Date.now() - status.mtimeMs > KEPT_MS) rmSync(path, { recursive: true, force: true });
  }
}
