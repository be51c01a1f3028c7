// Looks every few seconds whether the rules that lead to ours are still there: one process a family, which lists nothing, and not even that
// while the tables have the shape that they had.
// `iptables -F` leaves the chains and takes the jumps; `-X` takes the canaries.

import type { IpFamily } from '../../lib/ip.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { RulesConfig } from '../config.ts';
import { fixedChains, jumps, loopbackGuard } from './layout.ts';
import { CANARY, TABLES, partsOfChain, type Table } from './names.ts';
import { tableShape } from './table-shape.ts';
import { programOf, type IptablesTool } from './tool.ts';

const INTERVAL_MS = 1_500;
/** A table of the same shape is taken for untouched for so long: a rule may have been replaced by one of the same size. */
const TRUST_SHAPE_MS = 30_000;
/** A check of a large table takes time (the legacy tool reads all of it); it gets at most a twentieth of one CPU, unless repair would take over 5 s. */
const LONGEST_INTERVAL_MS = 2_500;
const SHARE = 20;
const TIMEOUT_MS = 30_000;

export interface DriftOptions {
  readonly config: RulesConfig;
  readonly exec: Exec;
  readonly clock: Clock;
}

export class DriftWatch {
  readonly #options: DriftOptions;
  #config: RulesConfig;
  /** The shape of the tables before the last check that found nothing missing, and when that was. */
  #whole: { readonly shape: string; readonly at: number } | undefined;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(options: DriftOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  configure(config: RulesConfig): void {
    this.#config = config;
    this.#whole = undefined;
  }

  /** Calls `look` from time to time until `stop`. */
  start(look: () => Promise<void>): void {
    this.#schedule(look, INTERVAL_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /** What is missing, for the log; undefined when all is there. */
  async check(tool: IptablesTool): Promise<string | undefined> {
    const { exec, clock } = this.#options;
    const shape = tool.legacy ? await tableShape(exec, tool.families) : undefined;
    const at = clock.monotonic();
    if (shape !== undefined && shape === this.#whole?.shape && at - this.#whole.at < TRUST_SHAPE_MS) return undefined;
    const missing = await this.#ask(tool);
    // What changes during the check has another shape the next time.
    this.#whole = missing === undefined && shape !== undefined ? { shape, at } : undefined;
    return missing;
  }

  async #ask({ families, variant, legacy }: IptablesTool): Promise<string | undefined> {
    for (const family of families) {
      const program = programOf(family, variant, '-restore');
      // Over nf_tables `--test` would not look; there is nothing to commit in either.
      const args = ['-w', '5', '--noflush', ...(legacy ? ['--test'] : [])];
      const input = checkText(this.#config, family);
      const result = await this.#options.exec.run(program, args, { input, timeoutMs: TIMEOUT_MS });
      if (result.exitCode === 1 || result.exitCode === 2) {
        const line = Number(/line:? ([0-9]+)/i.exec(result.stderr)?.[1]);
        return `IPv${family}: ${input.split('\n')[line - 1]?.slice(3) ?? result.stderr.trim()}`;
      }
    }
    return undefined;
  }

  #schedule(look: () => Promise<void>, delay: number): void {
    if (this.#stopped) return;
    const { clock } = this.#options;
    this.#timer = clock.after(delay, () => {
      const start = clock.monotonic();
      this.#running = look().finally(() => {
        const pause = (clock.monotonic() - start) * SHARE;
        this.#schedule(look, Math.min(LONGEST_INTERVAL_MS, Math.max(INTERVAL_MS, pause)));
      });
    });
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
