// Small files that a program writes: its process number.

import { rm, writeFile } from 'node:fs/promises';

/** Rejects when it cannot be written. */
export async function writeText(path: string, text: string): Promise<void> {
  await writeFile(path, text);
}

/** A file that is not there is removed already. */
export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
}
