// The IPVS mode that was in force before another took over, ours or kube-proxy's. New connections are the other mode's from its first sync on;
// those that IPVS carries go on, and the whole is removed when the last has ended.

import type { Logger } from '../../observe/log.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { removeChains, type RemoveOptions } from '../iptables/remove.ts';
import { IpvsKernel, ToolError } from './kernel.ts';
import { LINK } from './names.ts';
import { isOwnServer } from './ownership.ts';
import { parseConnections, parseSets } from './parse.ts';
import { removeServers, removeSets } from './remove.ts';

const TIMEOUT_MS = 60_000;
const EVERY_MS = 1000;
/** Connections that go on for longer are cut. */
const LONGEST_MS = 10 * 60_000;

export interface LeftoverOptions {
  readonly exec: Exec;
  readonly clock: Clock;
  readonly log: Logger;
  /** Which chains go with it: those of IPVS alone where the other mode has the rest. */
  readonly chains: RemoveOptions;
}

export class IpvsLeftover {
  readonly #options: LeftoverOptions;
  #timer: Timer | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #since: number | undefined;
  #stopped = false;

  constructor(options: LeftoverOptions) {
    this.#options = options;
  }

  /** Removes what is there at once when nothing goes through it, else later. Says what was removed now. */
  async remove(): Promise<CleanupOutcome> {
    const connections = await this.#connections();
    if (connections === 'none') return this.#removeNow();
    const { clock, log } = this.#options;
    const now = clock.monotonic();
    if (this.#since === undefined) {
      this.#since = now;
      log.info('IPVS stays until its connections have ended', { connections });
    }
    if (now - this.#since > LONGEST_MS) {
      log.warn('IPVS is removed, connections that went through it are cut', { connections });
      return this.#removeNow();
    }
    if (!this.#stopped) {
      this.#timer?.cancel();
      this.#timer = clock.after(EVERY_MS, () => {
        this.#running = this.#again();
      });
    }
    return { removed: [], problems: [] };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  async #again(): Promise<void> {
    const { removed, problems } = await this.remove();
    const { log } = this.#options;
    for (const problem of problems) log.warn(`rules of another mode stay: ${problem}`);
    if (removed.length > 0) log.info('rules of another mode removed', { what: removed.join(', ') });
  }

  async #removeNow(): Promise<CleanupOutcome> {
    const { exec, chains } = this.#options;
    const parts = [await removeServers(exec), await removeChains(exec, chains), await removeSets(exec)];
    return {
      removed: parts.flatMap(({ removed }) => removed),
      problems: parts.flatMap(({ problems }) => problems),
    };
  }

  /** How many TCP connections go through virtual servers of this mode. */
  async #connections(): Promise<number | 'none'> {
    const { exec } = this.#options;
    const shown = await exec.run('ip', ['link', 'show', LINK], { timeoutMs: TIMEOUT_MS });
    if (shown.exitCode !== 0) return 'none';
    try {
      const kernel = new IpvsKernel(exec);
      const addresses = await kernel.addresses();
      const sets = parseSets((await exec.run('ipset', ['save'], { timeoutMs: TIMEOUT_MS })).stdout);
      let open = 0;
      for (const [key, reals] of parseConnections(await kernel.connections())) {
        if (!key.startsWith('TCP') || !isOwnServer(key, { addresses, sets }, [])) continue;
        for (const { active } of reals.values()) open += active;
      }
      return open === 0 ? 'none' : open;
    } catch (error) {
      if (error instanceof ToolError) return 'none';
      throw error;
    }
  }
}
