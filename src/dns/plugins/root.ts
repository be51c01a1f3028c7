// root: the folder that files named in the block are in.

import type { PluginDefinition } from '../block.ts';
import { count } from '../corefile/words.ts';

export const root: PluginDefinition = {
  name: 'root',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'root', 1);
    draft.root = draft.doors.pathOf(args[0] ?? '', place);
  },
};
