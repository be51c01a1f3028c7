// The iptables backend: a plan into the kernel, one `iptables-restore` a family. It keeps in memory what it wrote and never
// lists tables on the way of a sync; at start, after a failure and when rules were found missing it reads back what is
// there and writes the difference.

import type { IpFamily } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import type { Metrics } from '../../observe/metrics.ts';
import type { Clock } from '../../system/clock.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { CleanupOutcome, Owned, RulesBackend, SyncOutcome } from '../backend.ts';
import type { RulesConfig } from '../config.ts';
import { LeftOut } from '../left-out.ts';
import { RulesError } from '../rules-error.ts';
import { jumps, loopbackGuard, type MachineFacts } from './layout.ts';
import { missingGuard, routeLoopback } from './loopback.ts';
import { PacketAccounting } from './accounting.ts';
import { findCulprit } from './culprit.ts';
import { DriftWatch } from './drift.ts';
import { IptablesMetrics } from './metrics.ts';
import type { ChainId } from './names.ts';
import { linesOf, parseSave, sameRule, sameRules, type SavedState } from './parse.ts';
import { Planner, type ChainChange } from './plan.ts';
import { removeOwnChains } from './remove.ts';
import { chainAtLine, renderRestore, type Restore } from './render.ts';
import { findTool, programOf, type IptablesTool, type Variant } from './tool.ts';

export interface IptablesOptions {
  readonly config: RulesConfig;
  readonly exec: Exec;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** The programs, where they have been looked for already. */
  readonly tool?: IptablesTool | undefined;
}

const RESTORE = ['-w', '5', '--noflush', '--counters'];
const RESTORE_TIMEOUT_MS = 300_000;
/** Of what the tool says, that much goes to the log. */
const MESSAGE_LENGTH = 600;

/** A text that the tool did not take. */
class RestoreError extends Error {
  readonly code = 'restore-refused';
  readonly families: readonly IpFamily[];
  /** Whose rule it was, when that can be told. */
  readonly service: ObjectKey | undefined;
  /** The chain that could not be deleted. */
  readonly undeletable: ChainId | undefined;
  /** The tool names no rule, as it was the kernel that refused. */
  readonly atCommit: boolean;

  constructor(message: string, family: IpFamily, blame: Pick<RestoreError, 'service' | 'undeletable' | 'atCommit'>) {
    super(message);
    this.families = [family];
    this.service = blame.service;
    this.undeletable = blame.undeletable;
    this.atCommit = blame.atCommit;
  }
}

export class IptablesBackend implements RulesBackend {
  readonly mode = 'iptables';
  readonly #options: IptablesOptions;
  readonly #metrics: IptablesMetrics;
  readonly #drift: DriftWatch;
  #config: RulesConfig;
  readonly #leftOut = new LeftOut();
  readonly #undeletable = new Set<ChainId>();
  readonly #accounting: PacketAccounting;
  /** The kernel has taken rules that name counters, if any do. */
  #countsTaken = false;
  #tool: IptablesTool | undefined;
  #planner: Planner | undefined;
  #restores = 0;
  #syncs = 0;

  constructor(options: IptablesOptions) {
    this.#options = options;
    this.#config = options.config;
    this.#metrics = new IptablesMetrics(options.metrics);
    this.#drift = new DriftWatch(options);
    this.#accounting = new PacketAccounting(options.exec, options.metrics);
  }

  /** The programs in use, by the name that both kinds have beside `iptables`. */
  get variantInUse(): Variant {
    return this.#tool?.legacy === true ? '-legacy' : '-nft';
  }

  async sync(snapshot: Snapshot): Promise<SyncOutcome> {
    this.#syncs++;
    this.#forgive(snapshot);
    for (;;) {
      const partial = this.#planner !== undefined;
      try {
        const counts = await this.#write(snapshot);
        const rejected = this.#leftOut.rejections;
        return rejected ? { kind: 'applied', counts, rejected } : { kind: 'applied', counts };
      } catch (error) {
        // What is in the kernel is not certain now: read it back and write the difference the next time.
        this.#planner = undefined;
        if (error instanceof RulesError) return { kind: 'failed', reason: error.message, families: [4, 6] };
        if (!(error instanceof RestoreError)) throw error;
        for (const family of error.families) this.#metrics.failed(family, partial);
        if (!this.#countsTaken) {
          // Counters may be there, and the match that names them not. When it fails without them, too, it was not that.
          this.#countsTaken = this.#accounting.isRefused;
          this.#accounting.refuse(!this.#countsTaken);
          if (!this.#countsTaken) continue;
        }
        // Others may have taken chains away that a part of the rules leads to; only the whole shows whose fault it is.
        if (partial) continue;
        const service = error.service ?? (await this.#findCulprit(error, snapshot));
        if (!this.#leaveOut(error, service, snapshot)) {
          return { kind: 'failed', reason: error.message, families: error.families };
        }
      }
    }
  }

  /** The rules are read back then, and what differs is written, as after a restart. */
  configure(config: RulesConfig): void {
    this.#config = config;
    this.#drift.configure(config);
    this.#planner = undefined;
  }

  watch(onDrift: (what: string) => void): void {
    this.#drift.start(async () => {
      const syncs = this.#syncs;
      if (this.#planner === undefined || this.#tool === undefined) return;
      const missing = await this.#drift.check(this.#tool);
      await this.#accounting.read();
      // A sync that came meanwhile has its own view of things.
      if (syncs !== this.#syncs) return;
      if (missing === undefined) return;
      this.#planner = undefined;
      onDrift(`missing from iptables: ${missing}`);
    });
  }

  async cleanup(): Promise<CleanupOutcome> {
    this.#planner = undefined;
    return removeOwnChains(this.#options.exec);
  }

  async stop(): Promise<void> {
    await this.#drift.stop();
    this.#planner = undefined;
  }

  owned(): Owned {
    const rules = { 4: 0, 6: 0 };
    for (const [table, count] of Object.entries(this.#metrics.totals())) rules[table.startsWith('4/') ? 4 : 6] += count;
    return { elements: { 4: 0, 6: 0 }, rules };
  }

  state(): unknown {
    return {
      tool: this.#tool && { ...this.#tool, program: programOf(4, this.#tool.variant, '-restore') },
      services: this.#planner?.services ?? 0,
      rules: this.#metrics.totals(),
      restores: this.#restores,
      leftOut: [...this.#leftOut.services],
    };
  }

  async #write(snapshot: Snapshot): Promise<Readonly<Record<string, number>>> {
    const planner = this.#planner;
    if (!planner) return this.#load(snapshot);
    const { families } = await this.#findTool();
    const changes = planner.advance(snapshot);
    for (const family of families) {
      const own = changes.filter(({ id }) => id.startsWith(`${family}/`));
      await this.#restore(family, { changes: own, jumps: [], guard: undefined }, planner);
    }
    this.#metrics.changed(changes);
    return countsOf(changes);
  }

  async #load(snapshot: Snapshot): Promise<Readonly<Record<string, number>>> {
    const config = this.#config;
    const { families } = await this.#findTool();
    const planner = new Planner(config, await this.#facts(), this.#leftOut.services);
    const all = planner.advance(snapshot).filter(({ id }) => families.some((family) => id.startsWith(`${family}/`)));
    const written: ChainChange[] = [];
    let jumpsWritten = 0;
    for (const family of families) {
      const restore = this.#difference(family, all, await this.#readBack(family));
      await this.#restore(family, restore, planner);
      written.push(...restore.changes);
      jumpsWritten += restore.jumps.length + (restore.guard ? 1 : 0);
    }
    await this.#routeLoopback();
    this.#planner = planner;
    this.#countsTaken = true;
    this.#metrics.loaded(all, written, loopbackGuard(config, 4) === undefined ? 0 : 1);
    const counts = countsOf(written);
    return jumpsWritten === 0 ? counts : { ...counts, jumps: jumpsWritten };
  }

  #difference(family: IpFamily, all: readonly ChainChange[], saved: SavedState): Restore {
    const config = this.#config;
    const wanted = new Set<ChainId>();
    const changes: ChainChange[] = [];
    for (const { id, after } of all) {
      if (after === undefined || !id.startsWith(`${family}/`)) continue;
      wanted.add(id);
      const before = saved.chains.get(id);
      const name = id.slice(id.lastIndexOf('/') + 1);
      if (before === undefined || !sameRules(name, before, after)) changes.push({ id, before, after });
    }
    for (const [id, before] of saved.chains) {
      if (!wanted.has(id) && !this.#undeletable.has(id)) changes.push({ id, before, after: undefined });
    }
    return {
      changes,
      jumps: jumps(config, family).filter(
        ({ table, from, text }) =>
          !linesOf(saved, family, table, from).some((each) => sameRule(from, each, `-A ${from} ${text}`)),
      ),
      guard: family === 4 ? missingGuard(config, saved) : undefined,
    };
  }

  async #findTool(): Promise<IptablesTool> {
    if (this.#tool) return this.#tool;
    const { exec, log } = this.#options;
    const tool = (this.#tool = this.#options.tool ?? (await findTool(exec, this.#config)));
    log.info('iptables chosen', {
      program: programOf(4, tool.variant, ''),
      version: tool.version,
      legacy: tool.legacy,
    });
    if (!tool.families.includes(6)) log.info('IPv6 rules are left out: ip6tables cannot be used here');
    return tool;
  }

  async #readBack(family: IpFamily): Promise<SavedState> {
    const program = programOf(family, (await this.#findTool()).variant, '-save');
    const saved = await this.#options.exec.run(program, [], { timeoutMs: RESTORE_TIMEOUT_MS });
    if (saved.exitCode !== 0) throw new RestoreError(`${program} failed: ${message(saved)}`, family, NOBODY);
    return parseSave(saved.stdout, family);
  }

  async #restore(family: IpFamily, restore: Restore, planner: Planner): Promise<void> {
    const input = renderRestore(restore);
    if (input === '') return;
    const program = programOf(family, (await this.#findTool()).variant, '-restore');
    const done = await this.#options.exec.run(program, RESTORE, {
      input,
      timeoutMs: RESTORE_TIMEOUT_MS,
    });
    this.#restores++;
    if (done.exitCode === 0) return;
    const line = Number(/line:? ([0-9]+)/i.exec(done.stderr)?.[1]);
    const at = Number.isNaN(line) ? undefined : chainAtLine(restore, line);
    const goes = at && restore.changes.some(({ id, after }) => id === at.id && after === undefined);
    throw new RestoreError(`${program} refused the rules: ${message(done)}`, family, {
      service: at && !goes ? planner.ownerOf(at.id, at.line) : undefined,
      undeletable: goes ? at.id : undefined,
      atCommit: at === undefined && !Number.isNaN(line),
    });
  }

  /** Asks the kernel with ever fewer Services, where the tool does not say which one it is. */
  async #findCulprit(error: RestoreError, snapshot: Snapshot): Promise<ObjectKey | undefined> {
    const [family] = error.families;
    if (!error.atCommit || family === undefined) return undefined;
    const { variant } = await this.#findTool();
    const planner = new Planner(this.#config, await this.#facts(), this.#leftOut.services);
    return findCulprit(family, planner.advance(snapshot), planner, async (input) => {
      const done = await this.#options.exec.run(programOf(family, variant, '-restore'), RESTORE, {
        input,
        timeoutMs: RESTORE_TIMEOUT_MS,
      });
      this.#restores++;
      return done.exitCode === 0;
    });
  }

  /** Whether there is somebody to go on without. */
  #leaveOut(
    { undeletable, families, message: reason }: RestoreError,
    service: ObjectKey | undefined,
    snapshot: Snapshot,
  ): boolean {
    if (undeletable !== undefined) {
      if (this.#undeletable.has(undeletable)) return false;
      this.#undeletable.add(undeletable);
      this.#options.log.warn('a chain of no Service stays, as somebody else leads to it', { chain: undeletable });
      return true;
    }
    if (service === undefined) return false;
    return this.#leftOut.add([service], { families, reason }, snapshot, this.#options.clock.monotonic());
  }

  /** Those that count again are written with the whole. */
  #forgive(snapshot: Snapshot): void {
    if (this.#leftOut.forgive(snapshot, this.#options.clock.monotonic())) this.#planner = undefined;
  }

  async #facts(): Promise<MachineFacts> {
    return { dropInvalid: await this.#dropsInvalid(), countsPackets: await this.#accounting.make() };
  }

  async #dropsInvalid(): Promise<boolean> {
    const liberal = await this.#options.exec.run('cat', ['/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal']);
    return liberal.stdout.trim() !== '1';
  }

  /** After the rule that guards loopback is in force. */
  async #routeLoopback(): Promise<void> {
    const reason = await routeLoopback(this.#options.exec, this.#config);
    if (reason === undefined) return;
    this.#options.log.warn(
      'NodePorts do not answer on 127.0.0.1: set the sysctl, or run `fairlead proxy --init-only` once with privileges, or use --iptables-localhost-nodeports=false',
      { sysctl: 'net.ipv4.conf.all.route_localnet=1', reason },
    );
  }
}

const NOBODY = { service: undefined, undeletable: undefined, atCommit: false };

function countsOf(changes: readonly ChainChange[]): Readonly<Record<string, number>> {
  if (changes.length === 0) return {};
  const removed = changes.filter(({ after }) => after === undefined).length;
  const added = changes.filter(({ before }) => before === undefined).length;
  return { added, changed: changes.length - added - removed, removed };
}

function message(result: ExecResult): string {
  if (result.notFound) return 'it is not on this machine (apt-get install iptables)';
  if (result.timedOut) return `it did not end within ${RESTORE_TIMEOUT_MS / 1000} s`;
  const text = result.stderr.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return text === '' ? `it ended with code ${result.exitCode}` : text.slice(0, MESSAGE_LENGTH);
}
