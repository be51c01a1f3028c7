// The IPVS backend: a plan into the kernel, one process for each tool that has something to do. It keeps in memory what it wrote and lists
// nothing on the way of a sync; at start, after a failure and when something was found missing it reads back what is there and writes the
// difference.
//
// The order keeps connections alive: entries of sets before the virtual servers that need them (masquerading, hairpin), virtual servers
// before the addresses that lead to them; what goes, goes the other way round.

import type { Ip } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import type { Count, Metrics } from '../../observe/metrics.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { CleanupOutcome, Owned, RulesBackend, SyncOutcome } from '../backend.ts';
import type { RulesConfig } from '../config.ts';
import { FAMILIES } from '../iptables/names.ts';
import { linesIn } from '../iptables/plan.ts';
import { findTool, programOf, type IptablesTool, type Variant } from '../iptables/tool.ts';
import { LeftOut } from '../left-out.ts';
import { RulesError } from '../rules-error.ts';
import { apiServersOf } from './api-servers.ts';
import { carriesServices, chainDifference } from './chains.ts';
import { findCulprits } from './culprit.ts';
import { DriftWatch } from './drift.ts';
import { Drains } from './drains.ts';
import { IpvsKernel, ToolError, type Saved } from './kernel.ts';
import { fixedChains } from './layout.ts';
import { loadDifference, timeoutSeconds } from './load.ts';
import { KNOWN_SETS, partsOfEntry, type RealKey } from './names.ts';
import { Planner } from './plan.ts';
import { removeAll } from './remove.ts';
import { addressLines, entryLines, schedulerOf, serverLines, stepOf, type ServerStep } from './render.ts';
import { setParameters } from './sysctls.ts';

export interface IpvsOptions {
  readonly config: RulesConfig;
  readonly exec: Exec;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** The iptables programs, where they have been looked for already. */
  readonly tool?: IptablesTool | undefined;
}

type Counts = Readonly<Record<string, number>>;

export class IpvsBackend implements RulesBackend {
  readonly mode = 'ipvs';
  readonly #options: IpvsOptions;
  readonly #kernel: IpvsKernel;
  readonly #drift: DriftWatch;
  readonly #drains = new Drains();
  readonly #restoreFailures: Count;
  #config: RulesConfig;
  #tool: IptablesTool | undefined;
  /** Undefined when what is in the kernel is not certain. */
  #planner: Planner | undefined;
  /** What the last load of the whole was to bring about. */
  #tried: Planner | undefined;
  readonly #leftOut = new LeftOut();
  #local: readonly Ip[] = [];
  /** The last that were known: without any the API could not say that they are there again. */
  #apiServers: readonly Ip[] = [];
  #setCounts = new Map<string, number>();
  #capacities: ReadonlyMap<string, number> = new Map();
  #foreign = { servers: 0, reals: 0 };
  #drainTimer: Timer | undefined;
  /** One at a time: syncs, and looks at what drains. */
  #work: Promise<unknown> = Promise.resolve();
  #writing = false;
  /** How often it was begun. */
  #writes = 0;
  #stopped = false;
  #wasStrict = false;

  constructor(options: IpvsOptions) {
    this.#options = options;
    this.#config = options.config;
    this.#kernel = new IpvsKernel(options.exec);
    this.#drift = new DriftWatch({ ...options, kernel: this.#kernel });
    this.#restoreFailures = options.metrics.counter({
      name: 'kubeproxy_sync_proxy_rules_iptables_restore_failures_total',
      help: 'Restores that iptables refused.',
      labels: ['ip_family'],
    });
    for (const family of FAMILIES) this.#restoreFailures.add(0, { ip_family: `IPv${family}` });
  }

  /** The iptables programs in use, by the name that both kinds have beside `iptables`. */
  get variantInUse(): Variant {
    return this.#tool?.legacy === true ? '-legacy' : '-nft';
  }

  sync(snapshot: Snapshot): Promise<SyncOutcome> {
    return this.#alone(async () => {
      const now = this.#options.clock.monotonic();
      const apiServers = apiServersOf(snapshot);
      if (apiServers.length > 0) this.#apiServers = apiServers;
      if (this.#leftOut.forgive(snapshot, now)) this.#planner = undefined;
      for (;;) {
        const full = this.#planner === undefined;
        try {
          const counts = full ? await this.#load(snapshot) : await this.#change(snapshot);
          if (counts === 'too-large') continue;
          const rejected = this.#leftOut.rejections;
          return { kind: 'applied', counts, full, ...(rejected ? { rejected } : {}) };
        } catch (error) {
          this.#planner = undefined;
          if (error instanceof RulesError) return { kind: 'failed', reason: error.message, families: FAMILIES };
          if (!(error instanceof ToolError)) throw error;
          this.#countFailure(error);
          // Others may have taken away what a change builds on; the whole is tried at once.
          if (!full) continue;
          const { message: reason, families } = error;
          const services = this.#tried ? await findCulprits(error, this.#tried, this.#kernel, this.#config.ipvs) : [];
          if (!this.#leftOut.add(services, { families, reason }, snapshot, now))
            return { kind: 'failed', reason, families };
        }
      }
    });
  }

  /** What is there is read back then, and what differs is written, as after a restart. */
  configure(config: RulesConfig): void {
    this.#config = config;
    this.#planner = undefined;
  }

  watch(onDrift: (what: string) => void): void {
    this.#drift.start(async () => {
      const planner = this.#planner;
      // What is being written is there in parts.
      if (planner === undefined || this.#tool === undefined || this.#writing) return;
      const writes = this.#writes;
      const what = await this.#look(planner, this.#tool);
      if (what === undefined || writes !== this.#writes || this.#planner !== planner) return;
      this.#planner = undefined;
      onDrift(what);
    });
  }

  cleanup(): Promise<CleanupOutcome> {
    return this.#alone(() => {
      this.#planner = undefined;
      this.#drains.clear();
      return removeAll(this.#options.exec, { excludeCIDRs: this.#config.ipvs.excludeCIDRs });
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#drainTimer?.cancel();
    await this.#drift.stop();
    await this.#work;
  }

  owned(): Owned {
    const elements = { 4: 0, 6: 0, ...this.#planner?.serverCounts };
    const rules = { 4: 0, 6: 0 };
    for (const [name, count] of this.#setCounts) elements[KNOWN_SETS.get(name)?.family ?? 4] += count;
    for (const family of this.#tool?.families ?? []) {
      for (const lines of fixedChains(this.#config, family).values()) rules[family] += linesIn(lines);
    }
    return { elements, rules };
  }

  state(): unknown {
    return {
      tool: this.#tool && { ...this.#tool, program: programOf(4, this.#tool.variant, '-restore') },
      scheduler: schedulerOf(this.#config.ipvs.scheduler),
      services: this.#planner?.services ?? 0,
      virtualServers: this.#planner?.servers.size ?? 0,
      addresses: this.#planner?.addresses.size ?? 0,
      nodeAddresses: this.#local,
      sets: Object.fromEntries([...this.#setCounts].filter(([, count]) => count > 0)),
      foreignVirtualServers: this.#foreign.servers,
      draining: this.#drains.list(),
      leftOut: [...this.#leftOut.services],
    };
  }

  async #change(snapshot: Snapshot): Promise<Counts | 'too-large'> {
    const planner = this.#planner;
    if (!planner) return 'too-large';
    const changes = planner.advance(snapshot, this.#local, this.#apiServers);
    const { added, removed } = changes.entries;
    if (!this.#count(added, removed)) {
      this.#planner = undefined;
      return 'too-large';
    }
    const steps = changes.servers.map((change) => stepOf(change, this.#config.ipvs));
    await this.#kernel.ipset(entryLines('add', added));
    await this.#writeServers(steps);
    await this.#kernel.ip(addressLines(changes.addresses));
    await this.#kernel.ipset(entryLines('del', removed));
    return countsOf(
      steps,
      changes.addresses.added.length + changes.addresses.removed.length,
      added.length + removed.length,
    );
  }

  async #load(snapshot: Snapshot): Promise<Counts> {
    const config = this.#config;
    const tool = await this.#findTool();
    await this.#setParameters();
    const saved = await this.#kernel.read(tool);
    const planner = (this.#tried = new Planner(config, tool.families, this.#leftOut.services));
    planner.advance(snapshot, saved.addresses.local, this.#apiServers);
    const difference = loadDifference(planner, saved, config);
    await this.#kernel.ipset(difference.setsAdded);
    // Chains of the iptables mode carry connections until IPVS can.
    const late = [...saved.chains.values()].some(carriesServices);
    let chains = late ? 0 : await this.#writeChains(tool, saved);
    this.#drains.clear();
    const now = this.#options.clock.monotonic();
    for (const { key, left } of difference.steps) this.#drains.add(key, left, now);
    await this.#writeServers(difference.steps);
    if (!saved.addresses.hasLink) await this.#kernel.addLink();
    await this.#kernel.ip(addressLines(difference.addresses));
    if (late) chains = await this.#writeChains(tool, saved);
    await this.#kernel.ipset(entryLines('del', difference.removedEntries));
    const timeouts = timeoutSeconds(config.ipvs);
    if (timeouts) await this.#kernel.timeouts(timeouts);
    this.#local = saved.addresses.local;
    this.#foreign = difference.foreign;
    this.#capacities = difference.capacities;
    this.#setCounts = new Map([...KNOWN_SETS.keys()].map((name) => [name, 0]));
    this.#count([...planner.entries], []);
    this.#planner = planner;
    this.#tried = undefined;
    const { added, removed } = difference.addresses;
    const entries = difference.addedEntries + difference.removedEntries.length;
    const written = difference.steps.filter((step) => serverLines(step, step.draining, config.ipvs).text !== '');
    const counts = countsOf(written, added.length + removed.length, entries);
    return chains === 0 ? counts : { ...counts, chains };
  }

  async #writeChains(tool: IptablesTool, saved: Saved): Promise<number> {
    let written = 0;
    for (const family of tool.families) {
      const held = saved.chains.get(family);
      if (!held) continue;
      const restore = chainDifference(this.#config, family, held);
      await this.#kernel.iptables(family, tool, restore);
      written += restore.changes.length + restore.jumps.length;
    }
    return written;
  }

  /** What is new or other first, so that no virtual server is without real ones in between; what goes last. */
  async #writeServers(steps: readonly (ServerStep & { readonly draining?: ReadonlySet<RealKey> })[]): Promise<void> {
    let changed = '';
    let removed = '';
    const done: (() => void)[] = [];
    for (const step of steps) {
      const { key, after } = step;
      const lines = serverLines(step, step.draining ?? this.#drains.of(key), this.#config.ipvs);
      if (after === undefined) {
        removed += lines.text;
        done.push(() => this.#drains.drop(key));
        continue;
      }
      changed += lines.text;
      done.push(() => {
        this.#drains.delete(key, lines.restored);
        this.#drains.add(key, lines.drained, now);
      });
    }
    await this.#kernel.ipvsadm(changed + removed);
    const now = this.#options.clock.monotonic();
    for (const each of done) each();
    this.#scheduleDrain();
  }

  #scheduleDrain(): void {
    this.#drainTimer?.cancel();
    const next = this.#drains.next();
    if (this.#stopped || next === undefined) return;
    const { clock } = this.#options;
    const delay = Math.max(0, next - clock.monotonic());
    this.#drainTimer = clock.after(delay, () => void this.#alone(() => this.#removeEnded()));
  }

  async #removeEnded(): Promise<void> {
    if (this.#stopped) return;
    const keys = this.#drains.due(this.#options.clock.monotonic());
    try {
      if (keys.length > 0) await this.#kernel.ipvsadm(this.#drains.ended(keys, await this.#kernel.connectionsOf(keys)));
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      // Somebody else took it, or the whole table: the next look at the rules tells.
      this.#options.log.debug('real servers without connections could not be removed', { reason: error.message });
    }
    this.#scheduleDrain();
  }

  async #look(planner: Planner, tool: IptablesTool): Promise<string | undefined> {
    try {
      return await this.#drift.check({
        planner,
        tool,
        foreign: this.#foreign.servers + this.#foreign.reals,
        draining: this.#drains.size,
        local: this.#local,
        setCounts: this.#setCounts,
        config: this.#config,
      });
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      this.#options.log.debug('the rules could not be looked at', { reason: error.message });
      return undefined;
    }
  }

  /** Whether the sets are large enough for it. */
  #count(added: readonly string[], removed: readonly string[]): boolean {
    for (const [entries, by] of [
      [added, 1],
      [removed, -1],
    ] as const) {
      for (const entry of entries) {
        const { set } = partsOfEntry(entry);
        this.#setCounts.set(set, (this.#setCounts.get(set) ?? 0) + by);
      }
    }
    for (const [set, count] of this.#setCounts) {
      // New entries are added before old ones go.
      if (count + removed.length > (this.#capacities.get(set) ?? Number.POSITIVE_INFINITY)) return false;
    }
    return true;
  }

  async #findTool(): Promise<IptablesTool> {
    if (this.#tool) return this.#tool;
    const { exec, log } = this.#options;
    const found = this.#options.tool ?? (await findTool(exec, this.#config));
    const families = (await this.#kernel.hasIpv6()) ? found.families : ([4] as const);
    const tool = (this.#tool = { ...found, families });
    log.info('ipvs chosen', {
      scheduler: schedulerOf(this.#config.ipvs.scheduler),
      iptables: programOf(4, tool.variant, ''),
      version: tool.version,
    });
    if (!tool.families.includes(6))
      log.info('IPv6 is left out: it is off on this machine, or ip6tables cannot be used');
    return tool;
  }

  async #setParameters(): Promise<void> {
    const { exec, log } = this.#options;
    const { ipvs } = this.#config;
    const { changed, problems } = await setParameters(exec, ipvs, this.#wasStrict);
    this.#wasStrict = ipvs.strictARP;
    if (changed.length > 0) log.info('kernel parameters set', { changed: changed.join(', ') });
    for (const { text, needed } of problems) {
      if (needed) throw new RulesError('ipvs-unsupported', text);
      log.warn(text);
    }
  }

  #countFailure({ tool, families }: ToolError): void {
    if (!tool.endsWith('-restore')) return;
    for (const family of families) this.#restoreFailures.add(1, { ip_family: `IPv${family}` });
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(async () => {
      this.#writing = true;
      this.#writes++;
      try {
        return await work();
      } finally {
        this.#writing = false;
      }
    });
    this.#work = result.catch(() => {});
    return result;
  }
}

function countsOf(steps: readonly ServerStep[], addresses: number, entries: number): Counts {
  const counts = { virtualServers: steps.length, addresses, entries };
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}
