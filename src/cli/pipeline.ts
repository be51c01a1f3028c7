// Store → Snapshot → planes: the one way the data goes. Changes of one turn of the event loop make one Snapshot.

import { nodeIdentity } from '../model/node.ts';
import type { Plane } from '../model/plane.ts';
import type { Records } from '../model/records.ts';
import { resolve, type Resolution } from '../model/resolve.ts';
import type { NodeIdentity, Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Distribution, Level, Metrics } from '../observe/metrics.ts';
import type { Kind, Store } from '../source/store.ts';
import type { Clock, Timer } from '../system/clock.ts';

export interface PipelineOptions {
  readonly store: Store;
  /** Nothing is resolved before each of these has been read whole: rules made of half a cluster would cut the other half off. */
  readonly kinds: readonly Kind[];
  readonly nodeName: string;
  /** Who we are; the Node of that name unless given. */
  readonly identity?: (records: Records) => NodeIdentity;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told of each Snapshot, before the planes are. */
  readonly onSnapshot?: (snapshot: Snapshot) => void;
  /** Asked once, when the first Snapshot is there: until it resolves, the planes that wait for complete Snapshots get none. */
  readonly untilComplete?: () => Promise<void>;
}

/** Under a stream of changes the log says so often what came of them, and not of each. */
const TELL_MS = 1000;

/** What the log has not said yet. */
interface Untold {
  readonly snapshots: number;
  readonly changed: number;
  readonly seconds: number;
}

const ALL_TOLD: Untold = { snapshots: 0, changed: 0, seconds: 0 };

export class Pipeline {
  readonly #options: PipelineOptions;
  readonly #planes = new Set<Plane>();
  readonly #waiting = new Set<Plane>();
  readonly #duration: Distribution;
  readonly #revision: Level;
  #resolution: Resolution | undefined;
  #kinds: readonly Kind[];
  #scheduled = false;
  #untold = ALL_TOLD;
  #toldAt = -Infinity;
  #telling: Timer | undefined;
  #unsubscribe: (() => void) | undefined;
  #complete: 'unasked' | 'asked' | 'complete';

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#kinds = options.kinds;
    this.#complete = options.untilComplete ? 'unasked' : 'complete';
    this.#duration = options.metrics.histogram({
      name: 'fairlead_resolve_duration_seconds',
      help: 'Time to resolve one Snapshot',
      buckets: [0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
    });
    this.#revision = options.metrics.gauge({
      name: 'fairlead_snapshot_revision',
      help: 'Revision of the newest Snapshot',
    });
  }

  get snapshot(): Snapshot | undefined {
    return this.#resolution?.snapshot;
  }

  /** Gives the plane the newest Snapshot, now (`complete`: when the first is) and from now on. */
  add(plane: Plane, first: 'now' | 'complete'): void {
    if (first === 'complete' && this.#complete !== 'complete') {
      this.#waiting.add(plane);
      return;
    }
    this.#planes.add(plane);
    if (this.snapshot) plane.update(this.snapshot);
  }

  start(): void {
    const { store, kinds } = this.#options;
    this.#unsubscribe = store.onChange(() => this.#schedule());
    // Without a source there is nothing to wait for.
    if (kinds.length === 0) this.#schedule();
    for (const kind of kinds) void store.synced(kind).then(() => this.#schedule());
  }

  /** From now on these have to be read whole before anything is resolved. */
  read(kinds: readonly Kind[]): void {
    this.#kinds = kinds;
    for (const kind of kinds) void this.#options.store.synced(kind).then(() => this.#schedule());
    this.#schedule();
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#telling?.cancel();
    this.#planes.clear();
    this.#waiting.clear();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#run();
    });
  }

  #run(): void {
    const { store, nodeName, clock } = this.#options;
    const identity = this.#options.identity ?? ((records) => nodeIdentity(records, nodeName));
    if (!this.#kinds.every((kind) => store.isSynced(kind))) return;
    const before = this.#resolution;
    const start = clock.monotonic();
    this.#resolution = resolve(store.records, identity(store.records), before);
    const { snapshot } = this.#resolution;
    if (snapshot === before?.snapshot) return;
    const seconds = (clock.monotonic() - start) / 1000;
    this.#duration.observe(seconds);
    this.#revision.set(snapshot.revision);
    const changed = before
      ? [...snapshot.services.differences(before.snapshot.services)].length
      : snapshot.services.size;
    this.#tell(changed, seconds);
    this.#options.onSnapshot?.(snapshot);
    if (this.#complete === 'unasked') void this.#awaitComplete();
    for (const plane of this.#planes) plane.update(snapshot);
  }

  async #awaitComplete(): Promise<void> {
    this.#complete = 'asked';
    await this.#options.untilComplete?.();
    this.#complete = 'complete';
    for (const plane of this.#waiting) this.add(plane, 'now');
    this.#waiting.clear();
  }

  /** At once, but no more than one line in TELL_MS: that one speaks of all since the last. */
  #tell(changed: number, seconds: number): void {
    const { clock } = this.#options;
    const { snapshots, changed: others, seconds: before } = this.#untold;
    this.#untold = { snapshots: snapshots + 1, changed: others + changed, seconds: before + seconds };
    const wait = this.#toldAt + TELL_MS - clock.monotonic();
    if (wait <= 0) this.#sayUntold();
    else this.#telling ??= clock.after(wait, () => this.#sayUntold());
  }

  #sayUntold(): void {
    const { snapshots, changed, seconds } = this.#untold;
    this.#telling?.cancel();
    this.#telling = undefined;
    this.#untold = ALL_TOLD;
    this.#toldAt = this.#options.clock.monotonic();
    const { snapshot } = this;
    if (!snapshot) return;
    this.#options.log.info('resolved', {
      revision: snapshot.revision,
      services: snapshot.services.size,
      changed,
      ingresses: snapshot.ingresses.size,
      ...(snapshots > 1 ? { snapshots } : {}),
      ms: Math.round(seconds * 10_000) / 10,
    });
  }
}
