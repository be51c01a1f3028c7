// `fairlead render`: the rules that would be programmed, as text. Touches nothing.

import { nodeIdentity } from '../../model/node.ts';
import { resolve } from '../../model/resolve.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import { formatMessage } from '../../source/manifests/document.ts';
import { loadManifests } from '../../source/manifests/load.ts';
import { Store } from '../../source/store.ts';
import type { Arguments } from '../args.ts';
import { createContext, type Context } from '../context.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import { nodeName, rulesConfig, rulesMode } from '../settings.ts';
import { manifestDirs, manifestOptions } from '../source-choice.ts';

export async function render(args: Arguments): Promise<number> {
  const context = createContext(args);
  const mode = rulesMode(args, 'nftables');
  const config = rulesConfig(args);
  const snapshot = await loadSnapshot(args, context);
  if (mode === 'userspace') {
    const { renderUserspace } = await import('../../rules/userspace/render.ts');
    context.out(renderUserspace(snapshot, config));
  } else {
    const { renderNftables } = await import('../../rules/nftables/render.ts');
    context.out(renderNftables(snapshot, config));
  }
  return EXIT_STOPPED;
}

/** The Snapshot of the folders that the flags name. What is wrong in them goes to the log; the rest counts. */
export async function loadSnapshot(args: Arguments, context: Context): Promise<Snapshot> {
  const dirs = manifestDirs(args);
  if (dirs.length === 0) throw new UsageError('flag --manifests is missing; give a folder of manifests');
  const options = manifestOptions(args, context);
  const { entries, errors, notices } = await loadManifests(dirs, context.files, options);
  for (const error of errors) context.log.error(formatMessage(error));
  for (const notice of notices) context.log.info(formatMessage(notice));
  const store = new Store();
  store.replaceAll(entries);
  return resolve(store.records, nodeIdentity(store.records, nodeName(args, context.hostname))).snapshot;
}
