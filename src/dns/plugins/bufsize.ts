// bufsize: an upper bound of the size that clients may ask for over UDP.

import type { PluginDefinition } from '../block.ts';
import { count, integer } from '../corefile/words.ts';

const DEFAULT_SIZE = 1232;

export const bufsize: PluginDefinition = {
  name: 'bufsize',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'bufsize', 0, 1);
    draft.bufsize = args[0] === undefined ? DEFAULT_SIZE : integer(args[0], place, 'bufsize', 512, 4096);
  },
};
