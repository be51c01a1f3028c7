// The composition root of every command that runs: source → store → pipeline → planes, the endpoints around them, and the
// order in which they start and stop.

import type { Plane } from '../model/plane.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { serveObserve, type Health, type Routes } from '../observe/server.ts';
import { Store, type Kind } from '../source/store.ts';
import type { HttpServer } from '../system/http-server.ts';
import { stopSignal } from '../system/signals.ts';
import type { RunningContext } from './context.ts';
import { EXIT_STOPPED } from './errors.ts';
import { PlaneKeeper, type PlaneStarter } from './plane-keeper.ts';
import { Pipeline } from './pipeline.ts';
import type { ListenAddress } from './settings.ts';
import type { NamedObjects, RunningSource, SourceStarter } from './source-choice.ts';
import { stateJson } from './state.ts';
import { VERSION } from './version.ts';

export interface Endpoint {
  readonly what: string;
  readonly listen: ListenAddress;
  readonly flag: string;
  readonly routes: (house: HouseView) => readonly Routes[];
}

/** What the endpoints show. */
export interface HouseView {
  readonly health: Health;
  readonly state: () => unknown;
}

export interface HouseOptions {
  readonly context: RunningContext;
  readonly nodeName: string;
  readonly source: SourceStarter;
  readonly kinds: readonly Kind[];
  readonly planes: readonly PlaneStarter[];
  /** The Secrets and ConfigMaps that a Snapshot names: only those are read. */
  readonly namedObjects?: (snapshot: Snapshot) => NamedObjects;
  readonly endpoints: readonly Endpoint[];
  /**
   * `together`: a plane that cannot start is tried again while the others work. `alone`: it ends the command, and whoever
   * supervises it sees why.
   */
  readonly onPlaneFailure: 'together' | 'alone';
}

/** Runs until SIGTERM or SIGINT. Resolves to the exit code. */
export async function runHouse(options: HouseOptions): Promise<number> {
  const stopped = stopSignal();
  const house = new House(options);
  try {
    await house.start();
    const signal = await stopped;
    options.context.log.info('stopping', { signal });
  } finally {
    await house.stop();
  }
  options.context.log.info('stopped');
  return EXIT_STOPPED;
}

class House {
  readonly #options: HouseOptions;
  readonly #store = new Store();
  readonly #pipeline: Pipeline;
  readonly #planes: PlaneKeeper[];
  readonly #servers: HttpServer[] = [];
  #source: RunningSource | undefined;
  readonly #followed = { secrets: '', configMaps: '' };
  #stopping = false;

  constructor(options: HouseOptions) {
    this.#options = options;
    const { context, nodeName, kinds } = options;
    this.#pipeline = new Pipeline({
      ...context,
      store: this.#store,
      kinds: kinds.filter((kind) => kind !== 'secrets' && kind !== 'configMaps'),
      nodeName,
      onSnapshot: (snapshot) => this.#follow(snapshot),
    });
    this.#planes = options.planes.map(
      (starter) =>
        new PlaneKeeper({
          ...context,
          starter,
          log: context.log.named(starter.name),
          onStart: (plane: Plane) => this.#pipeline.add(plane),
        }),
    );
  }

  /**
   * Endpoints first, so that probes get an answer from the start; then planes, which open their sockets; then the source, whose first read
   * brings them to work.
   */
  async start(): Promise<void> {
    const { context, endpoints, source, kinds, onPlaneFailure } = this.#options;
    const view = this.#view();
    for (const { what, listen, flag, routes } of endpoints) {
      const server = await serveObserve({
        what,
        ...listen,
        flag: `--${flag}`,
        routes: routes(view),
        log: context.log,
      });
      if (!server) continue;
      this.#servers.push(server);
      context.log.info(`listening for ${what}`, { address: server.address, port: server.port });
    }
    this.#pipeline.start();
    await Promise.all(this.#planes.map((plane) => (onPlaneFailure === 'alone' ? plane.startOnce() : plane.start())));
    this.#source = await source(this.#store, kinds, context);
    if (this.#pipeline.snapshot) this.#follow(this.#pipeline.snapshot);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#source?.stop();
    this.#pipeline.stop();
    await Promise.all(this.#planes.map((plane) => plane.stop()));
    await Promise.all(this.#servers.map((server) => server.close()));
  }

  #view(): HouseView {
    const notReady = (): string[] => [
      ...(this.#stopping ? ['stopping'] : []),
      ...(this.#pipeline.snapshot ? [] : ['source']),
      ...this.#planes.filter(({ ready }) => !ready).map(({ name }) => name),
    ];
    return {
      health: { notReady, broken: () => undefined },
      state: () =>
        stateJson({
          version: VERSION,
          snapshot: this.#pipeline.snapshot,
          planes: Object.fromEntries(this.#planes.map((plane) => [plane.name, plane.state()])),
        }),
    };
  }

  #follow(snapshot: Snapshot): void {
    const named = this.#source && this.#options.namedObjects?.(snapshot);
    if (!named) return;
    for (const kind of ['secrets', 'configMaps'] as const) {
      const text = [...named[kind]].sort().join(' ');
      if (text === this.#followed[kind]) continue;
      this.#followed[kind] = text;
      this.#source?.watchNamed(kind, named[kind]);
    }
  }
}
