// errors: failures of plugins in the log, as `RCODE name type: why`.

import type { PluginDefinition } from '../block.ts';
import { count, notBuilt, unknownOption } from '../corefile/words.ts';

export const errors: PluginDefinition = {
  name: 'errors',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'errors', 0);
    for (const option of options) {
      if (option.name === 'consolidate' || option.name === 'stacktrace')
        throw notBuilt('errors', `"${option.name}"`, option.place);
      throw unknownOption('errors', option.name, option.place, []);
    }
    draft.logsErrors = true;
  },
};
