// ready: `/ready`, 200 once the cluster's names are answered.

import type { PluginDefinition } from '../block.ts';
import { httpAddress } from '../corefile/http-address.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, unknownOption } from '../corefile/words.ts';

export const ready: PluginDefinition = {
  name: 'ready',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'ready', 0, 1);
    for (const option of options) {
      if (option.name !== 'monitor') throw unknownOption('ready', option.name, option.place, ['monitor']);
      count(option.args, option.place, 'monitor', 1);
      // The two say the same here: once read, the zone is answered for ever, so ready is never taken back.
      if (option.args[0] !== 'until-ready' && option.args[0] !== 'continuously')
        throw new CorefileError(option.place, 'monitor is until-ready or continuously');
    }
    draft.ready.push(httpAddress(args[0] ?? ':8181', place));
  },
};
