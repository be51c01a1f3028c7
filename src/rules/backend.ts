// What the sync loop knows of a backend: something that brings one Snapshot into force on this machine.

import type { IpFamily } from '../lib/ip.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { RulesConfig } from './config.ts';

/** The backends that exist. */
export type RulesMode = 'nftables' | 'iptables' | 'ipvs' | 'userspace';

/** What is ours in the kernel, by address family. */
export interface Owned {
  readonly elements: Readonly<Record<IpFamily, number>>;
  readonly rules: Readonly<Record<IpFamily, number>>;
}

export interface Rejection {
  /** `namespace/name` of the Service. */
  readonly service: string;
  readonly families: readonly IpFamily[];
  /** What the tool said. */
  readonly reason: string;
}

/** What a sync did. Expected failures are values: the loop counts them, waits and tries again with the newest Snapshot. */
export type SyncOutcome =
  | {
      readonly kind: 'applied';
      /** What was written, for the log line: elements, rules, listeners… `{}` when nothing had to be. */
      readonly counts: Readonly<Record<string, number>>;
      /** Whether everything was written or compared, and not only what had changed; left out where there is no such difference. */
      readonly full?: boolean;
      /** Services that the kernel does not take, while all others are in force. They are tried again with the next sync. */
      readonly rejected?: readonly Rejection[];
    }
  | {
      readonly kind: 'failed';
      /** One line for the log: what, where, and the mend when there is one. */
      readonly reason: string;
      /** The families that are not in force now. */
      readonly families: readonly IpFamily[];
    };

/** What `cleanup` found and removed, one phrase each (`nftables table inet fairlead`). Empty when there was nothing. */
export interface CleanupOutcome {
  readonly removed: readonly string[];
  /** What could not be removed, and why. */
  readonly problems: readonly string[];
}

export interface RulesBackend {
  readonly mode: RulesMode;
  /**
   * Brings the Snapshot into force, and resolves when it is. The backend remembers what it last applied and does only
   * what differs; it must cope with Snapshots that were skipped. Never called twice at a time; never rejects for what
   * can be expected of a machine.
   */
  sync(snapshot: Snapshot): Promise<SyncOutcome>;
  /** Works by another configuration from the next `sync` on, which then brings all of it into force. Never called during one. */
  configure(config: RulesConfig): void;
  /**
   * Calls `onDrift` with a phrase for the log when what is in force here may no longer be what was applied, because somebody else
   * changed it. The next `sync` then brings it back. Called once, before the first sync; a backend without this cannot drift.
   */
  watch?(onDrift: (what: string) => void): void;
  /** Removes everything of ours from this machine. Called after the last sync, never during one. */
  cleanup(): Promise<CleanupOutcome>;
  /** Lets go of timers, sockets and children, and leaves what is in the kernel as it is. Called once, last. */
  stop(): Promise<void>;
  /** How much of the kernel is ours now; a backend that puts nothing there has none. */
  owned?(): Owned;
  /** The backend's state as JSON, for `fairlead state`. */
  state(): unknown;
}
