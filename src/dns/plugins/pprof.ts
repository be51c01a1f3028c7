// pprof: profiles over HTTP. There is no Go runtime here: they are V8's, at the same paths.

import type { PluginDefinition } from '../block.ts';
import { httpAddress } from '../corefile/http-address.ts';
import { count, integer, unknownOption } from '../corefile/words.ts';

export const pprof: PluginDefinition = {
  name: 'pprof',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'pprof', 0, 1);
    for (const { name, args: words, place: at } of options) {
      if (name !== 'block') throw unknownOption('pprof', name, at, ['block']);
      count(words, at, name, 0, 1);
      if (words[0] !== undefined) integer(words[0], at, "block's rate", 0, 2_147_483_647);
      draft.doors.warn(`${at.file}:${at.line}: pprof: block has no effect, there are no goroutines here to wait`);
    }
    draft.pprof.push(httpAddress(args[0] ?? 'localhost:6053', place));
  },
};
