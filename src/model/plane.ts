import type { Snapshot } from './snapshot.ts';

/**
 * What the composition root knows of a plane (rules, DNS, Ingress). A plane is started with its options, gets every
 * Snapshot, and is stopped; how it applies one is its own business.
 */
export interface Plane {
  readonly name: 'rules' | 'dns' | 'ingress';
  /**
   * Takes the newest Snapshot and returns at once. A plane that is still busy with an older one goes on to the newest
   * when it is done; those in between are skipped, so it must compare with what it last applied.
   */
  update(snapshot: Snapshot): void;
  /** True once the first Snapshot is in force (in the kernel, in the answers, in the route table), and from then on. */
  readonly ready: boolean;
  /** The plane's state as JSON, for `fairlead state` and the status page. */
  state(): unknown;
  /** Stops gracefully: what is under way is finished within the plane's own bound. Never rejects. */
  stop(): Promise<void>;
}
