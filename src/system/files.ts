// Reading and watching files and folders. The only door to the file system for sources.

import { watch as watchPath } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** What a folder holds: each file with a stamp that changes when the file does, and each folder in it. */
export interface FolderListing {
  /** Path to stamp. */
  readonly files: ReadonlyMap<string, string>;
  /** The folder itself among them. */
  readonly folders: readonly string[];
}

export interface FolderWatch {
  close(): void;
}

export interface Files {
  /** The text of a file, as UTF-8. Rejects when it cannot be read. */
  readText(path: string): Promise<string>;
  /**
   * Lists a folder with its sub-folders, following links; names that begin with a dot are left out. A path that is a
   * file lists that file. Undefined when nothing is there, or it cannot be read.
   */
  list(path: string): Promise<FolderListing | undefined>;
  /** Calls after a change among the entries of a folder (not of its sub-folders). It may miss some: poll as well. */
  watch(path: string, onChange: () => void): FolderWatch;
}

export const systemFiles: Files = {
  readText: (path) => readFile(path, 'utf8'),
  async list(path) {
    const files = new Map<string, string>();
    const folders: string[] = [];
    try {
      await visit(path, new Set(), files, folders);
    } catch {
      return undefined;
    }
    return { files, folders };
  },
  watch(path, onChange) {
    try {
      const watcher = watchPath(path, { persistent: false }, onChange);
      // The folder is gone, or the system has no more watches: whoever watches polls too.
      watcher.on('error', () => watcher.close());
      return { close: () => watcher.close() };
    } catch {
      return { close: () => {} };
    }
  },
};

/** Throws when `path` itself cannot be read. `above` holds the real paths of the folders above, against circles. */
async function visit(
  path: string,
  above: ReadonlySet<string>,
  files: Map<string, string>,
  folders: string[],
): Promise<void> {
  const status = await stat(path);
  if (status.isFile()) {
    files.set(path, `${status.ino}:${status.size}:${status.mtimeMs}`);
    return;
  }
  if (!status.isDirectory()) return;
  const real = await realpath(path);
  if (above.has(real)) return;
  const names = (await readdir(path)).filter((name) => !name.startsWith('.')).sort();
  folders.push(path);
  const within = new Set([...above, real]);
  for (const name of names) {
    try {
      await visit(join(path, name), within, files, folders);
    } catch {
      // A broken link, or an entry that went away meanwhile: not there.
    }
  }
}
