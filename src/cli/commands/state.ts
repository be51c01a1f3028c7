// `fairlead state`: the Snapshot and the planes as JSON, of a running process or of a folder.

import { hostPort } from '../../lib/ip.ts';
import type { Arguments } from '../args.ts';
import { createContext } from '../context.ts';
import { CommandError, EXIT_STOPPED, UsageError, messageOf } from '../errors.ts';
import { listenAddress } from '../settings.ts';
import { manifestDirs } from '../source-choice.ts';
import { stateJson } from '../state.ts';
import { VERSION } from '../version.ts';
import { loadSnapshot } from './render.ts';

export async function state(args: Arguments): Promise<number> {
  const context = createContext(args);
  if (manifestDirs(args).length > 0) {
    if (args.text('address') !== undefined) {
      throw new UsageError(
        'flags --manifests and --address exclude each other: a folder or a running process, not both',
      );
    }
    const snapshot = await loadSnapshot(args, context);
    context.out(`${JSON.stringify(stateJson({ version: VERSION, snapshot, planes: {} }), null, 2)}\n`);
    return EXIT_STOPPED;
  }
  const { address, port } = listenAddress(args, 'address', '127.0.0.1:10249');
  context.out(await askProcess(`http://${hostPort(address, port)}/state`));
  return EXIT_STOPPED;
}

async function askProcess(url: string): Promise<string> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    return await response.text();
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new CommandError(
      `no fairlead answers at ${url}: ${messageOf(cause)}. Give --address IP:PORT of its metrics, or --manifests DIR.`,
      { cause: error },
    );
  }
}
