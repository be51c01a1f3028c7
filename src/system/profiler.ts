// What the main thread does with its time and memory, by V8's own sampling: files that Chrome's DevTools and `speedscope` open.

export type ProfileKind = 'cpu' | 'heap';

/**
 * Samples for as long as `wait` takes, and gives the profile as JSON: a `.cpuprofile`, or a `.heapprofile` of what was allocated meanwhile
 * and is still held. Costs a few per cent of the time of this thread; worker threads are not in it.
 */
export async function takeProfile(kind: ProfileKind, wait: () => Promise<void>): Promise<string> {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  try {
    if (kind === 'cpu') {
      await session.post('Profiler.enable');
      await session.post('Profiler.start');
      await wait();
      return JSON.stringify((await session.post('Profiler.stop')).profile);
    }
    await session.post('HeapProfiler.startSampling');
    await wait();
    return JSON.stringify((await session.post('HeapProfiler.stopSampling')).profile);
  } finally {
    session.disconnect();
  }
}
