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
import { LINK, partsOfServer, type ServerKey } from './names.ts';
import { isOwnServer } from './ownership.ts';
import { halfClosedIn, parseConnections, parseSets } from './parse.ts';
import { removeOwnServers, removeServers, removeSets, type OwnServers } from './remove.ts';

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

/** What a look finds. */
interface Found extends OwnServers {
  /** Of TCP, through those servers, that have not ended. */
  readonly connections: number;
  /** Where flows of UDP go. */
  readonly flowsTo: ReadonlySet<Ip>;
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
    const found = await this.#look();
    const connections = found?.connections ?? 0;
    if (connections === 0) return this.#removeNow(found);
    const { clock, log } = this.#options;
    const now = clock.monotonic();
    if (this.#since === undefined) {
      this.#since = now;
      log.info('IPVS stays until its connections have ended', { connections });
    }
    if (now - this.#since > LONGEST_MS) {
      log.warn('IPVS is removed, connections that went through it are cut', { connections });
      return this.#removeNow(found);
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

  /**
   * The servers first and in one run of the tool: with each the kernel forgets the connections that were (`expire_nodest_conn`), and conntrack what the
   * other mode carries between the same addresses and ports by now, which is the less the sooner it is done (ip_vs_conn_drop_conntrack).
   */
  async #removeNow(found: Found | undefined): Promise<CleanupOutcome> {
    const { exec, chains } = this.#options;
    const servers = found ? await removeOwnServers(exec, found) : await removeServers(exec);
    const parts = [servers, await removeChains(exec, chains), await removeSets(exec)];
    // A flow of UDP has no end to wait for. It is known to conntrack as one that nobody translates, so the other mode would never see it.
    for (const address of found?.flowsTo ?? []) {
      const family = ipFamily(address) === 6 ? 'ipv6' : 'ipv4';
      await exec.run('conntrack', ['-D', '-f', family, '-p', 'udp', '--orig-dst', address], { timeoutMs: TIMEOUT_MS });
    }
    return all(parts);
  }

  /** Undefined where there is no link, or a tool does not say what there is. */
  async #look(): Promise<Found | undefined> {
    const { exec } = this.#options;
    const shown = await exec.run('ip', ['link', 'show', LINK], { timeoutMs: TIMEOUT_MS });
    if (shown.exitCode !== 0) return undefined;
    try {
      const kernel = new IpvsKernel(exec);
      const addresses = await kernel.addresses();
      const sets = parseSets((await exec.run('ipset', ['save'], { timeoutMs: TIMEOUT_MS })).stdout);
      let connections = 0;
      let hasEnding = false;
      const flowsTo = new Set<Ip>();
      const servers: ServerKey[] = [];
      for (const [key, reals] of parseConnections(await kernel.table())) {
        if (!isOwnServer(key, { addresses, sets }, [])) continue;
        servers.push(key);
        const { protocol, address } = partsOfServer(key);
        for (const { active, inactive } of reals.values()) {
          if (protocol === 'TCP') {
            connections += active;
            hasEnding ||= inactive > 0;
          } else if (protocol === 'UDP' && active + inactive > 0) flowsTo.add(address);
        }
      }
      if (connections === 0 && hasEnding) {
        const own = new Set(servers);
        for (const key of halfClosedIn(await kernel.everyConnection())) if (own.has(key)) connections++;
      }
      return { addresses, servers, connections, flowsTo };
    } catch (error) {
      if (error instanceof ToolError) return undefined;
      throw error;
    }
  }
}
