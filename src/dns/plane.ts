// The DNS plane: Snapshots in, answers out. The one place that ties zone, chain and sockets together.

import { parseIp, type Ip } from '../lib/ip.ts';
import type { Plane } from '../model/plane.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import { systemFiles, type Files } from '../system/files.ts';
import { startThread, type StartThread } from '../system/worker-thread.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import { AnsweringHere, type Answering } from './answering.ts';
import type { BlockDraft } from './block.ts';
import { createBlockMetrics, type BlockMetrics } from './block-metrics.ts';
import type { BlockSource } from './block-source.ts';
import type { Corefile, LoadedCorefile } from './corefile/load.ts';
import { flagBlock, type FlagSettings } from './flag-block.ts';
import { DnsListenError } from './listen-error.ts';
import type { BoundAddress } from './listener.ts';
import { serverLabel } from './metrics.ts';
import { createProgrammingMetrics, type ProgrammingMetrics } from './programming-metrics.ts';
import { createReloadMetrics, type ReloadMetrics } from './reload-metrics.ts';
import { nameText } from './wire/name.ts';
import { WorkerPool } from './worker-pool.ts';
import type { PodMode } from './zone/zone.ts';

export interface DnsPlaneOptions extends CommonOptions, FlagSettings {}

/** What was done for a changed Corefile: kept with it, or taken back. */
export type Prepared =
  | { readonly kind: 'mistake'; readonly message: string }
  | { readonly kind: 'prepared'; readonly commit: () => Promise<void>; readonly rollback: () => Promise<void> };

type Prepare = (next: Corefile) => Promise<Prepared>;

const nothing = async (): Promise<void> => {};
const NOTHING_TO_PREPARE: Prepare = async () => ({ kind: 'prepared', commit: nothing, rollback: nothing });

export interface CorefilePlaneOptions extends CommonOptions {
  readonly corefile: Corefile;
  /** Reads the Corefile again, for `reload`. */
  readonly load: () => Promise<LoadedCorefile>;
  /** Does what a changed Corefile asks for beside DNS (addresses of health and the like, what is read of which cluster), before it is in force. */
  readonly prepare?: (next: Corefile) => Promise<Prepared>;
  /** Calls back whenever the Corefile is to be read again at once; gives what ends that. */
  readonly onReloadAsked?: (reload: () => void) => () => void;
  /** How often it is read again where it has no `reload`; left out is never. */
  readonly rereadMs?: number;
}

interface CommonOptions {
  /** Threads that answer, beside this one; 0, the default, answers in this one. */
  readonly workers?: number;
  readonly startThread?: StartThread;
  /** The addresses by which this server finds its own Service; by default those it listens on, or the machine's. */
  readonly selfIps?: readonly Ip[];
  /** TCP connections per address; 1000 by default. */
  readonly maxConnections?: number;
  /** Silence after which a TCP connection is closed, milliseconds; 10 s by default. */
  readonly idleMs?: number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly files?: Files;
  /** 0 to 1; orders answers and upstream servers. */
  readonly random?: () => number;
}

export interface DnsPlane extends Plane {
  readonly name: 'dns';
  /** What is listened on, with the ports that the system chose for port 0. */
  readonly addresses: readonly BoundAddress[];
}

export interface DnsState {
  readonly zone: string;
  readonly ready: boolean;
  readonly revision: number;
  readonly services: number;
  readonly names: number;
  readonly pods: PodMode;
  readonly ttl: number;
  /** Threads that answer; 0 is the main one. */
  readonly workers: number;
  readonly listen: readonly BoundAddress[];
  readonly upstreams: readonly string[];
  readonly tcpConnections: number;
}

/** Every change makes the finished answers anew: under a stream of them that would be all that is done. */
const PACE_MS = 20;
const DEFAULT_MAX_CONNECTIONS = 1000;
/** As CoreDNS. */
const DEFAULT_IDLE_MS = 10_000;

/** Answers as the flags say, SERVFAIL for cluster names until the first Snapshot. Rejects with a DnsListenError. */
export async function startDnsPlane(options: DnsPlaneOptions): Promise<DnsPlane> {
  const plane = new RunningPlane(options);
  const { listen, zone, ttl, pods, upstream, maxConcurrent, log, files = systemFiles } = options;
  const settings: FlagSettings = {
    listen,
    upstream,
    ...(zone === undefined ? {} : { zone }),
    ...(ttl === undefined ? {} : { ttl }),
    ...(pods === undefined ? {} : { pods }),
    ...(maxConcurrent === undefined ? {} : { maxConcurrent }),
  };
  const draft = await flagBlock(settings, log, files);
  await plane.begin({ kind: 'flags', settings }, [draft]);
  return plane;
}

/** Answers as a Corefile says, and follows it where it says `reload`. Rejects with a DnsListenError. */
export async function startCorefilePlane(options: CorefilePlaneOptions): Promise<DnsPlane> {
  const plane = new RunningPlane(options);
  const { corefile, load, prepare, onReloadAsked, rereadMs } = options;
  for (const warning of corefile.warnings) options.log.warn(warning);
  await plane.begin(placed(corefile), corefile.blocks);
  plane.follow(corefile, load, prepare ?? NOTHING_TO_PREPARE, rereadMs);
  plane.reloadWhenAsked(onReloadAsked);
  return plane;
}

function placed({ blocks, parsed, port }: Corefile): BlockSource {
  // Without any IPv6 address there is no socket for it either.
  const sixes = interfaceAddresses().some((address) => address.includes(':'));
  const everywhere = (sixes ? ['0.0.0.0', '::'] : ['0.0.0.0'])
    .map((text) => parseIp(text))
    .filter((ip) => ip !== undefined);
  const listen = blocks.map((draft) =>
    (draft.bind ?? everywhere).map((address) => ({ address, port: draft.port, scheme: draft.scheme })),
  );
  return { kind: 'corefile', parsed, port, listen };
}

class RunningPlane implements DnsPlane {
  readonly name = 'dns';
  readonly #options: CommonOptions;
  readonly #answering: Answering;
  readonly #reloads: ReloadMetrics;
  readonly #programming: ProgrammingMetrics;
  readonly #blocks: BlockMetrics;
  readonly #stopping = new AbortController();
  #drafts: readonly BlockDraft[] = [];
  #pending: Snapshot | undefined;
  #told = false;
  #appliedAt = -Infinity;
  #following: Promise<void> = Promise.resolve();
  #asked = new AbortController();
  #endAsking: (() => void) | undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: CommonOptions) {
    this.#options = options;
    const { workers = 0, selfIps, files = systemFiles, random = Math.random, log, metrics, clock } = options;
    const { maxConnections = DEFAULT_MAX_CONNECTIONS, idleMs = DEFAULT_IDLE_MS } = options;
    const common = { selfIps, maxConnections, idleMs, log, clock };
    const pods = (): boolean => podsOf(this.#drafts) === 'verified';
    this.#answering =
      workers > 0
        ? new WorkerPool({ ...common, workers, pods, metrics, startThread: options.startThread ?? startThread })
        : new AnsweringHere({ ...common, metrics, files, random });
    this.#reloads = createReloadMetrics(this.#answering.metrics);
    this.#programming = createProgrammingMetrics(this.#answering.metrics);
    this.#blocks = createBlockMetrics(this.#answering.metrics);
  }

  get addresses(): readonly BoundAddress[] {
    return this.#answering.addresses;
  }

  get ready(): boolean {
    return this.#answering.ready;
  }

  update(snapshot: Snapshot): void {
    const { clock } = this.#options;
    // The first of a stream of changes is applied at once, those that follow it together.
    const wait = Math.max(0, this.#appliedAt + PACE_MS - clock.monotonic());
    if (!this.#pending) clock.after(wait, () => this.#apply());
    this.#pending = snapshot;
  }

  /** The first blocks; nothing stays open when they cannot be put into force. */
  async begin(source: BlockSource, drafts: readonly BlockDraft[]): Promise<void> {
    try {
      await this.take(source, drafts);
    } catch (error) {
      await this.#answering.finish();
      throw error;
    }
  }

  /** Puts blocks into force: all of them, or none when an address cannot be listened on. */
  async take(source: BlockSource, drafts: readonly BlockDraft[]): Promise<void> {
    const before = this.#drafts;
    // What they need of the cluster is sent along with them.
    this.#drafts = drafts;
    try {
      await this.#answering.take(source);
    } catch (error) {
      this.#drafts = before;
      throw error;
    }
    if (source.kind === 'flags') return;
    this.#blocks.inForce(drafts, (_, i) => {
      const [first] = source.listen[i] ?? [];
      return first ? serverLabel(first) : '';
    });
  }

  #apply(): void {
    const snapshot = this.#pending;
    this.#pending = undefined;
    if (!snapshot || this.#stopped) return;
    const { clock, log } = this.#options;
    const start = clock.monotonic();
    this.#appliedAt = start;
    this.#answering.update(snapshot);
    const [kubernetes] = this.#drafts.flatMap((draft) => draft.kubernetes ?? []);
    if (!kubernetes) return;
    this.#programming.inForce(snapshot, clock.now());
    const ms = Math.round(clock.monotonic() - start);
    const fields = { revision: snapshot.revision, services: snapshot.services.size, ms };
    if (this.#told) log.debug('cluster names have changed', fields);
    else log.info('cluster names are answered', { zone: nameText(kubernetes.options.origin), ...fields });
    this.#told = true;
  }

  /** Reads the Corefile again and again, where it says so, and when asked to. */
  follow(first: Corefile, load: () => Promise<LoadedCorefile>, prepare: Prepare, rereadMs?: number): void {
    this.#following = this.#follow(first, load, prepare, rereadMs);
  }

  reloadWhenAsked(onReloadAsked: CorefilePlaneOptions['onReloadAsked']): void {
    this.#endAsking = onReloadAsked?.(() => {
      this.#options.log.info('asked to read the Corefile again');
      this.#asked.abort();
    });
  }

  /** Resolves after so many milliseconds, when a reload is asked for, or at the end. */
  async #untilReload(ms: number): Promise<void> {
    const woken = AbortSignal.any([this.#asked.signal, this.#stopping.signal]);
    await (ms === Infinity ? aborted(woken) : this.#options.clock.sleep(ms, woken));
    if (this.#asked.signal.aborted) this.#asked = new AbortController();
  }

  async #follow(
    first: Corefile,
    load: () => Promise<LoadedCorefile>,
    prepare: Prepare,
    rereadMs = Infinity,
  ): Promise<void> {
    const { log, random = Math.random } = this.#options;
    let current = first;
    let refused = '';
    for (;;) {
      const reload = current.blocks.find((draft) => draft.reload)?.reload;
      await this.#untilReload(reload ? reload.intervalMs + random() * reload.jitterMs : rereadMs);
      if (this.#stopping.signal.aborted) return;
      const loaded = await load();
      const mistake =
        loaded.kind === 'mistake' ? loaded.message : await this.#reload(current, loaded.corefile, prepare);
      if (mistake === undefined) {
        if (loaded.kind === 'corefile') current = loaded.corefile;
        refused = '';
      } else if (mistake !== refused) {
        refused = mistake;
        this.#reloads.reloaded(undefined);
        log.error(`the Corefile has changed and cannot be taken; the old one stays. ${mistake}`);
      }
    }
  }

  /** What keeps the new Corefile from being taken; undefined when it is in force. */
  async #reload(current: Corefile, next: Corefile, prepare: Prepare): Promise<string | undefined> {
    if (next.hash === current.hash) return undefined;
    const prepared = await prepare(next);
    if (prepared.kind === 'mistake') return prepared.message;
    try {
      await this.take(placed(next), next.blocks);
    } catch (error) {
      await prepared.rollback();
      if (error instanceof DnsListenError) return error.message;
      throw error;
    }
    await prepared.commit();
    for (const warning of next.warnings) this.#options.log.warn(warning);
    this.#reloads.reloaded(next.hash);
    this.#options.log.info('the Corefile has changed and is in force', { hash: next.hash.slice(0, 16) });
    return undefined;
  }

  state(): DnsState {
    const figures = this.#answering.figures;
    const [kubernetes] = this.#drafts.flatMap((draft) => draft.kubernetes ?? []);
    return {
      zone: kubernetes ? nameText(kubernetes.options.origin) : '',
      ready: this.ready,
      revision: figures?.revision ?? 0,
      services: figures?.services ?? 0,
      names: figures?.names ?? 0,
      pods: kubernetes?.options.pods ?? 'disabled',
      ttl: kubernetes?.options.ttl ?? 0,
      workers: this.#options.workers ?? 0,
      listen: this.addresses,
      upstreams: [...new Set(this.#drafts.flatMap(({ upstreams }) => upstreams))],
      tcpConnections: figures?.tcpConnections ?? 0,
    };
  }

  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop());
  }

  async #stop(): Promise<void> {
    const { clock } = this.#options;
    this.#endAsking?.();
    this.#stopping.abort();
    await this.#following;
    const lameduckMs = Math.max(0, ...this.#drafts.flatMap(({ health }) => health.map(({ lameduckMs: ms }) => ms)));
    // Clients learn late that this server goes: it answers on until then.
    if (lameduckMs > 0) await clock.sleep(lameduckMs);
    await this.#answering.finish();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function podsOf(drafts: readonly BlockDraft[]): PodMode {
  const modes = drafts.flatMap(({ kubernetes }) => kubernetes?.options.pods ?? []);
  return modes.includes('verified') ? 'verified' : (modes[0] ?? 'disabled');
}
