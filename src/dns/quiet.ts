// When nothing comes any more: what a socket that goes is still read for.

import type { Clock } from '../system/clock.ts';

/** What comes without a pause must end, too. */
const MOST_MS = 500;

/** Resolves once `taken` has not grown for so long, or after a bound. */
export async function untilQuiet(
  taken: () => number,
  clock: Pick<Clock, 'monotonic' | 'sleep'>,
  ms = 0,
): Promise<void> {
  const bound = clock.monotonic() + MOST_MS;
  let before;
  do {
    before = taken();
    await clock.sleep(ms);
    // The first may have ended before the system was asked for what has come: on a busy machine its time is over by then.
    await clock.sleep(0);
  } while (taken() !== before && clock.monotonic() < bound);
}
