// `npm run test:vm [-- FILTER ...]`: the tests that need a kernel of their own, in a virtual machine.
// `npm run test:vm -- --shell 'COMMAND'`: that command in the machine instead.

import { missingMachine, runCommandInMachine, testInMachine } from './tests.ts';

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const problem = missingMachine();
  if (problem !== undefined) {
    console.log(`The virtual machine is left out: ${problem}`);
    return process.getuid?.() === 0 ? 1 : 0;
  }
  const [first, ...rest] = words;
  if (first === '--shell') {
    if (rest.length === 0) {
      console.error("--shell needs a command: npm run test:vm -- --shell 'ipvsadm -Ln'");
      return 2;
    }
    return runCommandInMachine(rest.join(' '));
  }
  const unknown = words.find((word) => word.startsWith('-'));
  if (unknown !== undefined) {
    console.error(`unknown flag ${unknown}\nUsage: npm run test:vm -- [FILTER ...] | --shell 'COMMAND'`);
    return 2;
  }
  const { passed, failed, skipped } = (await testInMachine(words)).counts;
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 ? 0 : 1;
}
