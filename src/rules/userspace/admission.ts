// How much the relays take on: connections at a time, and bytes that wait for slow readers. Beyond it new connections are refused
// early, so that those that stand are carried on. Pure.

export type Excess = 'connections' | 'memory';

export interface AdmissionOptions {
  readonly maxConnections: number;
  readonly maxBufferedBytes: number;
}

/** What has to be told: refusing begins, or is over. */
export type AdmissionNews =
  | { readonly kind: 'begins'; readonly excess: Excess }
  | { readonly kind: 'over'; readonly excess: Excess; readonly refused: number };

/** It is over when this much of the limit is free again, so that a process at its limit does not tell it with each connection. */
const FREE_AGAIN = 0.9;
/** Adding up the buffers costs a look at each connection: not more often than this. */
const MEASURE_MS = 100;

/** What happens again and again at a limit is told when it begins and when it is over. */
export class Episode {
  #times = 0;

  /** Whether it begins with this time. */
  happens(): boolean {
    this.#times++;
    return this.#times === 1;
  }

  /** How often it was, when it is over. */
  settle(used: number, limit: number): number | undefined {
    if (this.#times === 0 || used > limit * FREE_AGAIN) return undefined;
    const times = this.#times;
    this.#times = 0;
    return times;
  }
}

export class Admission {
  #options: AdmissionOptions;
  readonly #tell: (news: AdmissionNews) => void;
  readonly #episodes: Readonly<Record<Excess, Episode>> = { connections: new Episode(), memory: new Episode() };
  #buffered = 0;
  #measuredAt = -Infinity;

  constructor(options: AdmissionOptions, tell: (news: AdmissionNews) => void) {
    this.#options = options;
    this.#tell = tell;
  }

  configure(options: AdmissionOptions): void {
    this.#options = options;
  }

  /** Whether one more is taken, beside `connections`; what there is too much of otherwise. `now` in milliseconds. */
  admit(connections: number, measure: () => number, now: number): Excess | undefined {
    const { maxConnections, maxBufferedBytes } = this.#options;
    if (now - this.#measuredAt >= MEASURE_MS) {
      this.#buffered = measure();
      this.#measuredAt = now;
    }
    this.#settle('connections', connections, maxConnections);
    this.#settle('memory', this.#buffered, maxBufferedBytes);
    if (connections >= maxConnections) return this.#refuse('connections');
    if (this.#buffered >= maxBufferedBytes) return this.#refuse('memory');
    return undefined;
  }

  #refuse(excess: Excess): Excess {
    if (this.#episodes[excess].happens()) this.#tell({ kind: 'begins', excess });
    return excess;
  }

  #settle(excess: Excess, used: number, limit: number): void {
    const refused = this.#episodes[excess].settle(used, limit);
    if (refused !== undefined) this.#tell({ kind: 'over', excess, refused });
  }
}

/** A connection at rest takes some 8 KB: half a gigabyte is what nobody has to ask for. */
const MOST_UNASKED = 65_536;
/** UDP flows at a time, unless more are asked for. */
const FLOWS_UNASKED = 4096;

type Asked = number | 'by-descriptors';

/** How many connections are carried at a time, by a process that may have so many files open. */
export function connectionLimit(asked: Asked, files: number, askedFlows: Asked): number {
  // Beyond that the kernel has no descriptor for who comes, who would be let go without a word.
  const { connections } = shareOfFiles(files, askedFlows);
  return Math.min(connections, asked === 'by-descriptors' ? MOST_UNASKED : asked);
}

/** What the relays may hold, of the files that the process may have open; a TCP connection is two of them, a UDP flow one. */
export function shareOfFiles(
  files: number,
  askedFlows: Asked,
): { readonly connections: number; readonly flows: number } {
  const own = Math.min(512, Math.floor(files / 4));
  const wanted = askedFlows === 'by-descriptors' ? FLOWS_UNASKED : askedFlows;
  const flows = Math.max(1, Math.min(wanted, Math.floor((files - own) / 3)));
  return { flows, connections: Math.max(1, Math.floor((files - own - flows) / 2)) };
}
