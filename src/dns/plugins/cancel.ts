// cancel: how long a query may take.

import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, duration } from '../corefile/words.ts';

const DEFAULT_MS = 5001;

export const cancel: PluginDefinition = {
  name: 'cancel',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'cancel', 0, 1);
    draft.deadlineMs = args[0] === undefined ? DEFAULT_MS : duration(args[0], place);
    if (draft.deadlineMs <= 0) throw new CorefileError(place, 'the deadline of cancel is longer than nothing');
  },
};
