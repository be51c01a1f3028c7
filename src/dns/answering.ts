// Answering, whoever does it: this thread, or others. What the plane knows of it.

import { randomBytes } from 'node:crypto';
import type { Meters } from '../observe/metrics.ts';
import { Answerer, type AnswererFigures, type AnswererOptions } from './answerer.ts';
import { blocksOf, type BlockSource } from './block-source.ts';
import type { BoundAddress } from './listener.ts';
import type { DnsSource } from './zone/source.ts';

export interface Answering {
  /** Where the plane itself counts. */
  readonly metrics: Meters;
  readonly addresses: readonly BoundAddress[];
  /** Whether names are answered, from the first time that they all are. */
  readonly ready: boolean;
  readonly figures: AnswererFigures | undefined;
  /** Puts blocks into force: all of them, or none when an address cannot be listened on (a DnsListenError). */
  take(source: BlockSource): Promise<void>;
  /** The cluster as it is now. */
  update(source: DnsSource): void;
  /** Answers what is under way, within a bound, and closes everything. */
  finish(): Promise<void>;
}

/** This thread answers. */
export class AnsweringHere implements Answering {
  readonly metrics: Meters;
  readonly #answerer: Answerer;
  readonly #options: AnswererOptions;
  #wasReady = false;

  constructor(options: Omit<AnswererOptions, 'workers' | 'leads' | 'announce'>) {
    this.#options = { ...options, workers: 1, leads: true, announce: undefined };
    this.metrics = options.metrics;
    this.#answerer = new Answerer(this.#options);
  }

  get addresses(): readonly BoundAddress[] {
    return this.#answerer.addresses;
  }

  get ready(): boolean {
    return (this.#wasReady ||= this.#answerer.figures.synced);
  }

  get figures(): AnswererFigures {
    return this.#answerer.figures;
  }

  async take(source: BlockSource): Promise<void> {
    const blocks = await blocksOf(source, this.#options.files);
    await this.#answerer.take({ blocks, secret: randomBytes(16).toString('hex'), ports: new Map() });
  }

  update(source: DnsSource): void {
    this.#answerer.update(source);
  }

  finish(): Promise<void> {
    return this.#answerer.finish();
  }
}
