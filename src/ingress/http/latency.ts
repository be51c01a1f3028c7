// How soon an endpoint answered lately, as a mean in which old answers count less.

/** What was measured this long ago counts a third. */
export const DECAY_MS = 10_000;

export interface Latency {
  /** Milliseconds, connecting included, weighted by their age. */
  readonly ms: number;
  readonly at: number;
}

export function decayed(latency: Latency, now: number, ms = 0): number {
  const weight = Math.exp(-Math.max(0, now - latency.at) / DECAY_MS);
  return latency.ms * weight + ms * (1 - weight);
}
