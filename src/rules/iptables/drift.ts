// Looks every few seconds whether the rules that lead to ours are still there: one process a family, which lists nothing, and not even that
// while the tables have the shape that they had.
// `iptables -F` leaves the chains and takes the jumps; `-X` takes the canaries.

import type { IpFamily } from '../../lib/ip.ts';
import type { Clock } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { RulesConfig } from '../config.ts';
import { RegularLook } from '../regular-look.ts';
import { fixedChains, jumps, loopbackGuard } from './layout.ts';
import { missingRule } from './missing-rule.ts';
import { CANARY, TABLES, partsOfChain, type Table } from './names.ts';
import { tableShape } from './table-shape.ts';
import type { IptablesTool } from './tool.ts';

/** A table of the same shape is taken for untouched for so long: a rule may have been replaced by one of the same size. */
const TRUST_SHAPE_MS = 30_000;

export interface DriftOptions {
  readonly config: RulesConfig;
  readonly exec: Exec;
  readonly clock: Clock;
}

export class DriftWatch {
  readonly #options: DriftOptions;
  readonly #look: RegularLook;
  #config: RulesConfig;
  /** The shape of the tables before the last check that found nothing missing, and when that was. */
  #whole: { readonly shape: string; readonly at: number } | undefined;

  constructor(options: DriftOptions) {
    this.#options = options;
    this.#look = new RegularLook(options.clock);
    this.#config = options.config;
  }

  configure(config: RulesConfig): void {
    this.#config = config;
    this.#whole = undefined;
  }

  /** Calls `look` from time to time until `stop`. */
  start(look: () => Promise<void>): void {
    this.#look.start(look);
  }

  stop(): Promise<void> {
    return this.#look.stop();
  }

  /** What is missing, for the log; undefined when all is there. */
  async check(tool: IptablesTool): Promise<string | undefined> {
    const { exec, clock } = this.#options;
    const shape = tool.legacy ? await tableShape(exec, tool.families) : undefined;
    const at = clock.monotonic();
    if (shape !== undefined && shape === this.#whole?.shape && at - this.#whole.at < TRUST_SHAPE_MS) return undefined;
    const missing = await missingRule(exec, tool, (family) => checkText(this.#config, family));
    // What changes during the check has another shape the next time.
    this.#whole = missing === undefined && shape !== undefined ? { shape, at } : undefined;
    return missing;
  }
}

/** Every jump, canary and fixed rule, asked for. */
function checkText(config: RulesConfig, family: IpFamily): string {
  const guard = loopbackGuard(config, family);
  const lines: Record<Table, string> = { mangle: '', filter: guard === undefined ? '' : asked(guard), nat: '' };
  for (const { table, from, text } of jumps(config, family)) lines[table] += `-C ${from} ${text}\n`;
  for (const [id, rules] of fixedChains(config, family, { dropInvalid: false })) {
    const { table, name } = partsOfChain(id);
    lines[table] += name === CANARY ? `-S ${name}\n` : asked(rules);
  }
  return TABLES.map((table) => `*${table}\n${lines[table]}COMMIT\n`).join('');
}

function asked(rules: string): string {
  return rules.replaceAll(/^-A /gm, '-C ');
}
