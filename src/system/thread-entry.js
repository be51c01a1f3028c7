// What a worker thread begins with. Plain JavaScript for the reason that src/cli/entry.js is: with the compile cache on, the
// thread neither loads Node's type stripper nor compiles again.

import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { workerData } from 'node:worker_threads';

enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/fairlead', import.meta.url)));
await import(workerData.module);
