// The IPVS mode that was in force before another took over, ours or kube-proxy's. New connections are the other mode's from its first sync on;
// those that IPVS carries go on, and the whole is removed when the last has ended.

import { ipFamily, type Ip } from '../../lib/ip.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { all, NOTHING } from '../cleanup-outcome.ts';
import { removeChains, type RemoveOptions } from '../iptables/remove.ts';
import { IpvsKernel, ToolError } from './kernel.ts';
import { LINK, partsOfServer } from './names.ts';
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

interface Traffic {
  readonly connections: number;
  readonly flowsTo: ReadonlySet<Ip>;
}

const NO_TRAFFIC: Traffic = { connections: 0, flowsTo: new Set() };

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
    const { connections, flowsTo } = await this.#traffic();
    if (connections === 0) return this.#removeNow(flowsTo);
    const { clock, log } = this.#options;
    const now = clock.monotonic();
    if (this.#since === undefined) {
      this.#since = now;
      log.info('IPVS stays until its connections have ended', { connections });
    }
    if (now - this.#since > LONGEST_MS) {
      log.warn('IPVS is removed, connections that went through it are cut', { connections });
      return this.#removeNow(flowsTo);
    }
    if (!this.#stopped) {
      this.#timer?.cancel();
      this.#timer = clock.after(EVERY_MS, () => {
        this.#running = this.#again();
      });
    }
    return NOTHING;
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

  async #removeNow(flowsTo: ReadonlySet<Ip>): Promise<CleanupOutcome> {
    const { exec, chains } = this.#options;
    const parts = [await removeServers(exec), await removeChains(exec, chains), await removeSets(exec)];
    // A flow of UDP has no end to wait for. It is known to conntrack as one that nobody translates, so the other mode would never see it.
    for (const address of flowsTo) {
      const family = ipFamily(address) === 6 ? 'ipv6' : 'ipv4';
      await exec.run('conntrack', ['-D', '-f', family, '-p', 'udp', '--orig-dst', address], { timeoutMs: TIMEOUT_MS });
    }
    return all(parts);
  }

  /** How many TCP connections go through virtual servers of this mode, and to which addresses there are flows of UDP. */
  async #traffic(): Promise<Traffic> {
    const { exec } = this.#options;
    const shown = await exec.run('ip', ['link', 'show', LINK], { timeoutMs: TIMEOUT_MS });
    if (shown.exitCode !== 0) return NO_TRAFFIC;
    try {
      const kernel = new IpvsKernel(exec);
      const addresses = await kernel.addresses();
      const sets = parseSets((await exec.run('ipset', ['save'], { timeoutMs: TIMEOUT_MS })).stdout);
      let connections = 0;
      const flowsTo = new Set<Ip>();
      for (const [key, reals] of parseConnections(await kernel.table())) {
        if (!isOwnServer(key, { addresses, sets }, [])) continue;
        const { protocol, address } = partsOfServer(key);
        for (const { active, inactive } of reals.values()) {
          if (protocol === 'TCP') connections += active;
          else if (protocol === 'UDP' && active + inactive > 0) flowsTo.add(address);
        }
      }
      return { connections, flowsTo };
    } catch (error) {
      if (error instanceof ToolError) return NO_TRAFFIC;
      throw error;
    }
  }
}
