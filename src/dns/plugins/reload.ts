// reload: the Corefile is read again, and taken when it is another one.

import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, duration } from '../corefile/words.ts';

const INTERVAL_MS = 30_000;
const JITTER_MS = 15_000;
const SHORTEST_MS = 2000;

export const reload: PluginDefinition = {
  name: 'reload',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'reload', 0, 2);
    const intervalMs = args[0] === undefined ? INTERVAL_MS : duration(args[0], place);
    if (intervalMs < SHORTEST_MS) throw new CorefileError(place, 'the interval of reload is 2s or longer');
    const jitterMs = args[1] === undefined ? Math.min(JITTER_MS, intervalMs / 2) : duration(args[1], place);
    draft.reload = { intervalMs, jitterMs: Math.min(jitterMs, intervalMs / 2) };
  },
};
