// Waiting for a condition, with a bound.

/** Resolves with what `find` gives as soon as that is something: tried at each wake-up, and every 20 ms. Rejects with `problem()` after `timeoutMs`. */
export async function until<T>(
  find: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 30_000,
  problem: () => string = () => `not so after ${timeoutMs} ms: ${String(find)}`,
  subscribe: (wake: () => void) => () => void = () => () => {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
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
      const timer = setTimeout(done, 20);
      const unsubscribe = subscribe(done);
    });
  }
}
