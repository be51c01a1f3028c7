// prometheus: `/metrics`.

import type { PluginDefinition } from '../block.ts';
import { httpAddress } from '../corefile/http-address.ts';
import { count, notBuilt } from '../corefile/words.ts';

export const prometheus: PluginDefinition = {
  name: 'prometheus',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'prometheus', 0, 1);
    for (const { name, place: at } of options) {
      if (name !== 'runtime_metrics') throw notBuilt('prometheus', `"${name}"`, at);
      draft.doors.warn(
        `${at.file}:${at.line}: prometheus: runtime_metrics has no effect, there is no Go runtime; process_* and nodejs_* are always shown`,
      );
    }
    draft.prometheus.push(httpAddress(args[0] ?? 'localhost:9153', place));
  },
};
