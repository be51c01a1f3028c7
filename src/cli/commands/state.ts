// `fairlead state`: the Snapshot and the planes as JSON, of a running process or of a folder.

import type { Arguments } from '../args.ts';
import { asksFolder, askProcess } from '../ask.ts';
import { createContext } from '../context.ts';
import { EXIT_STOPPED } from '../errors.ts';
import { stateJson } from '../state.ts';
import { VERSION } from '../version.ts';
import { loadSnapshot } from './render.ts';

export async function state(args: Arguments): Promise<number> {
  const context = createContext(args);
  if (asksFolder(args)) {
    const snapshot = await loadSnapshot(args, context);
    context.out(`${JSON.stringify(stateJson({ version: VERSION, snapshot, planes: {} }), null, 2)}\n`);
    return EXIT_STOPPED;
  }
  context.out(await askProcess(args, '/state'));
  return EXIT_STOPPED;
}
