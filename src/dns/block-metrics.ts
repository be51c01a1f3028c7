// What is shown of the program, and of the blocks that are in force.

import type { Meters } from '../observe/metrics.ts';
import type { BlockDraft } from './block.ts';
import { nameText } from './wire/name.ts';

export interface BlockMetrics {
  inForce(drafts: readonly BlockDraft[], serverOf: (draft: BlockDraft, index: number) => string): void;
}

/** Not shown by CoreDNS either: they answer nothing. */
const UNSHOWN: ReadonlySet<string> = new Set(['reload', 'bind', 'ready', 'health', 'root', 'debug', 'timeouts']);

export function createBlockMetrics(metrics: Meters): BlockMetrics {
  const build = metrics.gauge({
    name: 'coredns_build_info',
    help: 'The program that answers in place of CoreDNS.',
    labels: ['version', 'revision', 'goversion'],
  });
  build.set(1, { version: 'fairlead', revision: '', goversion: `node ${process.version}` });
  const enabled = metrics.gauge({
    name: 'coredns_plugin_enabled',
    help: 'Plugins of the server blocks.',
    labels: ['server', 'zone', 'view', 'name'],
  });
  let shown: readonly Readonly<Record<string, string>>[] = [];
  return {
    inForce: (drafts, serverOf) => {
      for (const labels of shown) enabled.set(0, labels);
      shown = drafts.flatMap((draft, i) =>
        draft.zones.flatMap((zone) =>
          [...draft.plugins]
            .filter((name) => !UNSHOWN.has(name))
            .map((name) => ({ server: serverOf(draft, i), zone: nameText(zone), view: draft.view?.name ?? '', name })),
        ),
      );
      for (const labels of shown) enabled.set(1, labels);
    },
  };
}
