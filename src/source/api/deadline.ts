import type { Clock } from '../../system/clock.ts';

/**
 * Runs a task with a signal that is aborted with `signal`, or after `ms` milliseconds, or when the task is over (which
 * lets go of what it left unread). `late` tells that the time ran out.
 */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<{ readonly value: T; readonly late: boolean }> {
  const ending = new AbortController();
  const end = (): void => ending.abort();
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  let late = false;
  const timer = clock.after(ms, () => {
    late = true;
    end();
  });
  try {
    const value = await run(ending.signal);
    return { value, late };
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', end);
    end();
  }
}
