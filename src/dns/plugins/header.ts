// header: bits of the header set or cleared in replies.

import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { notBuilt } from '../corefile/words.ts';
import { FLAG } from '../wire/types.ts';

const BITS: ReadonlyMap<string, number> = new Map([
  ['aa', FLAG.AA],
  ['ra', FLAG.RA],
  ['rd', FLAG.RD],
]);

export const header: PluginDefinition = {
  name: 'header',
  once: false,
  setup: ({ args, options, place }, draft) => {
    if (args.length > 0) throw new CorefileError(place, 'header takes its rules in braces');
    let { set, clear } = draft.header ?? { set: 0, clear: 0 };
    for (const option of options) {
      if (option.name === 'query') throw notBuilt('header', '"query"', option.place);
      // Before 1.13 a rule stood without its selector.
      const [action, ...names] = option.name === 'response' ? option.args : [option.name, ...option.args];
      if ((action !== 'set' && action !== 'clear') || names.length === 0)
        throw new CorefileError(option.place, 'header takes lines such as: response set ra, response clear rd');
      for (const name of names) {
        const bit = BITS.get(name.toLowerCase());
        if (bit === undefined) throw new CorefileError(option.place, `"${name}" is none of aa, ra, rd`);
        if (action === 'set') set |= bit;
        else clear |= bit;
      }
    }
    draft.header = { set, clear };
  },
};
