// health: `/health`, and how long to go on answering after SIGTERM.

import type { PluginDefinition } from '../block.ts';
import { httpAddress } from '../corefile/http-address.ts';
import { count, duration, unknownOption } from '../corefile/words.ts';

export const health: PluginDefinition = {
  name: 'health',
  once: false,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'health', 0, 1);
    let lameduckMs = 0;
    for (const option of options) {
      if (option.name !== 'lameduck') throw unknownOption('health', option.name, option.place, ['lameduck']);
      count(option.args, option.place, 'lameduck', 1);
      lameduckMs = duration(option.args[0] ?? '', option.place);
    }
    draft.health.push({ address: httpAddress(args[0] ?? ':8080', place), lameduckMs });
  },
};
