// `status.loadBalancer` of the Ingresses that are ours: one replica, the leader, writes where they are reached from outside.

import type { IngressRecord } from '../model/records.ts';
import type { Logger } from '../observe/log.ts';
import type { Count, Metrics } from '../observe/metrics.ts';
import type { ApiConnection } from '../source/api/connection.ts';
import { sameAddresses, writeIngressStatus } from '../source/api/ingress-status.ts';
import { LeaderElection } from '../source/api/lease.ts';
import { answerText } from '../source/api/object.ts';
import {
  controllerPods,
  readPublished,
  type AddressSource,
  type PodIdentity,
  type Published,
} from '../source/api/published-addresses.ts';
import type { Clock } from '../system/clock.ts';

export interface StatusSettings {
  /** Undefined: nothing says where Ingresses are reached. */
  readonly source: AddressSource | undefined;
  readonly intervalMs: number;
  readonly clearOnStop: boolean;
  /** Undefined: every replica writes (`--disable-leader-election`). */
  readonly election: { readonly namespace: string; readonly name: string; readonly termMs: number } | undefined;
  readonly identity: string;
  readonly pod: PodIdentity | undefined;
}

export interface StatusKeeperOptions {
  readonly connection: ApiConnection;
  readonly settings: StatusSettings;
  /** The Ingresses that are ours now. */
  readonly ours: () => readonly IngressRecord[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Of the controller, for its metrics. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Ingresses come in groups: one pass for all that change within this time. */
const SETTLE_MS = 500;
const FRESH_MS = 5_000;
const AT_ONCE = 4;
/** Bound on what is written while the program ends. */
const CLEAR_MS = 5_000;

export class IngressStatusKeeper {
  readonly #options: StatusKeeperOptions;
  readonly #election: LeaderElection | undefined;
  readonly #stopping = new AbortController();
  readonly #writes: Count;
  #wake = Promise.withResolvers<void>();
  #told: string | undefined;
  /** Read again only once it is this old: while Ingresses change, the addresses mostly do not. */
  #published: { readonly at: number; readonly value: Published } | undefined;
  readonly #running: Promise<void>;

  constructor(options: StatusKeeperOptions) {
    this.#options = options;
    const { connection, settings, clock, log, metrics } = options;
    this.#writes = metrics.counter({
      name: 'fairlead_ingress_status_writes_total',
      help: 'Writes of status.loadBalancer, by what became of them',
      labels: ['result'],
    });
    const status = metrics.gauge({
      name: 'nginx_ingress_controller_leader_election_status',
      help: '1 while this process leads',
      labels: ['name', ...Object.keys(options.labels)],
    });
    const name = settings.election?.name ?? '';
    const labels = { ...options.labels, name };
    if (settings.election) {
      status.set(0, labels);
      this.#election = new LeaderElection({
        ...settings.election,
        connection,
        identity: settings.identity,
        clock,
        log,
        onChange: (leading) => {
          status.set(leading ? 1 : 0, labels);
          this.#published = undefined;
          if (leading) this.changed();
        },
      });
    }
    this.#running = this.#run();
  }

  /** There may be something to write. */
  changed(): void {
    this.#wake.resolve();
  }

  /** Takes the addresses away when nobody else serves them, and gives the Lease back. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake.resolve();
    await this.#running;
    if (this.#leads && this.#options.settings.clearOnStop) await this.#clear();
    await this.#election?.stop();
  }

  get #leads(): boolean {
    return this.#election?.leading ?? true;
  }

  async #run(): Promise<void> {
    const { clock, settings } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const waiting = new AbortController();
      const slept = clock.sleep(settings.intervalMs, AbortSignal.any([waiting.signal, signal]));
      await Promise.race([this.#wake.promise, slept]);
      waiting.abort();
      if (signal.aborted) return;
      await clock.sleep(SETTLE_MS, signal);
      this.#wake = Promise.withResolvers<void>();
      if (this.#leads && !signal.aborted) await this.#pass(signal);
    }
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { settings, ours, log } = this.#options;
    const { source } = settings;
    if (!source) {
      this.#tell('nothing says at which addresses', {
        mend: 'give --publish-service or --publish-status-address, set POD_NAME and POD_NAMESPACE, or run with --update-status=false',
      });
      return;
    }
    const published = await this.#read(source, signal);
    if (signal.aborted) return;
    if (published.kind === 'unknown') {
      this.#tell(published.reason, {});
      return;
    }
    const { addresses } = published;
    const due = ours().filter((ingress) => !sameAddresses(ingress.published, addresses));
    const written = await this.#writeAll(due, addresses, signal);
    if (written > 0) log.info('status written', { ingresses: written, addresses: addresses.length });
  }

  async #read(source: AddressSource, signal: AbortSignal): Promise<Published> {
    const { connection, clock } = this.#options;
    const now = clock.monotonic();
    if (this.#published && now - this.#published.at < FRESH_MS) return this.#published.value;
    const value = await readPublished(connection, source, signal);
    this.#published = value.kind === 'addresses' ? { at: now, value } : undefined;
    return value;
  }

  /** How many were written. Stops at the first that is refused: the next ones would be, too. */
  async #writeAll(
    ingresses: readonly IngressRecord[],
    addresses: IngressRecord['published'],
    signal: AbortSignal,
  ): Promise<number> {
    const { connection } = this.#options;
    const left = [...ingresses];
    let written = 0;
    const worker = async (): Promise<void> => {
      for (let next = left.shift(); next && !signal.aborted; next = left.shift()) {
        const result = await writeIngressStatus(connection, next, addresses, signal);
        if (signal.aborted) return;
        const kind = typeof result === 'string' ? result : result.kind;
        this.#writes.add(1, { result: kind });
        if (result === 'written') {
          written++;
          this.#told = undefined;
        }
        if (typeof result === 'string' || result.kind === 'missing' || result.kind === 'conflict') continue;
        this.#tell(answerText(result), { ingress: `${next.namespace}/${next.name}` });
        left.length = 0;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return written;
  }

  /** As ingress-nginx: not while another replica or another address still serves. */
  async #clear(): Promise<void> {
    const { connection, settings, ours, log } = this.#options;
    const { source, pod } = settings;
    const signal = AbortSignal.timeout(CLEAR_MS);
    if (!source) return;
    if (!pod) {
      log.info(
        'status is left as it is: POD_NAME and POD_NAMESPACE are not set, so other replicas cannot be looked for',
      );
      return;
    }
    const pods = await controllerPods(connection, pod, signal);
    if (pods === undefined || pods.length > 1) return;
    const cleared = await this.#writeAll(
      ours().filter(({ published }) => published.length > 0),
      [],
      signal,
    );
    log.info('status cleared, as no other replica runs', { ingresses: cleared });
  }

  #tell(reason: string, fields: Readonly<Record<string, string>>): void {
    if (reason === this.#told) return;
    this.#told = reason;
    this.#options.log.warn('the status of Ingresses cannot be written', { reason, ...fields });
  }
}
