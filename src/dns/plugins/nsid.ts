// nsid: the server's name for those who ask for it (RFC 5001).

import { hostname } from 'node:os';
import type { PluginDefinition } from '../block.ts';

export const nsid: PluginDefinition = {
  name: 'nsid',
  once: true,
  setup: ({ args }, draft) => {
    draft.nsid = args.length > 0 ? args.join(' ') : hostname();
  },
};
