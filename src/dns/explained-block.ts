// Server blocks as `explain name` reads them.

import type { BlockDraft } from './block.ts';
import { zoneOf } from './corefile/words.ts';
import type { ExplainedBlock } from './explain.ts';
import { CHAIN_ORDER } from './plugin-list.ts';
import { nameText, type DnsName } from './wire/name.ts';

/** Not the place of an answer of its own. */
const UNSEEN: ReadonlySet<string> = new Set([
  'cache',
  'cache behind kubernetes',
  'header',
  'loadbalance',
  'loop',
  'metadata',
  'minimal',
]);

/** The block of the longest zone on the first port that has one; views are not told apart. */
export function blockFinder(drafts: readonly BlockDraft[]): (name: DnsName) => ExplainedBlock | undefined {
  return (name) => {
    const all = drafts.flatMap(({ zones }) => zones);
    const zone = zoneOf(name, all);
    const draft = drafts.find(({ zones }) => zone !== undefined && zones.includes(zone));
    return (
      draft && {
        zones: draft.zones.map(nameText),
        plugins: CHAIN_ORDER.filter((plugin) => draft.handlers.has(plugin) && !UNSEEN.has(plugin)),
        kubernetes: draft.kubernetes?.zones ?? [],
        upstreams: draft.upstreams,
        rename: draft.rename,
      }
    );
  };
}
