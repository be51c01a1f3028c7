/** Exponential backoff with full jitter on the upper half, so that many clients do not come back together. */
export interface BackoffOptions {
  /** First delay in milliseconds. */
  readonly initial: number;
  /** No delay is longer than this, in milliseconds. */
  readonly max: number;
}

/**
 * The delay before attempt `failures + 1`, in milliseconds: between half and the whole of `initial * 2^(failures - 1)`,
 * capped at `max`. `random` is a number in [0, 1).
 */
export function backoffDelay(options: BackoffOptions, failures: number, random: number): number {
  const ceiling = Math.min(options.max, options.initial * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
