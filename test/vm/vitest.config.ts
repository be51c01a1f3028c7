import { defineConfig } from 'vitest/config';

// Inside the machine, where a processor is emulated: some ten times slower than outside. One process for all files, as starting one costs seconds.
export default defineConfig({
  test: {
    include: ['test/vm/**/*.vm.ts'],
    pool: 'forks',
    isolate: false,
    maxWorkers: 1,
    testTimeout: 300_000,
    hookTimeout: 240_000,
  },
});
