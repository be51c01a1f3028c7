// The composition root of every command that runs: source → store → pipeline → planes, the endpoints around them, and the
// order in which they start and stop.

import { hostPort } from '../lib/ip.ts';
import type { NodeRecord, Records } from '../model/records.ts';
import type { Plane } from '../model/plane.ts';
import type { NodeIdentity, Snapshot } from '../model/snapshot.ts';
import { serveObserve, type Health, type ObserveServer, type Routes } from '../observe/server.ts';
import { Store, type Kind } from '../source/store.ts';
import type { Timer } from '../system/clock.ts';
import { collectGarbage } from '../system/heap.ts';
import { stopSignal } from '../system/signals.ts';
import type { RunningContext } from './context.ts';
import { EXIT_STOPPED } from './errors.ts';
import { NamedReading } from './named-reading.ts';
import { PlaneKeeper, type PlaneStarter } from './plane-keeper.ts';
import { Pipeline } from './pipeline.ts';
import type { ListenAddress } from './listen-address.ts';
import type { RunningSource, SourceStarter } from './source-choice.ts';
import { stateJson } from './state.ts';
import { VERSION } from './version.ts';

export interface Endpoint {
  readonly what: string;
  readonly listen: ListenAddress;
  readonly flag: string;
  /** An address that cannot be bound ends the program, instead of being tried again. */
  readonly hardFail?: boolean;
  readonly routes: (house: HouseView) => readonly Routes[];
}

/** What the endpoints show. */
export interface HouseView {
  readonly health: Health;
  readonly state: () => unknown;
  readonly snapshot: () => Snapshot | undefined;
  /** Our own Node, as far as it has been read. */
  readonly node: () => NodeRecord | undefined;
}

export interface HouseOptions {
  readonly context: RunningContext;
  readonly nodeName: string;
  readonly source: SourceStarter;
  readonly kinds: readonly Kind[];
  readonly planes: readonly PlaneStarter[];
  readonly endpoints: readonly Endpoint[];
  /**
   * `together`: a plane that cannot start is tried again while the others work. `alone`: it ends the command, and whoever
   * supervises it sees why.
   */
  readonly onPlaneFailure: 'together' | 'alone';
  /** When this thread may stand still a moment to collect what reading left behind; never unless given. */
  readonly mayPause?: 'always' | 'at the start';
  /** Who we are; the Node of `nodeName` unless given. */
  readonly identity?: (records: Records) => NodeIdentity;
  /** A kind that is waited for only so long; then the rest goes on without it. */
  readonly patience?: { readonly kind: Kind; readonly ms: number; readonly consequence: string };
  /** Told before the start of what may be changed while it runs. */
  readonly onControl?: (control: HouseControl) => void;
  /** Told once, when the source reads. */
  readonly onSource?: (source: RunningSource) => void;
  /** Before anything ends: the source still reads, and its connection can be written to. */
  readonly onStop?: () => Promise<void>;
  /** Ends the program on its own account. */
  readonly ended?: Promise<Ending>;
}

/** What a role may change while it runs. */
export interface HouseControl {
  /**
   * Opens what is not open yet, and gives what closes all others. Rejects with a BindError, with nothing changed, when an address cannot be
   * listened on.
   */
  reopen(endpoints: readonly Endpoint[]): Promise<Reopened>;
  /** Reads these kinds from there, in place of the source until now, which goes on when this rejects. */
  follow(source: SourceStarter, kinds: readonly Kind[]): Promise<void>;
  /** Resolves once all kinds have been read, or after so many milliseconds. */
  synced(kinds: readonly Kind[], ms: number): Promise<void>;
}

export interface Reopened {
  /** Closes what is not wanted any more. */
  readonly commit: () => Promise<void>;
  /** Closes what was opened. */
  readonly rollback: () => Promise<void>;
}

export interface Ending {
  readonly reason: string;
  readonly code: number;
}

/** A list of fewer leaves nothing worth a pause. */
const MANY_RECORDS = 500;
const QUIET_MS = 1000;

/** Runs until SIGTERM or SIGINT. Resolves to the exit code. */
export async function runHouse(options: HouseOptions): Promise<number> {
  const stopped = stopSignal();
  const house = new House(options);
  let exitCode = EXIT_STOPPED;
  try {
    await house.start();
    const waits = stopped.then((signal): Ending => ({ reason: signal, code: EXIT_STOPPED }));
    const { reason, code } = await Promise.race([waits, ...(options.ended ? [options.ended] : [])]);
    exitCode = code;
    options.context.log.info('stopping', code === EXIT_STOPPED ? { signal: reason } : { reason });
  } finally {
    await house.stop();
    await options.context.close();
  }
  options.context.log.info('stopped');
  return exitCode;
}

class House {
  readonly #options: HouseOptions;
  readonly #store = new Store();
  readonly #pipeline: Pipeline;
  readonly #planes: PlaneKeeper[];
  readonly #servers = new Map<string, ObserveServer>();
  #source: RunningSource | undefined;
  readonly #named: NamedReading;
  #stopping = false;
  #patience: Timer | undefined;
  #collecting: Timer | undefined;
  #collected = false;

  constructor(options: HouseOptions) {
    this.#options = options;
    const { context, nodeName, kinds, planes } = options;
    const namers = planes.flatMap(({ namedObjects }) => namedObjects ?? []);
    this.#named = new NamedReading({ ...context, namers, source: () => this.#source });
    this.#pipeline = new Pipeline({
      ...context,
      store: this.#store,
      kinds: kinds.filter((kind) => kind !== 'secrets' && kind !== 'configMaps'),
      nodeName,
      ...(options.identity ? { identity: options.identity } : {}),
      onSnapshot: (snapshot) => this.#named.follow(snapshot),
      ...(namers.length > 0 ? { untilComplete: () => this.#named.complete() } : {}),
    });
    this.#planes = planes.map(
      (starter) =>
        new PlaneKeeper({
          ...context,
          starter,
          log: context.log.named(starter.name),
          onStart: (plane: Plane) => this.#pipeline.add(plane, starter.namedObjects ? 'complete' : 'now'),
        }),
    );
  }

  /**
   * Endpoints first, so that probes get an answer from the start; then planes, which open their sockets; then the source, whose first read
   * brings them to work.
   */
  async start(): Promise<void> {
    const { context, endpoints, source, kinds, onPlaneFailure } = this.#options;
    this.#options.onControl?.(this.#control());
    for (const endpoint of endpoints) this.#servers.set(endpointKey(endpoint), await this.#open(endpoint));
    this.#pipeline.start();
    this.#store.onReplace((records) => this.#collectAfter(records));
    await Promise.all(this.#planes.map((plane) => (onPlaneFailure === 'alone' ? plane.startOnce() : plane.start())));
    this.#source = await source(this.#store, kinds, context);
    this.#options.onSource?.(this.#source);
    this.#losePatience();
    if (this.#pipeline.snapshot) this.#named.follow(this.#pipeline.snapshot);
  }

  #open({ what, listen, flag, hardFail, routes }: Endpoint): Promise<ObserveServer> {
    const { log, clock } = this.#options.context;
    return serveObserve({
      what,
      ...listen,
      flag: `--${flag}`,
      routes: routes(this.#view()),
      log,
      clock,
      hardFail: hardFail ?? false,
    });
  }

  #control(): HouseControl {
    return {
      reopen: (endpoints) => this.#reopen(endpoints),
      follow: (source, kinds) => this.#switch(source, kinds),
      synced: async (kinds, ms) => {
        const enough = new AbortController();
        const late = this.#options.context.clock.sleep(ms, enough.signal);
        await Promise.race([late, Promise.all(kinds.map((kind) => this.#store.synced(kind)))]);
        enough.abort();
      },
    };
  }

  async #reopen(endpoints: readonly Endpoint[]): Promise<Reopened> {
    const opened = new Map<string, ObserveServer>();
    const closeAll = async (servers: ReadonlyMap<string, ObserveServer>): Promise<void> => {
      for (const key of servers.keys()) this.#servers.delete(key);
      await Promise.all([...servers.values()].map((server) => server.close()));
    };
    try {
      for (const endpoint of endpoints) {
        const key = endpointKey(endpoint);
        if (this.#servers.has(key)) continue;
        const server = await this.#open({ ...endpoint, hardFail: true });
        opened.set(key, server);
        this.#servers.set(key, server);
      }
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
    const wanted = new Set(endpoints.map(endpointKey));
    return {
      commit: () => closeAll(new Map([...this.#servers].filter(([key]) => !wanted.has(key)))),
      rollback: () => closeAll(opened),
    };
  }

  /** The records of before stay until the new source has read its own: nothing is without an answer meanwhile. */
  async #switch(source: SourceStarter, kinds: readonly Kind[]): Promise<void> {
    if (this.#stopping) return;
    const next = await source(this.#store, kinds, this.#options.context);
    const before = this.#source;
    if (this.#stopping) {
      await next.stop();
      return;
    }
    this.#source = next;
    this.#pipeline.read(kinds.filter((kind) => kind !== 'secrets' && kind !== 'configMaps'));
    await before?.stop();
  }

  /** Once it is quiet: the lists of several kinds come together. */
  #collectAfter(records: number): void {
    const { mayPause, context } = this.#options;
    if (this.#stopping || mayPause === undefined || records < MANY_RECORDS) return;
    if (this.#collected && mayPause === 'at the start') return;
    this.#collecting?.cancel();
    this.#collecting = context.clock.after(QUIET_MS, () => {
      this.#collected = true;
      collectGarbage();
    });
  }

  #losePatience(): void {
    const { patience, context } = this.#options;
    if (!patience) return;
    const { kind, ms, consequence } = patience;
    this.#patience = context.clock.after(ms, () => {
      if (this.#store.isSynced(kind)) return;
      context.log.error(`no ${kind} could be read within ${ms / 1000} s: ${consequence}`);
      this.#store.markSynced(kind);
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#named.stop();
    this.#patience?.cancel();
    this.#collecting?.cancel();
    await this.#options.onStop?.();
    await this.#source?.stop();
    this.#pipeline.stop();
    await Promise.all(this.#planes.map((plane) => plane.stop()));
    await Promise.all([...this.#servers.values()].map((server) => server.close()));
  }

  #view(): HouseView {
    const notReady = (): string[] => [
      ...(this.#stopping ? ['stopping'] : []),
      ...(this.#pipeline.snapshot ? [] : ['source']),
      ...this.#planes.filter(({ ready }) => !ready).map(({ name }) => name),
    ];
    return {
      snapshot: () => this.#pipeline.snapshot,
      health: { notReady, broken: () => undefined },
      node: () => this.#store.records.nodes.get(this.#options.nodeName),
      state: () =>
        stateJson({
          version: VERSION,
          snapshot: this.#pipeline.snapshot,
          planes: Object.fromEntries(this.#planes.map((plane) => [plane.name, plane.state()])),
        }),
    };
  }
}

function endpointKey({ what, listen }: Endpoint): string {
  return `${what} ${hostPort(listen.address, listen.port)}`;
}
