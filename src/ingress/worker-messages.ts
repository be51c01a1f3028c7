// What the main thread and the threads that carry requests say to each other: plain data.

import type { Family } from '../observe/tally.ts';
import type { ObjectKey } from '../model/records.ts';
import type { EngineTimes } from './http/engine.ts';
import type { ListenAddress } from './listen-error.ts';
import type { RoutingFlags } from './routing-options.ts';
import type { CertificatePair } from './self-signed.ts';
import type { TrafficDelta, TrafficOptions } from './traffic-counts.ts';
import type { SourceChanges } from './worker-source.ts';

export interface Addresses {
  readonly http: ListenAddress | undefined;
  readonly https: ListenAddress | undefined;
}

/** What a worker is begun with. */
export interface WorkerData {
  readonly flags: RoutingFlags;
  readonly configMap: ObjectKey | undefined;
  readonly defaultCertificate: ObjectKey | undefined;
  /** The same in every worker: the certificate made here, and the keys of TLS tickets. */
  readonly ownPair: CertificatePair;
  readonly ticketKeys: Uint8Array;
  readonly times: EngineTimes;
  readonly tickMs: number;
  readonly graceMs: number;
  readonly traffic: Partial<TrafficOptions>;
  readonly logs: boolean;
  /** Which of the workers this is, and the counts of limits that they share. */
  readonly index: number;
  readonly limits: SharedArrayBuffer;
}

export interface WorkerCounts {
  readonly active: number;
  readonly busy: number;
  readonly accepted: number;
  readonly upstream: number;
  readonly ejected: number;
}

export type ToWorker =
  | { readonly kind: 'listen'; readonly id: number; readonly addresses: Addresses }
  | { readonly kind: 'changes'; readonly changes: SourceChanges }
  | { readonly kind: 'count'; readonly id: number }
  | { readonly kind: 'stop' };

export type FromWorker =
  | { readonly kind: 'listening'; readonly id: number; readonly addresses: Addresses }
  | {
      readonly kind: 'refused';
      readonly id: number;
      readonly listen: ListenAddress;
      readonly scheme: string;
      readonly code: string | undefined;
      readonly message: string;
    }
  | { readonly kind: 'applied'; readonly revision: number }
  /** `id` is 0 where nobody asked. */
  | {
      readonly kind: 'counted';
      readonly id: number;
      readonly families: readonly Family[];
      readonly counts: WorkerCounts;
      readonly traffic: TrafficDelta;
    }
  | { readonly kind: 'access'; readonly text: string }
  | { readonly kind: 'error'; readonly message: string; readonly fields: Readonly<Record<string, unknown>> };
