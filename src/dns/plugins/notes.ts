// Plugins that change nothing here, and say so: what they switch on elsewhere is always there, or never.

import type { PluginDefinition } from '../block.ts';

export const debug: PluginDefinition = {
  name: 'debug',
  once: false,
  setup: ({ place }, draft) => draft.doors.warn(`${place.file}:${place.line}: debug has no effect; give the flag -v 4`),
};

export const metadata: PluginDefinition = {
  name: 'metadata',
  once: false,
  // It feeds the fields {/…} of log and .Meta of template, both of which are refused by name.
  setup: () => {},
};
