#!/usr/bin/env node
// The file that is run. Plain JavaScript, so that an older Node can say what it lacks, and so that the compile cache is on before the first
// TypeScript is read: with it Node neither loads its type stripper (27 MB) nor compiles again. The cache lies beside the code, where only who
// may change the code can write; where nobody may, everything works without it.

import * as nodeModule from 'node:module';
import { fileURLToPath } from 'node:url';

/** As `engines` of package.json: older ones do not strip types, or cut long headers off (CVE-2026-58044). */
const OLDEST = '24.18.1';

if (isOlder(process.versions.node, OLDEST)) {
  console.error(
    `fairlead: this is Node ${process.versions.node}, and ${OLDEST} or newer is needed; in a checkout, \`npm run -s fairlead -- COMMAND\` finds the one that \`npm ci\` installed`,
  );
  process.exitCode = 2;
} else {
  nodeModule.enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/fairlead', import.meta.url)));
  await import('./main.ts');
}

/**
 * @param {string} version
 * @param {string} other
 */
function isOlder(version, other) {
  const [a, b] = [version, other].map((text) => text.split('.').map(Number));
  const at = b.findIndex((number, i) => number !== a[i]);
  return at >= 0 && a[at] < b[at];
}
