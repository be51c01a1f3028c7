// Numbers that the kernel keeps under /proc and /sys. The only door to them.

import { readFile, writeFile } from 'node:fs/promises';

export interface KernelParameters {
  /** Undefined when there is no such parameter, or it is no number. */
  read(path: string): Promise<number | undefined>;
  /** Undefined when it was written, else the system's code: EACCES, EROFS, EINVAL… */
  write(path: string, value: number): Promise<string | undefined>;
}

export const systemKernelParameters: KernelParameters = {
  async read(path) {
    try {
      const text = (await readFile(path, 'utf8')).trim();
      return /^-?[0-9]+$/.test(text) ? Number(text) : undefined;
    } catch {
      return undefined;
    }
  },
  async write(path, value) {
    try {
      await writeFile(path, String(value));
      return undefined;
    } catch (error) {
      return error instanceof Error && 'code' in error ? String(error.code) : String(error);
    }
  },
};
