// pprof: profiles of Go's runtime, of which there is none here; refused with what there is in its place.

import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';

export const pprof: PluginDefinition = {
  name: 'pprof',
  once: true,
  setup: ({ place }) => {
    throw new CorefileError(
      place,
      "pprof: there is no Go runtime to profile; remove it, and start with NODE_OPTIONS='--cpu-prof --heap-prof' for profiles of this program",
    );
  },
};
