// multisocket: sockets that share a port, each with a thread that answers.

import type { PluginDefinition } from '../block.ts';
import { count, integer } from '../corefile/words.ts';

const MOST_SOCKETS = 1024;

export const multisocket: PluginDefinition = {
  name: 'multisocket',
  once: true,
  setup: ({ args, place }, draft) => {
    count(args, place, 'multisocket', 0, 1);
    draft.sockets = args[0] === undefined ? 'cpus' : integer(args[0], place, 'multisocket', 1, MOST_SOCKETS);
  },
};
