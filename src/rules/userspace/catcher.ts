// Brings the rules of catch-rules.ts into the kernel, by nft where it can be used, else by iptables, and takes them out again.

import { ipFamily, type IpFamily } from '../../lib/ip.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { CleanupOutcome } from '../backend.ts';
import { NOTHING } from '../cleanup-outcome.ts';
import { hasTable, listChains } from '../nftables/chain-list.ts';
import { KUBE_PROXY_TABLE, nftFamily, TABLE } from '../nftables/layout.ts';
import { CATCH_CHAINS, CATCH_TABLE, renderCatchChains, renderCatchTable, type CaughtAddress } from './catch-rules.ts';

const TIMEOUT_MS = 30_000;
const FAMILIES: readonly IpFamily[] = [4, 6];
/** Waits for others that hold the lock of iptables. */
const WAIT = ['-w', '5'];

type Tool = 'nft' | 'iptables';

export type CatchTool =
  | { readonly kind: 'with'; readonly tool: Tool }
  | { readonly kind: 'not'; readonly reason: string };

export type CatchOutcome =
  | { readonly kind: 'written' | 'unchanged' }
  /** In one line. */
  | { readonly kind: 'failed'; readonly reason: string };

/** What a look finds: all as it was written; something of it gone; or gone, and the rules of another mode in its place. */
export type CatchState = 'there' | 'missing' | 'taken over';

/** Every so many looks the elements of the table are counted, and not only its chains looked for. */
const THOROUGH = 10;

export class Catcher {
  readonly #exec: Exec;
  #tool: Tool | undefined;
  #looks = 0;
  /** What is in the kernel, as text; undefined before the first write. */
  readonly #written = new Map<IpFamily, string>();
  /** How many addresses of the family that leads here. */
  readonly #counts = new Map<IpFamily, number>();

  constructor(exec: Exec) {
    this.#exec = exec;
  }

  /** Finds a tool that may write. Asked once; says why there is none. */
  async prepare(): Promise<CatchTool> {
    const nft = await this.#run('nft', ['-c', '-f', '-'], `add table ip ${CATCH_TABLE}\n`);
    if (nft.exitCode === 0) return this.#with('nft');
    const iptables = await this.#run('iptables', [...WAIT, '-t', 'nat', '-S', 'PREROUTING']);
    if (iptables.exitCode === 0) return this.#with('iptables');
    return { kind: 'not', reason: `nft: ${problemOf(nft)}; iptables: ${problemOf(iptables)}` };
  }

  /** Brings these and no others into force. */
  async write(caught: readonly CaughtAddress[]): Promise<CatchOutcome> {
    let kind: 'written' | 'unchanged' = 'unchanged';
    for (const family of FAMILIES) {
      const text = this.#tool === 'nft' ? renderCatchTable(caught, family) : renderCatchChains(caught, family);
      if (this.#written.get(family) === text) continue;
      const count = caught.filter(({ address }) => ipFamily(address) === family).length;
      const result = await this.#apply(family, text, count === 0);
      if (result.exitCode !== 0) {
        this.#written.delete(family);
        return { kind: 'failed', reason: `${this.#tool}: ${problemOf(result)}` };
      }
      kind = 'written';
      this.#written.set(family, text);
      this.#counts.set(family, count);
    }
    return { kind };
  }

  /** Looks whether what was written is still there. */
  async look(): Promise<CatchState> {
    this.#looks++;
    for (const family of FAMILIES) {
      const count = this.#counts.get(family) ?? 0;
      if (count === 0 || !this.#written.has(family)) continue;
      const isThere = this.#tool === 'nft' ? await this.#hasTable(family, count) : await this.#hasChains(family, count);
      if (isThere) continue;
      return (await this.#isTakenOver()) ? 'taken over' : 'missing';
    }
    return 'there';
  }

  /** The next `write` writes all of it, whatever was written before. */
  forget(): void {
    this.#written.clear();
  }

  async remove(): Promise<CleanupOutcome> {
    if (this.#tool === undefined) return NOTHING;
    this.#written.clear();
    return removeCatching(this.#exec);
  }

  async #apply(family: IpFamily, text: string, isEmpty: boolean): Promise<ExecResult> {
    if (this.#tool === 'nft') return this.#run('nft', ['-f', '-'], text);
    // What an earlier run left goes; chains that would hold nothing are not made.
    if (isEmpty && !this.#written.has(family)) {
      await removeChains(this.#exec, family);
      return { exitCode: 0, stdout: '', stderr: '', notFound: false, timedOut: false };
    }
    return this.#restore(family, text);
  }

  async #hasTable(family: IpFamily, count: number): Promise<boolean> {
    const isThorough = this.#looks % THOROUGH === 0;
    const terse = isThorough ? [] : ['--terse'];
    const { exitCode, stdout, timedOut } = await this.#run('nft', [
      ...terse,
      'list',
      'table',
      nftFamily(family),
      CATCH_TABLE,
    ]);
    if (timedOut) return true;
    if (exitCode !== 0) return false;
    const rules = [/dnat .*map @relays[^]*dnat .*map @relays/, /snat .*map @services/, /@sockets drop/];
    if (!rules.every((rule) => rule.test(stdout))) return false;
    const maps = [...stdout.matchAll(/map \w+ \{[^}]*elements = \{([^}]*)\}/g)];
    return !isThorough || (maps.length === 2 && maps.every(([, elements]) => elements?.split(',').length === count));
  }

  async #hasChains(family: IpFamily, count: number): Promise<boolean> {
    for (const table of ['nat', 'filter']) {
      const saved = await this.#run(`${iptablesOf(family)}-save`, ['-t', table]);
      if (saved.exitCode !== 0) return true;
      const lines = saved.stdout.split('\n');
      for (const { name, calledFrom } of CATCH_CHAINS.filter((chain) => chain.table === table)) {
        if (lines.filter((line) => line.startsWith(`-A ${name} `)).length !== count) return false;
        if (!calledFrom.every((chain) => lines.includes(`-A ${chain} -j ${name}`))) return false;
      }
    }
    return true;
  }

  /** A mode that is started removes our rules once its own are in force: they are not to come back then. */
  async #isTakenOver(): Promise<boolean> {
    const chains = await listChains(this.#exec, TIMEOUT_MS);
    if (chains && [TABLE, KUBE_PROXY_TABLE].some((name) => hasTable(chains, name))) return true;
    const services = await this.#run('iptables', [...WAIT, '-t', 'nat', '-S', 'KUBE-SERVICES']);
    return services.exitCode === 0;
  }

  #with(tool: Tool): CatchTool {
    this.#tool = tool;
    return { kind: 'with', tool };
  }

  async #restore(family: IpFamily, text: string): Promise<ExecResult> {
    const result = await this.#run(`${iptablesOf(family)}-restore`, [...WAIT, '--noflush'], text);
    if (result.exitCode !== 0) return result;
    for (const { table, name, calledFrom } of CATCH_CHAINS) {
      for (const chain of calledFrom) {
        const rule = [chain, '-j', name];
        const there = await this.#run(iptablesOf(family), [...WAIT, '-t', table, '-C', ...rule]);
        if (there.exitCode === 0) continue;
        const added = await this.#run(iptablesOf(family), [...WAIT, '-t', table, '-I', ...rule]);
        if (added.exitCode !== 0) return added;
      }
    }
    return result;
  }

  #run(file: string, args: readonly string[], input?: string): Promise<ExecResult> {
    return this.#exec.run(file, args, { timeoutMs: TIMEOUT_MS, ...(input === undefined ? {} : { input }) });
  }
}

/** Where the rules may be. */
export interface CatchingAt {
  readonly tables: boolean;
  readonly chains: boolean;
}

/** Takes the rules out of the kernel, whichever tool brought them there. */
export async function removeCatching(
  exec: Exec,
  { tables, chains }: CatchingAt = { tables: true, chains: true },
): Promise<CleanupOutcome> {
  const removed: string[] = [];
  const problems: string[] = [];
  for (const family of FAMILIES) {
    if (tables) {
      const name = `nftables table ${nftFamily(family)} ${CATCH_TABLE}`;
      const table = await exec.run('nft', ['delete', 'table', nftFamily(family), CATCH_TABLE], {
        timeoutMs: TIMEOUT_MS,
      });
      if (table.exitCode === 0) removed.push(name);
      else if (!table.notFound && !/No such file or directory/.test(table.stderr))
        problems.push(`${name}: ${problemOf(table)}`);
    }
    if (chains && (await removeChains(exec, family))) removed.push(`${iptablesOf(family)} chains of --mode userspace`);
  }
  return { removed, problems };
}

async function removeChains(exec: Exec, family: IpFamily): Promise<boolean> {
  const run = (...args: readonly string[]): Promise<ExecResult> =>
    exec.run(iptablesOf(family), [...WAIT, ...args], { timeoutMs: TIMEOUT_MS });
  const [{ table: first, name: lead }] = CATCH_CHAINS;
  const there = await run('-t', first, '-S', lead);
  if (there.exitCode !== 0) return false;
  for (const { table, name, calledFrom } of CATCH_CHAINS) {
    for (const chain of calledFrom) await run('-t', table, '-D', chain, '-j', name);
    await run('-t', table, '-F', name);
    await run('-t', table, '-X', name);
  }
  return true;
}

function iptablesOf(family: IpFamily): 'iptables' | 'ip6tables' {
  return family === 4 ? 'iptables' : 'ip6tables';
}

function problemOf(result: ExecResult): string {
  if (result.notFound) return 'not on this machine';
  if (result.timedOut) return `no answer within ${TIMEOUT_MS / 1000} s`;
  return result.stderr.trim().split('\n', 1)[0]?.slice(0, 200) ?? `ended with ${result.exitCode}`;
}
