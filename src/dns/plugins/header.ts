// header: bits of the header set or cleared in replies.

import type { HeaderRule, PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { changed, type Asked, type Handler } from '../handler.ts';
import { FLAG } from '../wire/types.ts';

const BITS: ReadonlyMap<string, number> = new Map([
  ['aa', FLAG.AA],
  ['ra', FLAG.RA],
  ['rd', FLAG.RD],
]);

/** Plugins behind it see the question with these bits; the reply repeats those that were asked. */
function queryHandler({ set, clear }: HeaderRule): Handler {
  return {
    name: 'header',
    handle: (asked, next) => {
      const flags = (asked.query.flags | set) & ~clear & 0xffff;
      const inner: Asked = { ...asked, query: { ...asked.query, flags } };
      return changed(next(inner), (outcome) => {
        asked.by = inner.by;
        return outcome;
      });
    },
  };
}

export const header: PluginDefinition = {
  name: 'header',
  once: false,
  setup: ({ args, options, place }, draft) => {
    if (args.length > 0) throw new CorefileError(place, 'header takes its rules in braces');
    if (options.length === 0) throw new CorefileError(place, 'header needs lines such as: response set ra');
    let { set, clear } = draft.header ?? { set: 0, clear: 0 };
    const query = { set: 0, clear: 0 };
    for (const option of options) {
      const ofQuery = option.name === 'query';
      // Before 1.13 a rule stood without its selector.
      const [action, ...names] = option.name === 'response' || ofQuery ? option.args : [option.name, ...option.args];
      if ((action !== 'set' && action !== 'clear') || names.length === 0)
        throw new CorefileError(option.place, 'header takes lines such as: response set ra, response clear rd');
      for (const name of names) {
        const bit = BITS.get(name.toLowerCase());
        if (bit === undefined) throw new CorefileError(option.place, `"${name}" is none of aa, ra, rd`);
        if (ofQuery) {
          if (action === 'set') query.set |= bit;
          else query.clear |= bit;
        } else if (action === 'set') set |= bit;
        else clear |= bit;
      }
    }
    draft.header = { set, clear };
    if (query.set || query.clear) draft.answer('header', () => queryHandler(query));
  },
};
