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
import { LINK } from './names.ts';
import { addressesOf, countTable, parseBrief, parseConnections, parseCounts, serversIn } from './parse.ts';
import type { Planner } from './plan.ts';

/** Every so many looks the virtual servers are compared one by one, not only counted. */
const THOROUGH = 10;

export interface Expected {
  readonly planner: Planner;
  readonly local: readonly Ip[];
  readonly setCounts: ReadonlyMap<string, number>;
  /** How many virtual and real servers there are of others. */
  readonly foreign: number;
  /** How many real servers of ours drain. */
  readonly draining: number;
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
  /** What was told of the dummy link when it had all addresses, and which those were: the same again needs no second look. */
  #ownSeen: { readonly text: string; readonly ours: ReadonlySet<Ip> } | undefined;
  /** The same of the other links. */
  #othersSeen: { readonly text: string; readonly local: readonly Ip[] } | undefined;
  /** How many lines of the table were not ours when all of ours were there. */
  #linesBeside: number | undefined;

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
    const { kernel } = this.#options;
    const ours = planner.addresses;
    const { own, others } = parseBrief(await kernel.brief());
    if (own === undefined) return `the link ${LINK} is gone`;
    if (this.#ownSeen?.text !== own || this.#ownSeen.ours !== ours) {
      const now = addressesOf(own);
      for (const ip of ours) if (!now.has(ip)) return `${LINK} has lost ${ip}`;
      this.#ownSeen = { text: own, ours };
    }
    if (this.#othersSeen?.text !== others || this.#othersSeen.local !== local) {
      if ((await kernel.addresses()).local.join() !== local.join()) return 'the addresses of this node have changed';
      this.#othersSeen = { text: others, local };
    }
    return undefined;
  }

  async #servers({ planner, foreign, draining }: Expected): Promise<string | undefined> {
    const { kernel } = this.#options;
    const ours = planner.serverCounts[4] + planner.serverCounts[6] + draining;
    if (this.#looks % THOROUGH !== 0 && (await kernel.tableLines()) - ours === this.#linesBeside) return undefined;
    const text = await kernel.table();
    const missing = missingServer(planner, text);
    if (missing !== undefined) return missing;
    const { lines, servers } = countTable(text);
    // Somebody else's came or went: the next look counts them.
    if (servers !== ours + foreign) return 'virtual servers of others have changed';
    this.#linesBeside = lines - ours;
    return undefined;
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

/** The first virtual or real server that `/proc/net/ip_vs` does not show as it should be. */
function missingServer({ servers }: Planner, text: string): string | undefined {
  let found = 0;
  for (const [key, now] of serversIn(text, servers)) {
    found++;
    for (const real of servers.get(key)?.reals ?? []) {
      const state = now.get(real);
      if (!state) return `virtual server ${key} has lost ${real}`;
      if (state.weight !== 1) return `virtual server ${key} has ${real} at weight ${state.weight}`;
    }
  }
  if (found === servers.size) return undefined;
  const there = parseConnections(text, servers);
  const gone = [...servers.keys()].find((key) => !there.has(key));
  return `virtual server ${gone} is gone`;
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
