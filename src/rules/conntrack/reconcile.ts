// Deletes stale flows with the `conntrack` tool, beside the syncs and never in their way: a dump of a large table takes seconds.

import { backoffDelay } from '../../lib/backoff.ts';
import { ipFamily, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import { cidrContains, cidrFamily } from '../../lib/cidr.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import type { Count, Distribution, Metrics } from '../../observe/metrics.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import { interfaceAddresses } from '../../system/interfaces.ts';
import type { RulesConfig } from '../config.ts';
import { DURATION_BUCKETS, FAMILY_LABELS } from '../sync-metrics.ts';
import { deletion, isStale, parseFlow, placeOfFlow, placeOfQuery } from './flow.ts';
import { staleFlows, type FlowQuery } from './plan.ts';

export interface ReconcilerOptions {
  readonly config: RulesConfig;
  readonly exec: Exec;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** The addresses of this machine, for NodePorts that answer on more than the node's own. */
  readonly addresses?: () => readonly Ip[];
}

/** Up to so many addresses are asked for one by one; for more the table is read once. */
const ADDRESSES_ASKED = 16;
const TIMEOUT_MS = 60_000;
const RETRY = { initial: 1000, max: 60_000 };
const NOTHING_DELETED = /0 flow entries have been deleted/;

class ConntrackError extends Error {
  readonly code = 'conntrack-failed';
}

export class ConntrackReconciler {
  readonly #options: ReconcilerOptions;
  #config: RulesConfig;
  readonly #durations: Distribution;
  readonly #deleted: Count;
  /** The newest Snapshot in force, and the one whose stale flows are gone. */
  #wanted: Snapshot | undefined;
  #done: Snapshot | undefined;
  #running: Promise<void> | undefined;
  #timer: Timer | undefined;
  #failures = 0;
  #toolMissing = false;
  #batches = true;
  #stopped = false;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#config = options.config;
    this.#durations = options.metrics.histogram({
      name: 'kubeproxy_conntrack_reconciler_sync_duration_seconds',
      help: 'How long looking for stale flows and deleting them took.',
      labels: ['ip_family'],
      buckets: DURATION_BUCKETS,
    });
    this.#deleted = options.metrics.counter({
      name: 'kubeproxy_conntrack_reconciler_deleted_entries_total',
      help: 'Stale flows deleted.',
      labels: ['ip_family'],
    });
    for (const label of Object.values(FAMILY_LABELS)) this.#deleted.add(0, { ip_family: label });
  }

  /** Works by another configuration from the next `applied` on. */
  configure(config: RulesConfig): void {
    this.#config = config;
  }

  /** To be called when the Snapshot is in force. Returns at once. */
  applied(snapshot: Snapshot): void {
    this.#wanted = snapshot;
    this.#run();
  }

  /** Resolves when what is under way has ended; what then remains is found at the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  #run(): void {
    if (this.#running || this.#timer || this.#stopped || this.#wanted === this.#done) return;
    this.#running = this.#reconcile().finally(() => {
      this.#running = undefined;
      if (this.#failures === 0) {
        this.#run();
        return;
      }
      const { clock, random } = this.#options;
      if (this.#stopped) return;
      this.#timer = clock.after(backoffDelay(RETRY, this.#failures, random()), () => {
        this.#timer = undefined;
        this.#run();
      });
    });
  }

  async #reconcile(): Promise<void> {
    const wanted = this.#wanted;
    if (!wanted) return;
    const { log } = this.#options;
    try {
      const queries = staleFlows(this.#done, wanted, {
        nodePortIps: this.#nodePortIps(wanted),
        resetTcp: this.#config.resetTcpToDeletedEndpoints,
      });
      for (const family of [4, 6] as const) {
        await this.#clean(
          family,
          queries.filter((query) => query.family === family),
        );
      }
      this.#failures = 0;
      this.#done = wanted;
    } catch (error) {
      if (!(error instanceof ConntrackError)) throw error;
      // Nothing is lost: the next try compares with what was last cleaned.
      this.#failures++;
      if (!this.#toolMissing || this.#failures === 1) log.warn(error.message);
    }
  }

  async #clean(family: IpFamily, queries: readonly FlowQuery[]): Promise<void> {
    if (queries.length === 0) return;
    const { clock, log } = this.#options;
    const start = clock.monotonic();
    const deletions = await this.#find(family, queries);
    const count = deletions.size > 0 ? await this.#delete([...deletions]) : 0;
    const labels = { ip_family: FAMILY_LABELS[family] };
    this.#durations.observe((clock.monotonic() - start) / 1000, labels);
    this.#deleted.add(count, labels);
    if (count > 0) log.info('stale flows deleted', { count, family: FAMILY_LABELS[family] });
  }

  async #find(family: IpFamily, queries: readonly FlowQuery[]): Promise<ReadonlySet<string>> {
    const byPlace = new Map(queries.map((query) => [placeOfQuery(query), query]));
    const deletions = new Set<string>();
    for (const protocol of ['UDP', 'TCP'] as const) {
      const addresses = new Set(queries.filter((query) => query.protocol === protocol).map(({ address }) => address));
      if (addresses.size === 0) continue;
      const list = ['-L', '-f', `ipv${family}`, '-p', protocol.toLowerCase()];
      const lists = addresses.size > ADDRESSES_ASKED ? [list] : [...addresses].map((ip) => [...list, '--orig-dst', ip]);
      for (const args of lists) {
        const result = await this.#conntrack(args);
        if (result.exitCode !== 0) throw this.#failure(result);
        for (const line of result.stdout.split('\n')) {
          const flow = parseFlow(line);
          const query = flow && byPlace.get(placeOfFlow(flow));
          if (query && isStale(flow, query)) deletions.add(deletion(flow, family));
        }
      }
    }
    return deletions;
  }

  /** Returns how many flows went: the tool prints each one. */
  async #delete(deletions: readonly string[]): Promise<number> {
    if (this.#batches) {
      const result = await this.#conntrack(['-R', '-'], `${deletions.join('\n')}\n`);
      if (result.exitCode === 0) return linesOf(result.stdout);
      // Before 1.4.7 the tool reads no commands from its input.
      this.#batches = false;
    }
    let count = 0;
    for (const line of deletions) {
      const result = await this.#conntrack(line.split(' '));
      if (result.exitCode !== 0 && !NOTHING_DELETED.test(result.stderr)) throw this.#failure(result);
      count += linesOf(result.stdout);
    }
    return count;
  }

  #conntrack(args: readonly string[], input?: string): Promise<ExecResult> {
    return this.#options.exec.run('conntrack', args, {
      timeoutMs: TIMEOUT_MS,
      ...(input === undefined ? {} : { input }),
    });
  }

  #failure(result: ExecResult): ConntrackError {
    this.#toolMissing = result.notFound;
    if (result.notFound) {
      return new ConntrackError(
        'conntrack is not on this machine, so UDP clients that go on sending from one socket stay with endpoints that are gone; install it: apt-get install conntrack',
      );
    }
    const said = result.timedOut ? `no end within ${TIMEOUT_MS / 1000} s` : result.stderr.trim().split('\n', 1)[0];
    return new ConntrackError(`conntrack failed, stale flows stay for now: ${said ?? ''}`);
  }

  #nodePortIps({ node }: Snapshot): readonly Ip[] {
    const { addresses = interfaceAddresses } = this.#options;
    const choice = this.#config.nodePortAddresses;
    const own = choice.kind === 'primary' ? node.ips : addresses();
    return own.filter((ip) => {
      if (isLoopback(ip)) return false;
      if (choice.kind !== 'cidrs') return true;
      const ranges = choice.cidrs.filter((range) => cidrFamily(range) === ipFamily(ip));
      return ranges.length === 0 || ranges.some((range) => cidrContains(range, ip));
    });
  }
}

function linesOf(text: string): number {
  return text.split('\n').filter((line) => line !== '').length;
}
