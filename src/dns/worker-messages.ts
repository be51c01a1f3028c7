// What the main thread and the threads that answer say to each other: plain data.

import type { LogFields, LogLevel } from '../observe/log.ts';
import type { Family } from '../observe/tally.ts';
import type { Ip } from '../lib/ip.ts';
import type { AnswererFigures } from './answerer.ts';
import type { BlockSource } from './block-source.ts';
import type { BoundAddress } from './listener.ts';
import type { SourceChanges } from './zone/source.ts';

/** What a worker is begun with. */
export interface WorkerData {
  readonly workers: number;
  readonly leads: boolean;
  readonly selfIps: readonly Ip[] | undefined;
  readonly maxConnections: number;
  readonly idleMs: number;
}

export type ToWorker =
  | { readonly kind: 'changes'; readonly changes: SourceChanges }
  | {
      readonly kind: 'take';
      readonly id: number;
      readonly source: BlockSource;
      readonly secret: string;
      readonly ports: ReadonlyMap<string, number>;
    }
  | { readonly kind: 'announced'; readonly fact: string }
  | { readonly kind: 'count'; readonly id: number }
  | { readonly kind: 'finish' };

export interface LogLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields | undefined;
}

export type FromWorker =
  | {
      readonly kind: 'taken';
      readonly id: number;
      readonly addresses: readonly BoundAddress[];
      readonly ports: ReadonlyMap<string, number>;
      readonly figures: AnswererFigures;
    }
  /** An address cannot be listened on, and nothing has changed. */
  | {
      readonly kind: 'refused';
      readonly id: number;
      readonly at: BoundAddress;
      readonly code: string | undefined;
      readonly message: string;
    }
  | { readonly kind: 'applied'; readonly figures: AnswererFigures }
  | { readonly kind: 'log'; readonly lines: readonly LogLine[] }
  | { readonly kind: 'announce'; readonly fact: string }
  | {
      readonly kind: 'counted';
      /** Of the question; 0 where none was asked. */
      readonly id: number;
      readonly families: readonly Family[];
      readonly figures: AnswererFigures;
    };
