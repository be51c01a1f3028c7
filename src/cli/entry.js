#!/usr/bin/env node
// The file that is run. Plain JavaScript, so that the compile cache is on before the first TypeScript is read: with it Node neither loads
// its type stripper (27 MB) nor compiles again. The cache lies beside the code, where only who may change the code can write; where nobody may,
// everything works without it.

import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/fairlead', import.meta.url)));
await import('./main.ts');
