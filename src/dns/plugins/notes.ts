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
  setup: ({ place }, draft) =>
    draft.doors.warn(
      `${place.file}:${place.line}: metadata has no effect: the fields that it feeds ({/…} of log, .Meta of template) are not built`,
    ),
};
