// `fairlead render`: the rules that would be programmed, as text. Touches nothing.

import { nodeIdentity } from '../../model/node.ts';
import { resolve } from '../../model/resolve.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { RulesMode } from '../../rules/backend.ts';
import { configFor, type RulesConfig } from '../../rules/config.ts';
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
  const used = mode === 'auto' ? 'nftables' : mode;
  const config = configFor(used, rulesConfig(args));
  const snapshot = await loadSnapshot(args, context);
  context.out(await renderRules(used, snapshot, config));
  return EXIT_STOPPED;
}

async function renderRules(mode: RulesMode, snapshot: Snapshot, config: RulesConfig): Promise<string> {
  switch (mode) {
    case 'userspace': {
      const { renderUserspace } = await import('../../rules/userspace/render.ts');
      return renderUserspace(snapshot, config);
    }
    case 'iptables': {
      const { renderIptables } = await import('../../rules/iptables/render.ts');
      return renderIptables(snapshot, config);
    }
    case 'ipvs': {
      const { renderIpvs } = await import('../../rules/ipvs/render.ts');
      return renderIpvs(snapshot, config);
    }
    case 'nftables': {
      const { renderNftables } = await import('../../rules/nftables/render.ts');
      return renderNftables(snapshot, config);
    }
  }
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
