// Folders of manifests as a source: read, watched, and written to the store.

import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { Files, FolderWatch } from '../../system/files.ts';
import type { Store } from '../store.ts';
import { buildRecords } from './build.ts';
import { formatMessage, type ManifestMessage, type ManifestOptions, type SourceDocument } from './document.ts';
import { ManifestFolders, requireFolders, sameStamps, type FolderScan } from './folder.ts';

export interface ManifestSourceOptions extends Partial<ManifestOptions> {
  /** Folders, or single files. */
  readonly dirs: readonly string[];
  readonly store: Store;
  readonly log: Logger;
  readonly clock: Clock;
  readonly files: Files;
}

export interface ManifestSource {
  /** What is wrong in the folders now. */
  problems(): readonly ManifestMessage[];
  /** Ends the watch. Resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

/** From a change told by the system to reading: editors write in several steps. */
const SETTLE_MS = 50;
/** A file that is written for longer than this many steps is read as it stands. */
const SETTLE_STEPS = 10;
/** Watches miss changes (network file systems, a folder that was away); this finds them. */
const POLL_MS = 1000;
/** The poll takes at most this part of the time in a large folder. */
const POLL_SHARE = 1 / 50;

/**
 * Reads the folders and writes their records to the store before it resolves; then follows every change. Throws a
 * SourceError when a folder is missing.
 */
export async function startManifestSource(options: ManifestSourceOptions): Promise<ManifestSource> {
  const follower = new Follower(options);
  const scan = await follower.folders.scan();
  requireFolders(scan);
  await follower.load(scan);
  const stopping = new AbortController();
  const running = follower.follow(stopping.signal);
  return {
    problems: () => follower.problems,
    stop: async () => {
      stopping.abort();
      await running;
    },
  };
}

class Follower {
  readonly folders: ManifestFolders;
  problems: readonly ManifestMessage[] = [];
  readonly #options: ManifestSourceOptions;
  readonly #watches = new Map<string, FolderWatch>();
  #accepted: ReadonlyMap<string, SourceDocument> = new Map();
  #told: ReadonlySet<string> = new Set();
  #wake: () => void = () => {};
  #woken = false;
  #pollMs = POLL_MS;

  constructor(options: ManifestSourceOptions) {
    this.#options = options;
    this.folders = new ManifestFolders(options.dirs, options.files);
  }

  async follow(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      if (await this.#wait(signal)) await clock.sleep(SETTLE_MS, signal);
      if (signal.aborted) break;
      try {
        const scan = await this.#settled(signal);
        if (this.folders.differs(scan)) await this.load(scan);
      } catch (error) {
        log.error('reading the manifests failed; the last good state stays', { error: String(error) });
      }
    }
    for (const watch of this.#watches.values()) watch.close();
    this.#watches.clear();
  }

  async load(scan: FolderScan): Promise<void> {
    const { clock, store, log } = this.#options;
    const started = clock.monotonic();
    // Watched before it is read, so that a change in between is not missed.
    this.#watchFolders(scan.folders);
    await this.folders.load(scan);
    const built = buildRecords(this.folders.documents(), this.#options, this.#accepted);
    this.#accepted = built.accepted;
    this.problems = [...this.folders.errors(), ...built.errors];
    this.#tell(built.notices, built.ignored);
    store.replaceAll(built.entries);
    log.info('manifests read', {
      files: this.folders.fileCount,
      services: built.entries.services.size,
      ingresses: built.entries.ingresses.size,
      errors: this.problems.length,
      ms: Math.round(clock.monotonic() - started),
    });
  }

  /** Waits for a change or the next poll; true for a change. */
  async #wait(signal: AbortSignal): Promise<boolean> {
    const waiting = new AbortController();
    const end = (): void => waiting.abort();
    signal.addEventListener('abort', end, { once: true });
    this.#wake = end;
    if (!this.#woken && !signal.aborted) await this.#options.clock.sleep(this.#pollMs, waiting.signal);
    signal.removeEventListener('abort', end);
    this.#wake = () => {};
    const woken = this.#woken;
    this.#woken = false;
    return woken;
  }

  /** Lists the folders until two listings agree, so that no file is read while it is half written. */
  async #settled(signal: AbortSignal): Promise<FolderScan> {
    const started = this.#options.clock.monotonic();
    let scan = await this.folders.scan();
    this.#pollMs = Math.max(POLL_MS, (this.#options.clock.monotonic() - started) / POLL_SHARE);
    for (let step = 0; step < SETTLE_STEPS && this.folders.differs(scan) && !signal.aborted; step++) {
      await this.#options.clock.sleep(SETTLE_MS, signal);
      const next = await this.folders.scan();
      const same = sameStamps(scan.files, next.files) && scan.missing.join('\0') === next.missing.join('\0');
      scan = next;
      if (same) break;
    }
    return scan;
  }

  /** A folder that comes back under the same name is another folder, so watches of those that went are closed. */
  #watchFolders(folders: readonly string[]): void {
    const wanted = new Set(folders);
    for (const [folder, watch] of this.#watches) {
      if (wanted.has(folder)) continue;
      watch.close();
      this.#watches.delete(folder);
    }
    for (const folder of wanted) {
      if (this.#watches.has(folder)) continue;
      const watch = this.#options.files.watch(folder, () => {
        this.#woken = true;
        this.#wake();
      });
      this.#watches.set(folder, watch);
    }
  }

  /** Each message once, for as long as it holds. */
  #tell(notices: readonly ManifestMessage[], ignored: readonly ManifestMessage[]): void {
    const { log } = this.#options;
    const told = new Set<string>();
    const tell = (messages: readonly ManifestMessage[], write: (line: string) => void): void => {
      for (const message of messages) {
        const line = formatMessage(message);
        if (!this.#told.has(line) && !told.has(line)) write(line);
        told.add(line);
      }
    };
    tell(this.problems, (line) => log.error(line));
    tell(notices, (line) => log.info(line));
    tell(ignored, (line) => log.debug(line));
    this.#told = told;
  }
}
