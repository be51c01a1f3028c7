// loadbalance: addresses take turns in front.

import type { PluginDefinition } from '../block.ts';
import { notBuilt } from '../corefile/words.ts';

export const loadbalance: PluginDefinition = {
  name: 'loadbalance',
  once: false,
  setup: ({ args, options, place }, draft) => {
    const [policy = 'round_robin'] = args;
    if (policy !== 'round_robin' || args.length > 1) throw notBuilt('loadbalance', `"${args.join(' ')}"`, place);
    for (const option of options) throw notBuilt('loadbalance', `"${option.name}"`, option.place);
    draft.loadBalanced = true;
  },
};
