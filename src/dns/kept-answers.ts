// Finished answers by the bytes of the question: what was answered once is given again without reading, looking up or
// writing anything, for as long as nothing that it was made from changes.

import type { RecordedQuery, ServerMetrics } from './metrics.ts';

/** What may be said of an answer that can be given again. */
export interface Keep {
  /** Monotonic milliseconds from which it says something else: TTLs count down. Infinity where it only changes with the zone. */
  readonly until: number;
  /** Told how often it was given again, some time after. */
  readonly again?: (times: number) => void;
}

export interface KeptAnswer {
  /** The same answer with one address after the other in front; each a whole packet, whose id is overwritten. At least one. */
  readonly packets: Buffer[];
  readonly keep: Keep;
  /** What the metrics are told of it. */
  readonly recorded: Omit<RecordedQuery, 'seconds'>;
}

interface Entry extends KeptAnswer {
  turn: number;
  /** Given since they were last counted. */
  hits: number;
}

/** What one of the two generations may hold. */
const MOST_ANSWERS = 8192;
const MOST_BYTES = 3 << 20;
/** What an answer takes beside its packets. */
const OVERHEAD_BYTES = 100;
const ASKED_SLOTS = 1 << 16;
/** Longer questions have something in them that comes once. */
const MOST_QUESTION = 290;
/** Larger answers are made anew: few ask for them, and they would fill the memory. */
export const MOST_KEPT_BYTES = 1500;

/**
 * The finished answers of one socket. The key is the packet without its id, so everything that an answer depends on is in it:
 * flags, spelling, type, class, EDNS. Bounded: when a generation is full, what was not asked for during the last one goes.
 */
export class KeptAnswers {
  #young = new Map<string, Entry>();
  #old = new Map<string, Entry>();
  #youngBytes = 0;
  #version = -1;
  #given: Entry[] = [];
  /** Set while the socket still holds packets that were given to it: they must not change under it. */
  copies = false;
  /** What an answer takes that is given again. */
  seconds = 0;
  readonly #metrics: ServerMetrics;
  /** Questions that were asked before: what is asked once only is not worth keeping. */
  readonly #asked = new Uint16Array(ASKED_SLOTS);

  constructor(metrics: ServerMetrics) {
    this.#metrics = metrics;
  }

  /** What stands for a packet; empty for one whose answer is never kept. */
  static question(packet: Buffer): string {
    return packet.length <= MOST_QUESTION ? packet.toString('latin1', 2) : '';
  }

  /** The answer with the id of the packet, good until the next call; undefined when there is none. */
  take(question: string, packet: Buffer, version: number, monotonic: () => number): Buffer | undefined {
    if (version !== this.#version) this.#forget(version);
    let entry = this.#young.get(question);
    if (entry === undefined) {
      entry = this.#old.get(question);
      if (entry === undefined) return undefined;
      this.#insert(question, entry);
    }
    if (entry.keep.until !== Infinity && monotonic() >= entry.keep.until) {
      this.#young.delete(question);
      this.#old.delete(question);
      return undefined;
    }
    if (entry.hits++ === 0) this.#given.push(entry);
    const { packets } = entry;
    const turn = packets.length === 1 ? 0 : entry.turn++ % packets.length;
    let answer = packets[turn];
    if (answer === undefined) return undefined;
    if (this.copies) answer = packets[turn] = Buffer.from(answer);
    answer[0] = packet[0] ?? 0;
    answer[1] = packet[1] ?? 0;
    return answer;
  }

  /** Whether the question was asked lately, as far as a small table tells: asked twice, an answer is worth keeping. */
  isAskedAgain(packet: Buffer): boolean {
    let hash = packet.length;
    for (let at = 12; at < packet.length; at++) hash = (Math.imul(hash, 31) + (packet[at] ?? 0)) | 0;
    // Two marks to a place, so that two questions that meet there do not put each other out again and again.
    const place = (hash ^ (hash >>> 15)) & (ASKED_SLOTS - 2);
    const mark = (hash >>> 16) | 1;
    const first = this.#asked[place] ?? 0;
    if (first === mark || this.#asked[place + 1] === mark) return true;
    this.#asked[place] = mark;
    this.#asked[place + 1] = first;
    return false;
  }

  /** `version`: of what the answer was made from; one that is not in force any more is not kept. */
  keep(question: string, answer: KeptAnswer, version: number): void {
    if (question === '' || version !== this.#version) return;
    this.#insert(question, { ...answer, turn: 0, hits: 0 });
  }

  /** Counts what was given since the last time. */
  settle(): void {
    const given = this.#given;
    this.#given = [];
    for (const entry of given) {
      this.#metrics.record({ ...entry.recorded, seconds: this.seconds }, entry.hits);
      entry.keep.again?.(entry.hits);
      entry.hits = 0;
    }
  }

  #insert(question: string, entry: Entry): void {
    if (this.#young.size >= MOST_ANSWERS || this.#youngBytes >= MOST_BYTES) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#young.set(question, entry);
    for (const packet of entry.packets) this.#youngBytes += packet.length + OVERHEAD_BYTES;
  }

  #forget(version: number): void {
    this.settle();
    this.#young = new Map();
    this.#old = new Map();
    this.#youngBytes = 0;
    this.#version = version;
  }
}
