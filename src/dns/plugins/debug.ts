// debug: what a block would log at verbosity 4 is logged whatever the verbosity.

import type { PluginDefinition } from '../block.ts';
import { count } from '../corefile/words.ts';

export const debug: PluginDefinition = {
  name: 'debug',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'debug', 0);
    draft.debugs = true;
  },
};
