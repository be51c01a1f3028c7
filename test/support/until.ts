// Waiting for a condition, with a bound.

/** Resolves with what `find` gives as soon as that is something: tried at each wake-up, and every 20 ms. Rejects with `problem()` after `timeoutMs`. */
export function until<T>(
  find: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 30_000,
  problem: () => string = () => `not so after ${timeoutMs} ms: ${String(find)}`,
  subscribe: (wake: () => void) => () => void = () => () => {},
): Promise<T> {
  return poll(find, timeoutMs, problem, 20, subscribe);
}

/** The same for what a process here does: tried every 5 ms, and told as what is waited for. */
export function eventually<T>(
  what: string,
  find: () => T | undefined | false | Promise<T | undefined | false>,
  ms = 30_000,
): Promise<T> {
  return poll(
    find,
    ms,
    () => `not within ${ms} ms: ${what}`,
    5,
    () => () => {},
  );
}

async function poll<T>(
  find: () => T | undefined | false | Promise<T | undefined | false>,
  ms: number,
  problem: () => string,
  everyMs: number,
  subscribe: (wake: () => void) => () => void,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    const found = await find();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(problem());
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        unsubscribe();
        resolve();
      };
      const timer = setTimeout(done, everyMs);
      const unsubscribe = subscribe(done);
    });
  }
}
