// The nftables backend: a plan into the kernel, one transaction a sync. It keeps in memory what it wrote and never lists
// tables on the way of a sync; at start and after a failure it reads back what is there and writes the difference.

import type { IpFamily } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import { systemClock, type Clock } from '../../system/clock.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { Follow } from '../../system/follow.ts';
import type { Count, Metrics } from '../../observe/metrics.ts';
import type { CleanupOutcome, Owned, Rejection, RulesBackend, SyncOutcome } from '../backend.ts';
import type { RulesConfig } from '../config.ts';
import { FAMILY_LABELS } from '../sync-metrics.ts';
import type { ElementId, ElementValue } from './contribution.ts';
import {
  CONTAINER_NAMES,
  FAMILIES,
  TABLE,
  fixedChains,
  isOnDemand,
  marker,
  nftFamily,
  chainOfElement,
  chainOnDemand,
  type ChainName,
} from './layout.ts';
import { formerOrder } from './former-order.ts';
import type { TableState } from './parse.ts';
import { composed, Planner, type ChangeGroup } from './plan.ts';
import { readBack } from './read-back.ts';
import {
  chainsNeeded,
  renderChanges,
  renderDeletedChains,
  renderNewChains,
  renderRules,
  renderTable,
  withBehind,
} from './render.ts';
import { TableWatch } from './watch.ts';

export interface NftablesOptions {
  readonly config: RulesConfig;
  readonly exec: Exec;
  readonly log: Logger;
  /** With it the tables are watched for changes of others. */
  readonly follow?: Follow;
  readonly clock?: Clock;
  readonly metrics?: Metrics;
  readonly random?: () => number;
  /** A transaction of a first load holds no more elements than this, so that memory stays bounded (a Service is never split). */
  readonly batchSize?: number;
}

const BATCH_SIZE = 50_000;
/** The kernel tells of every element to whoever listens, which doubles the time of a large load. */
const UNWATCHED_SIZE = 5000;
const NFT_TIMEOUT_MS = 120_000;
/** nft echoes the line that it refuses; that much of it goes to the log. */
const MESSAGE_LENGTH = 600;

/** With more Services refused than this it is not about them. */
const MAX_REJECTED = 16;

/** A transaction that nft refused. */
class NftError extends Error {
  readonly code = 'nft-refused';
  /** Whether something in the text may be at fault, and not the machine. */
  readonly aboutText: boolean;

  constructor(message: string, aboutText = false) {
    super(message);
    this.aboutText = aboutText;
  }
}

/** What the kernel holds, as far as we wrote or read it. */
interface Known {
  readonly planner: Planner;
  /** The chains made on demand that exist, by family, and how many elements name each. */
  readonly chains: Readonly<Record<IpFamily, Map<ChainName, number>>>;
}

export class NftablesBackend implements RulesBackend {
  readonly mode = 'nftables';
  readonly #options: NftablesOptions;
  #config: RulesConfig;
  #known: Known | undefined;
  #transactions = 0;
  #elements: Record<IpFamily, number> = { 4: 0, 6: 0 };
  readonly #cleanupFailures: Count | undefined;
  #removesAtOnce = true;
  #watch: TableWatch | undefined;
  /** Somebody changed the tables: rules are written anew even if there are as many as there should be. */
  #suspect = false;
  /** Services that the kernel did not take. */
  #rejected: ReadonlyMap<ObjectKey, Rejection> = new Map();
  /** Those of them that this very sync has tried. */
  readonly #fresh = new Set<ObjectKey>();

  constructor(options: NftablesOptions) {
    this.#options = options;
    this.#config = options.config;
    this.#cleanupFailures = options.metrics?.counter({
      name: 'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total',
      help: 'Times that chains which nothing needs any more could not be deleted.',
      labels: ['ip_family'],
    });
    for (const label of Object.values(FAMILY_LABELS)) this.#cleanupFailures?.add(0, { ip_family: label });
  }

  watch(onDrift: (what: string) => void): void {
    const { follow, exec, log, clock = systemClock, random = Math.random } = this.#options;
    if (!follow) return;
    this.#watch = new TableWatch({
      follow,
      exec,
      clock,
      random,
      log,
      onDrift: (what) => {
        this.#suspect = true;
        onDrift(what);
      },
    });
  }

  async sync(snapshot: Snapshot): Promise<SyncOutcome> {
    const suspect = this.#suspect;
    this.#suspect = false;
    if (suspect) this.#known = undefined;
    try {
      const changed = this.#known && (await this.#change(this.#known, snapshot));
      const counts = changed ?? (await this.#load(snapshot, suspect));
      if (this.#known) await this.#tryRejected(this.#known, snapshot);
      this.#watch?.begin();
      return {
        kind: 'applied',
        counts,
        full: changed === undefined,
        ...(this.#rejected.size > 0 ? { rejected: [...this.#rejected.values()] } : {}),
      };
    } catch (error) {
      // What is in the kernel is not certain now: read it back and write the difference the next time.
      this.#known = undefined;
      this.#suspect ||= suspect;
      if (!(error instanceof NftError) && !(error instanceof TypeError) && !(error instanceof SyntaxError)) throw error;
      return { kind: 'failed', reason: error.message, families: FAMILIES };
    }
  }

  /** The table is read back then, and what differs is written, as after a restart. */
  configure(config: RulesConfig): void {
    this.#config = config;
    this.#known = undefined;
  }

  async cleanup(): Promise<CleanupOutcome> {
    this.#known = undefined;
    await this.#watch?.pause();
    return removeTables(this.#options.exec);
  }

  async stop(): Promise<void> {
    await this.#watch?.pause();
    this.#known = undefined;
  }

  owned(): Owned {
    const rules = { 4: 0, 6: 0 };
    for (const family of FAMILIES) {
      for (const chain of fixedChains(this.#options.config, family)) rules[family] += chain.rules.length;
      for (const name of this.#known?.chains[family].keys() ?? []) {
        rules[family] += chainOnDemand(family, name).rules.length;
      }
    }
    return { elements: { ...this.#elements }, rules };
  }

  state(): unknown {
    return {
      table: TABLE,
      services: this.#known?.planner.services ?? 0,
      elements: this.#elements[4] + this.#elements[6],
      chains: FAMILIES.flatMap((family) =>
        [...(this.#known?.chains[family].keys() ?? [])].map((name) => `${nftFamily(family)} ${name}`),
      ),
      transactions: this.#transactions,
    };
  }

  /** Undefined when the transaction was refused for something in it. */
  async #change(known: Known, snapshot: Snapshot): Promise<Readonly<Record<string, number>> | undefined> {
    const changes = known.planner.advance(snapshot);
    if (changes.length === 0) return {};
    try {
      return await this.#write(known, [{ about: 'change', changes }], '', true);
    } catch (error) {
      if (!(error instanceof NftError) || !error.aboutText) throw error;
      // One of many changes is at fault, or the tables are not what we thought: read back, and go Service by Service.
      this.#known = undefined;
      return undefined;
    }
  }

  /** Each rejected Service once more, alone; what is refused again changes nothing. */
  async #tryRejected(known: Known, snapshot: Snapshot): Promise<void> {
    for (const [key, rejection] of this.#rejected) {
      if (this.#fresh.delete(key)) continue;
      const others = new Map(this.#rejected);
      others.delete(key);
      known.planner.leaveOut(new Set(others.keys()));
      const changes = known.planner.advance(snapshot);
      try {
        if (changes.length > 0) await this.#write(known, [{ about: key, changes }], '', true);
        this.#rejected = others;
      } catch (error) {
        if (!(error instanceof NftError) || !error.aboutText) throw error;
        known.planner.leaveOut(new Set(this.#rejected.keys()));
        // Another Service may get back an address that this one claimed, with its endpoints in another order than before.
        const back = composed(changes, known.planner.advance(snapshot));
        this.#rejected = new Map(this.#rejected).set(key, { ...rejection, reason: error.message });
        if (back.length > 0) await this.#write(known, [{ about: key, changes: back }], '', true);
      }
    }
  }

  /** Reads back and writes the difference. Services that are refused are left out, and what the others share with them is seen to once more. */
  async #load(snapshot: Snapshot, suspect: boolean): Promise<Readonly<Record<string, number>>> {
    this.#rejected = new Map();
    this.#fresh.clear();
    let counts = await this.#loadOnce(snapshot, suspect);
    for (let before = 0; before < this.#rejected.size;) {
      before = this.#rejected.size;
      counts = sumOf(counts, await this.#loadOnce(snapshot, false));
    }
    return counts;
  }

  async #loadOnce(snapshot: Snapshot, suspect: boolean): Promise<Readonly<Record<string, number>>> {
    const config = this.#config;
    const elements = new Map<ElementId, ElementValue>();
    const found: Record<IpFamily, TableState | undefined> = { 4: undefined, 6: undefined };
    for (const family of FAMILIES) found[family] = await this.#readBack(family, elements);
    let preamble = '';
    const chains: Record<IpFamily, Map<ChainName, number>> = { 4: new Map(), 6: new Map() };
    for (const family of FAMILIES) {
      const { text, kept } = startingPoint(config, family, found[family], suspect);
      preamble += text;
      for (const name of kept) chains[family].set(name, 0);
      if (!found[family] || text.startsWith('delete table')) {
        for (const id of elements.keys()) if (id.startsWith(`${family}/`)) elements.delete(id);
      }
    }
    for (const [id, value] of elements) count(chains, id, value, 1);
    const planner = new Planner(config, formerOrder(elements));
    planner.leaveOut(new Set(this.#rejected.keys()));
    planner.advance(snapshot);
    const known: Known = { planner, chains };
    this.#elements = { 4: 0, 6: 0 };
    for (const id of elements.keys()) this.#elements[familyOf(id)]++;
    const total = await this.#writeInBatches(known, planner.changesFrom(elements), preamble);
    await this.#removeUnusedChains(known);
    this.#known = known;
    return total;
  }

  async #writeInBatches(
    known: Known,
    groups: Iterable<ChangeGroup>,
    preamble: string,
  ): Promise<Readonly<Record<string, number>>> {
    const limit = this.#options.batchSize ?? BATCH_SIZE;
    let total: Readonly<Record<string, number>> = {};
    let batch: ChangeGroup[] = [];
    let size = 0;
    let first = preamble;
    const flush = async (): Promise<void> => {
      if (first === '' && batch.length === 0) return;
      if (size > UNWATCHED_SIZE) await this.#watch?.pause();
      total = sumOf(total, await this.#writeOrDivide(known, batch, first));
      first = '';
      batch = [];
      size = 0;
    };
    for (const group of groups) {
      if (size > 0 && size + group.changes.length > limit) await flush();
      batch.push(group);
      size += group.changes.length;
    }
    await flush();
    return total;
  }

  /** One transaction; if it is refused, two of half the Services each, down to the one that is at fault. */
  async #writeOrDivide(
    known: Known,
    groups: readonly ChangeGroup[],
    preamble: string,
  ): Promise<Readonly<Record<string, number>>> {
    try {
      return await this.#write(known, groups, preamble, false);
    } catch (error) {
      if (!(error instanceof NftError) || !error.aboutText || this.#rejected.size >= MAX_REJECTED) throw error;
      if (preamble !== '') {
        if (groups.length === 0) throw error;
        const first = await this.#write(known, [], preamble, false);
        return sumOf(first, await this.#writeOrDivide(known, groups, ''));
      }
      const [only, ...others] = groups;
      if (only && others.length === 0) {
        if (!known.planner.has(only.about)) throw error;
        const families = FAMILIES.filter((family) => only.changes.some(({ id }) => id.startsWith(`${family}/`)));
        const rejection = { service: only.about, families, reason: error.message };
        this.#rejected = new Map(this.#rejected).set(only.about, rejection);
        this.#fresh.add(only.about);
        return {};
      }
      const half = Math.ceil(groups.length / 2);
      const left = await this.#writeOrDivide(known, groups.slice(0, half), '');
      return sumOf(left, await this.#writeOrDivide(known, groups.slice(half), ''));
    }
  }

  /** One transaction: chains that are needed first, then what goes, then what comes, then chains that nothing names any more. */
  async #write(
    known: Known,
    groups: readonly ChangeGroup[],
    preamble: string,
    last: boolean,
  ): Promise<Readonly<Record<string, number>>> {
    let chains = '';
    const made: (readonly [IpFamily, ChainName])[] = [];
    for (const family of FAMILIES) {
      const missing = [...chainsNeeded(groups, family)].filter((name) => !known.chains[family].has(name));
      chains += renderNewChains(family, missing);
      for (const name of missing) {
        known.chains[family].set(name, 0);
        made.push([family, name]);
      }
    }
    const grown = { 4: 0, 6: 0 };
    let added = 0;
    let changed = 0;
    let removed = 0;
    for (const { changes } of groups) {
      for (const { id, before, after } of changes) {
        if (before === undefined) {
          added++;
          grown[familyOf(id)]++;
        } else if (after === undefined) {
          removed++;
          grown[familyOf(id)]--;
        } else changed++;
      }
    }
    countAll(known, groups, 1);
    const text = preamble + chains + renderChanges(groups);
    try {
      if (last) await this.#runAndRemoveChains(known, text);
      else await this.#run(text);
    } catch (error) {
      countAll(known, groups, -1);
      for (const [family, name] of made) known.chains[family].delete(name);
      throw error;
    }
    for (const family of FAMILIES) this.#elements[family] += grown[family];
    return { added, changed, removed, chains: made.length };
  }

  /**
   * Chains that nothing names any more go in the transaction that let go of them. Kernels before 6.2 count the references
   * until later and refuse the whole; there the chains are emptied first and deleted in a transaction of its own.
   */
  async #runAndRemoveChains(known: Known, text: string): Promise<void> {
    const unused = unusedChains(known);
    if (this.#removesAtOnce && unused.detach !== '') {
      const result = await this.#transaction(text + unused.detach + unused.remove);
      if (result.exitCode === 0) {
        unused.forget();
        return;
      }
      if (!/resource busy/.test(result.stderr)) throw refused(result);
      this.#removesAtOnce = false;
    }
    await this.#run(text);
    await this.#removeUnusedChains(known);
  }

  async #removeUnusedChains(known: Known): Promise<void> {
    const unused = unusedChains(known);
    if (unused.detach === '') return;
    await this.#run(unused.detach);
    unused.forget();
    const result = await this.#transaction(unused.remove);
    // Empty and out of reach, they do no harm; the next start takes them away.
    if (result.exitCode === 0) return;
    this.#options.log.debug('empty chains stay', { reason: message(result) });
    for (const label of Object.values(FAMILY_LABELS)) this.#cleanupFailures?.add(1, { ip_family: label });
  }

  async #readBack(family: IpFamily, elements: Map<ElementId, ElementValue>): Promise<TableState | undefined> {
    const { exec, follow } = this.#options;
    const read = await readBack(family, elements, { exec, follow, timeoutMs: NFT_TIMEOUT_MS });
    if (read.kind === 'found') return read.table;
    if (read.kind === 'missing') return undefined;
    throw new NftError(`nft list table ${nftFamily(family)} ${TABLE} failed: ${message(read.result)}`);
  }

  async #run(text: string): Promise<void> {
    const result = await this.#transaction(text);
    if (result.exitCode !== 0) throw refused(result);
  }

  async #transaction(text: string): Promise<ExecResult> {
    this.#watch?.expect();
    const result = await this.#options.exec.run('nft', ['-f', '-'], { input: text, timeoutMs: NFT_TIMEOUT_MS });
    this.#watch?.expected(result.exitCode === 0);
    if (result.exitCode === 0) this.#transactions++;
    return result;
  }
}

/** What has to be written before any element, and which chains made on demand then exist. */
function startingPoint(
  config: RulesConfig,
  family: IpFamily,
  found: TableState | undefined,
  suspect: boolean,
): { readonly text: string; readonly kept: readonly ChainName[] } {
  if (!found) return { text: renderTable(config, family), kept: [] };
  const { shape, name } = marker(config, family);
  const markers = [...found.chains.keys()].filter((chain) => chain.startsWith('layout-'));
  const whole = CONTAINER_NAMES.every((container) => found.containers.has(container));
  if (!whole || !markers.some((each) => each.startsWith(shape))) {
    return { text: `delete table ${nftFamily(family)} ${TABLE}\n${renderTable(config, family)}`, kept: [] };
  }
  const kept = [...found.chains.keys()].filter(isOnDemand);
  const untouched =
    !suspect &&
    markers.length === 1 &&
    markers[0] === name &&
    fixedChains(config, family).every((chain) => found.chains.get(chain.name) === chain.rules.length) &&
    kept.every((chain) => found.chains.get(chain) === chainOnDemand(family, chain).rules.length);
  return { text: untouched ? '' : renderRules(config, family, { markers, onDemand: kept }), kept };
}

function count(
  chains: Readonly<Record<IpFamily, Map<ChainName, number>>>,
  id: ElementId,
  value: ElementValue,
  by: number,
): void {
  const name = chainOfElement(id.slice(2, id.indexOf('/', 2)), value);
  if (name === undefined) return;
  const family = chains[id.startsWith('4/') ? 4 : 6];
  const now = family.get(name);
  if (now !== undefined) family.set(name, now + by);
}

function familyOf(id: ElementId): IpFamily {
  return id.startsWith('4/') ? 4 : 6;
}

function countAll(known: Known, groups: readonly ChangeGroup[], by: 1 | -1): void {
  for (const { changes } of groups) {
    for (const { id, before, after } of changes) {
      if (before !== undefined) count(known.chains, id, before, -by);
      if (after !== undefined) count(known.chains, id, after, by);
    }
  }
}

function sumOf(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const sum = { ...a };
  for (const [name, value] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + value;
  return sum;
}

interface UnusedChains {
  readonly detach: string;
  readonly remove: string;
  /** To be called when they are gone. */
  readonly forget: () => void;
}

/** The chains that no element names, nor a chain that stays. */
function unusedChains({ chains }: Known): UnusedChains {
  const unused = FAMILIES.map((family) => {
    const needed = withBehind([...chains[family]].filter(([, uses]) => uses > 0).map(([name]) => name));
    return { family, names: [...chains[family].keys()].filter((name) => !needed.has(name)) };
  });
  const texts = unused.map(({ family, names }) => renderDeletedChains(family, names));
  return {
    detach: texts.map(({ detach }) => detach).join(''),
    remove: texts.map(({ remove }) => remove).join(''),
    forget: () => {
      for (const { family, names } of unused) for (const name of names) chains[family].delete(name);
    },
  };
}

function refused(result: ExecResult): NftError {
  const aboutText =
    result.exitCode > 0 && !/not permitted|Cannot allocate memory|No buffer space|resource busy/.test(result.stderr);
  return new NftError(`nft refused a transaction: ${message(result)}`, aboutText);
}

/** Removes our tables with everything in them. A machine without nft, or without the right to use it, is no error here. */
export async function removeTables(exec: Exec): Promise<CleanupOutcome> {
  const removed: string[] = [];
  const problems: string[] = [];
  for (const family of FAMILIES) {
    const table = `${nftFamily(family)} ${TABLE}`;
    const result = await exec.run('nft', ['delete', 'table', nftFamily(family), TABLE], { timeoutMs: NFT_TIMEOUT_MS });
    if (result.exitCode === 0) removed.push(`nftables table ${table}`);
    else if (!result.notFound && !/No such file or directory/.test(result.stderr)) {
      problems.push(`nftables table ${table} could not be removed: ${message(result)}`);
    }
  }
  return { removed, problems };
}

export function message(result: ExecResult): string {
  if (result.notFound) return 'nft is not on this machine (apt-get install nftables)';
  if (result.timedOut) return `nft did not end within ${NFT_TIMEOUT_MS / 1000} s`;
  const text = result.stderr.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return text === '' ? `nft ended with code ${result.exitCode}` : text.slice(0, MESSAGE_LENGTH);
}
