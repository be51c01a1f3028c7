// Follows the configuration file while the program runs: what can change at once does, a bad edit leaves the last good configuration, and
// what cannot change asks for a restart.

import { dirname } from 'node:path';
import type { Logger } from '../../observe/log.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Files, FolderWatch } from '../../system/files.ts';
import { messageOf } from '../../lib/message-of.ts';
import type { LiveConfiguration } from './live.ts';
import { parseFile } from './load.ts';
import { LEAVES, valueAt, type FieldPath, type KubeProxyConfiguration } from './schema.ts';

export interface ConfigurationFollowerOptions {
  readonly path: string;
  /** As it was read at start. */
  readonly text: string;
  readonly live: LiveConfiguration;
  /** Puts what flags say over the file's configuration. */
  readonly complete: (configuration: KubeProxyConfiguration) => KubeProxyConfiguration;
  /** Fields that changed and need a new start. */
  readonly onRestartNeeded: (fields: readonly FieldPath[]) => void;
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Logger;
}

/** An editor, or a kubelet that swaps a ConfigMap's folder, makes several changes of one. */
const SETTLE_MS = 100;
/** For what the system's watch misses, such as a link above the folder. */
const POLL_MS = 5_000;

export class ConfigurationFollower {
  readonly #options: ConfigurationFollowerOptions;
  readonly #watch: FolderWatch;
  #text: string;
  #timer: Timer | undefined;
  #reading: Promise<void> = Promise.resolve();
  #problem: string | undefined;
  #stopped = false;

  constructor(options: ConfigurationFollowerOptions) {
    this.#options = options;
    this.#text = options.text;
    this.#watch = options.files.watch(dirname(options.path), () => this.#schedule(SETTLE_MS));
    this.#schedule(POLL_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#watch.close();
    await this.#reading;
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ms, () => {
      this.#reading = this.#reading.then(() => this.#read()).then(() => this.#schedule(POLL_MS));
    });
  }

  async #read(): Promise<void> {
    const { path, files, live, complete, log, onRestartNeeded } = this.#options;
    let text: string;
    try {
      text = await files.readText(path);
    } catch (error) {
      this.#complain(`${path} cannot be read: ${messageOf(error)}`);
      return;
    }
    if (text === this.#text && this.#problem === undefined) return;
    if (this.#stopped) return;
    const parsed = await parseFile(path, text);
    if (parsed.kind === 'wrong') {
      this.#complain(parsed.problems.join('; '));
      return;
    }
    this.#text = text;
    if (this.#problem !== undefined) log.info('the configuration file is good again', { file: path });
    this.#problem = undefined;
    const next = complete(parsed.configuration);
    const { applied, needRestart, idle } = compare(live.current, next);
    if (needRestart.length > 0) {
      log.warn(
        `restart needed: ${needRestart.join(', ')} changed in ${path}; stopping, so that the supervisor starts it anew`,
      );
      onRestartNeeded(needRestart);
      return;
    }
    if (applied.length > 0) log.info('configuration changed, applied at once', { fields: applied.join(',') });
    if (idle.length > 0) log.info('configuration changed where it has no effect here', { fields: idle.join(',') });
    if (applied.length + idle.length > 0) live.replace(next);
  }

  #complain(problem: string): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.log.error(`${problem}. The last good configuration stays in force`);
  }
}

interface Comparison {
  readonly applied: readonly FieldPath[];
  readonly needRestart: readonly FieldPath[];
  readonly idle: readonly FieldPath[];
}

/** The fields that differ, by what their change means. */
function compare(before: KubeProxyConfiguration, after: KubeProxyConfiguration): Comparison {
  const differing = [...LEAVES].filter(
    ([path]) => JSON.stringify(valueAt(before, path)) !== JSON.stringify(valueAt(after, path)),
  );
  const of = (change: string): readonly FieldPath[] =>
    differing.filter(([, leaf]) => leaf.change === change).map(([path]) => path);
  return { applied: of('live'), needRestart: of('restart'), idle: of('none') };
}
