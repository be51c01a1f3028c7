// prometheus: `/metrics`.

import type { PluginDefinition } from '../block.ts';
import { httpAddress } from '../corefile/http-address.ts';
import { count, notBuilt } from '../corefile/words.ts';

export const prometheus: PluginDefinition = {
  name: 'prometheus',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'prometheus', 0, 1);
    for (const option of options) throw notBuilt('prometheus', `"${option.name}"`, option.place);
    draft.prometheus.push(httpAddress(args[0] ?? 'localhost:9153', place));
  },
};
