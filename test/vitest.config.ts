import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    // Real sockets, namespaces and worker threads: a process each, and no more at once than the machine has cores.
    pool: 'forks',
    maxWorkers: 2,
    // Conditions end a test, not the clock: these bounds are for what hangs, on a machine as busy as it may be.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    dangerouslyIgnoreUnhandledErrors: false,
  },
});
