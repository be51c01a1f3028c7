// The files of the manifest folders, with the last good state of each.

import { messageOf } from '../../lib/message-of.ts';
import type { Files } from '../../system/files.ts';
import { SourceError } from '../source-error.ts';
import type { ManifestMessage, SourceDocument } from './document.ts';
import { parseYamlDocuments } from './yaml-documents.ts';

const EXTENSIONS = ['.yaml', '.yml', '.json'];

export interface FolderScan {
  /** Manifest files with their stamps, in the order of the folders given and then of path. */
  readonly files: ReadonlyMap<string, string>;
  /** Folders to watch. */
  readonly folders: readonly string[];
  /** Folders that are not there now. */
  readonly missing: readonly string[];
}

interface FileState {
  readonly stamp: string;
  readonly documents: readonly SourceDocument[];
  readonly errors: readonly ManifestMessage[];
  /** It was found empty, once. */
  readonly emptied?: boolean;
}

export class ManifestFolders {
  readonly #dirs: readonly string[];
  readonly #files: Files;
  #states: ReadonlyMap<string, FileState> = new Map();
  #missing: readonly string[] = [];

  constructor(dirs: readonly string[], files: Files) {
    this.#dirs = [...new Set(dirs.map((dir) => dir.replace(/(?<=.)\/+$/, '')))];
    this.#files = files;
  }

  async scan(): Promise<FolderScan> {
    const files = new Map<string, string>();
    const folders = new Set<string>();
    const missing: string[] = [];
    for (const dir of this.#dirs) {
      const listing = await this.#files.list(dir);
      if (!listing) missing.push(dir);
      for (const [file, stamp] of listing?.files ?? []) {
        if (EXTENSIONS.some((extension) => file.endsWith(extension))) files.set(file, stamp);
      }
      for (const folder of listing?.folders ?? []) folders.add(folder);
    }
    return { files, folders: [...folders], missing };
  }

  /** True when what `load` last read is no longer what stands there. */
  differs(scan: FolderScan): boolean {
    return !sameStamps(this.#stamps(), scan.files) || scan.missing.join('\0') !== this.#missing.join('\0');
  }

  /**
   * Reads the files that changed. A file that cannot be read or parsed keeps the documents that it had, and so does one that has just become empty, until
   * the next call; so do all files of a folder that has gone.
   */
  async load(scan: FolderScan): Promise<void> {
    const next = new Map<string, FileState>();
    for (const [file, stamp] of scan.files) {
      const old = this.#states.get(file);
      next.set(file, old?.stamp === stamp ? old : await this.#read(file, stamp, old));
    }
    for (const [file, state] of this.#states) {
      const gone = scan.missing.some((dir) => file === dir || file.startsWith(`${dir}/`));
      if (gone && !next.has(file)) next.set(file, { ...state, stamp: '' });
    }
    this.#states = next;
    this.#missing = scan.missing;
  }

  get fileCount(): number {
    return this.#states.size;
  }

  documents(): readonly SourceDocument[] {
    return [...this.#states.values()].flatMap((state) => state.documents);
  }

  errors(): readonly ManifestMessage[] {
    const gone = this.#missing.map((dir) => ({
      file: dir,
      line: 0,
      message: 'the folder is gone; what it held still counts until it is back',
    }));
    return [...gone, ...[...this.#states.values()].flatMap((state) => state.errors)];
  }

  #stamps(): ReadonlyMap<string, string> {
    return new Map([...this.#states].flatMap(([file, { stamp }]) => (stamp === '' ? [] : [[file, stamp]])));
  }

  async #read(file: string, stamp: string, old: FileState | undefined): Promise<FileState> {
    let text: string;
    try {
      text = await this.#files.readText(file);
    } catch (error) {
      const reason = messageOf(error);
      const message = `the file cannot be read (${reason})${old ? '; what it held still counts' : ''}`;
      return { stamp, documents: old?.documents ?? [], errors: [{ file, line: 0, message }] };
    }
    // Programs empty a file before they write it: only one that is found empty twice is.
    if (text === '' && old && old.documents.length > 0 && old.emptied !== true) {
      return { ...old, stamp: '', emptied: true };
    }
    const { documents, errors } = parseYamlDocuments(file, text);
    if (errors.length === 0 || !old || old.documents.length === 0) return { stamp, documents, errors };
    const kept = errors.map((error) => ({ ...error, message: `${error.message}; what the file held still counts` }));
    return { stamp, documents: old.documents, errors: kept };
  }
}

/** Throws a SourceError for folders that are not there. */
export function requireFolders(scan: FolderScan): void {
  if (scan.missing.length === 0) return;
  throw new SourceError(
    'manifests-missing',
    `--manifests ${scan.missing.join(', ')}: no such folder, or it cannot be read: give a folder that holds *.yaml or *.json files`,
  );
}

export function sameStamps(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([file, stamp]) => b.get(file) === stamp);
}
