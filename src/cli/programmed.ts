// What each mode programs for one Service: the text that `render` prints, of that Service alone.

import { PersistentMap } from '../lib/persistent-map.ts';
import type { ResolvedService, Snapshot } from '../model/snapshot.ts';
import type { RulesMode } from '../rules/backend.ts';
import type { RulesConfig } from '../rules/config.ts';

export interface Programmed {
  readonly mode: RulesMode;
  /** Lines of text; empty when the mode has nothing to do for it. */
  readonly lines: readonly string[];
}

type Render = (snapshot: Snapshot, config: RulesConfig) => string;

/** A mode's code is loaded when it is asked for. */
const RENDERERS: Readonly<Record<RulesMode, () => Promise<Render>>> = {
  nftables: async () => (await import('../rules/nftables/render.ts')).renderServiceElements,
  iptables: async () => (await import('../rules/iptables/render.ts')).renderServiceRules,
  ipvs: async () => (await import('../rules/ipvs/render.ts')).renderServiceLines,
  userspace: async () => (await import('../rules/userspace/render.ts')).renderUserspace,
};

/** In the modes given, or in every one. The Service stands alone: an address that another one claims first is shown all the same. */
export async function programmedFor(
  service: ResolvedService,
  snapshot: Snapshot,
  config: RulesConfig,
  modes: readonly RulesMode[] = Object.keys(RENDERERS) as RulesMode[],
): Promise<readonly Programmed[]> {
  const alone: Snapshot = { ...snapshot, services: PersistentMap.from([[service.key, service]]) };
  const all: Programmed[] = [];
  for (const mode of modes) {
    const render = await RENDERERS[mode]();
    const text = render(alone, config).trimEnd();
    all.push({ mode, lines: text === '' ? [] : text.split('\n') });
  }
  return all;
}
