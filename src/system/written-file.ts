// Files that a program writes: its process number, a configuration that was asked for.

import { rm, writeFile } from 'node:fs/promises';

/** Writes the text, replacing what is there. Rejects when it cannot. */
export function writeTextFile(path: string, text: string): Promise<void> {
  return writeFile(path, text);
}

/** A file that is not there is removed already. */
export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
}
