// Looks every few seconds whether what was written is still there: virtual servers, sets, addresses, chains.

import type { Ip, IpFamily } from '../../lib/ip.ts';
import type { Clock } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { RulesConfig } from '../config.ts';
import { missingRule } from '../iptables/missing-rule.ts';
import { partsOfChain, TABLES, type Table } from '../iptables/names.ts';
import type { IptablesTool } from '../iptables/tool.ts';
import { RegularLook } from '../regular-look.ts';
import { fixedChains, jumps } from './layout.ts';
import type { IpvsKernel } from './kernel.ts';
import { LINK, type RealKey, type ServerKey } from './names.ts';
import { countServers, parseConnections, parseCounts } from './parse.ts';
import type { Planner } from './plan.ts';

/** Every so many looks the virtual servers are compared one by one, not only counted. */
const THOROUGH = 10;

export interface Expected {
  readonly planner: Planner;
  readonly local: readonly Ip[];
  readonly setCounts: ReadonlyMap<string, number>;
  /** Virtual and real servers of others, and real servers of ours that drain. */
  readonly beside: { readonly servers: number; readonly reals: number };
  readonly tool: IptablesTool;
  readonly config: RulesConfig;
}

export interface DriftOptions {
  readonly kernel: IpvsKernel;
  readonly exec: Exec;
  readonly clock: Clock;
}

export class DriftWatch {
  readonly #options: DriftOptions;
  readonly #look: RegularLook;
  #looks = 0;

  constructor(options: DriftOptions) {
    this.#options = options;
    this.#look = new RegularLook(options.clock);
  }

  /** Calls `look` from time to time until `stop`. */
  start(look: () => Promise<void>): void {
    this.#look.start(look);
  }

  stop(): Promise<void> {
    return this.#look.stop();
  }

  /** What is not as it was left, for the log; undefined when all is. Rejects with ToolError when a tool cannot say. */
  async check(expected: Expected): Promise<string | undefined> {
    this.#looks++;
    return (
      (await this.#addresses(expected)) ??
      (await this.#servers(expected)) ??
      (await this.#sets(expected)) ??
      (await this.#chains(expected))
    );
  }

  async #addresses({ planner, local }: Expected): Promise<string | undefined> {
    const now = await this.#options.kernel.addresses();
    if (!now.hasLink) return `the link ${LINK} is gone`;
    for (const ip of planner.addresses) if (!now.ours.has(ip)) return `${LINK} has lost ${ip}`;
    return now.local.join() === local.join() ? undefined : 'the addresses of this node have changed';
  }

  async #servers({ planner, beside }: Expected): Promise<string | undefined> {
    const text = await this.#options.kernel.connections();
    let reals = beside.reals;
    for (const server of planner.servers.values()) reals += server.reals.length;
    const now = countServers(text);
    const isEqual = now.servers === planner.servers.size + beside.servers && now.reals === reals;
    if (isEqual && this.#looks % THOROUGH !== 0) return undefined;
    const missing = missingServer(planner, parseConnections(text, planner.servers));
    // Somebody else's came or went: the next look counts them.
    return missing ?? (isEqual ? undefined : 'virtual servers of others have changed');
  }

  async #sets({ setCounts }: Expected): Promise<string | undefined> {
    const now = parseCounts(await this.#options.kernel.setCounts());
    for (const [name, count] of setCounts) {
      const have = now.get(name);
      if (have !== count)
        return have === undefined ? `ipset ${name} is gone` : `ipset ${name} has ${have} entries, not ${count}`;
    }
    return undefined;
  }

  async #chains({ config, tool }: Expected): Promise<string | undefined> {
    const missing = await missingRule(this.#options.exec, tool, (family) => checkText(config, family));
    return missing === undefined ? undefined : `missing from iptables, ${missing}`;
  }
}

type Found = ReadonlyMap<ServerKey, ReadonlyMap<RealKey, { readonly weight: number }>>;

function missingServer({ servers }: Planner, found: Found): string | undefined {
  for (const [key, { reals }] of servers) {
    const now = found.get(key);
    if (!now) return `virtual server ${key} is gone`;
    for (const real of reals) {
      const state = now.get(real);
      if (!state) return `virtual server ${key} has lost ${real}`;
      if (state.weight !== 1) return `virtual server ${key} has ${real} at weight ${state.weight}`;
    }
  }
  return undefined;
}

/** Every jump and every rule, asked for; of a chain without rules whether it is there. */
function checkText(config: RulesConfig, family: IpFamily): string {
  const lines: Record<Table, string> = { mangle: '', filter: '', nat: '' };
  for (const { table, from, text } of jumps()) lines[table] += `-C ${from} ${text}\n`;
  for (const [id, rules] of fixedChains(config, family)) {
    const { table, name } = partsOfChain(id);
    lines[table] += rules === '' ? `-S ${name}\n` : rules.replaceAll(/^-A /gm, '-C ');
  }
  return TABLES.map((table) => `*${table}\n${lines[table]}COMMIT\n`).join('');
}
