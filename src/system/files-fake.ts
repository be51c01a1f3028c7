import type { Files, FolderListing, FolderWatch } from './files.ts';

/** A folder tree in memory. Each write tells the watchers of the folder, as a kernel does. */
export class FakeFiles implements Files {
  readonly #texts = new Map<string, string | Error>();
  readonly #stamps = new Map<string, number>();
  readonly #watchers = new Map<string, Set<() => void>>();
  #writes = 0;

  /** Writes a file, or makes reading it fail. */
  write(path: string, content: string | Error): void {
    this.#texts.set(path, content);
    this.#stamps.set(path, ++this.#writes);
    this.#tell(path);
  }

  remove(path: string): void {
    this.#texts.delete(path);
    this.#tell(path);
  }

  async readText(path: string): Promise<string> {
    const content = this.#texts.get(path) ?? new Error(`ENOENT: no such file or directory, open '${path}'`);
    if (content instanceof Error) throw content;
    return content;
  }

  async list(path: string): Promise<FolderListing | undefined> {
    const files = new Map<string, string>();
    const folders = new Set<string>();
    for (const file of [...this.#texts.keys()].sort()) {
      if (file !== path && !file.startsWith(`${path}/`)) continue;
      files.set(file, String(this.#stamps.get(file)));
      for (let folder = folderOf(file); folder.startsWith(path); folder = folderOf(folder)) folders.add(folder);
    }
    return files.size === 0 ? undefined : { files, folders: [...folders].sort() };
  }

  watch(path: string, onChange: () => void): FolderWatch {
    const set = this.#watchers.get(path) ?? new Set();
    this.#watchers.set(path, set.add(onChange));
    return { close: () => void set.delete(onChange) };
  }

  #tell(path: string): void {
    for (const onChange of this.#watchers.get(folderOf(path)) ?? []) onChange();
  }
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
