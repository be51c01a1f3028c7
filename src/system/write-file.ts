import { writeFile } from 'node:fs/promises';

/** Writes the text, replacing what is there. Rejects when it cannot. */
export function writeTextFile(path: string, text: string): Promise<void> {
  return writeFile(path, text);
}
