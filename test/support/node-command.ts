/**
 * The words that start Node in a process of its own: the one that runs now, with the flags of `FAIRLEAD_TEST_NODE_FLAGS`, which the virtual machine
 * sets (see test/vm/tests.ts).
 */
export const NODE: readonly [string, ...string[]] = [
  process.execPath,
  ...(process.env['FAIRLEAD_TEST_NODE_FLAGS'] ?? '').split(' ').filter((flag) => flag !== ''),
];
