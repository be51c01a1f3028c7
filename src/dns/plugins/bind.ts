// bind: the addresses that a block listens on.

import { networkAddressesOf } from '../../system/interfaces.ts';
import { parseIp, type Ip } from '../../lib/ip.ts';
import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, unknownOption } from '../corefile/words.ts';

export const bind: PluginDefinition = {
  name: 'bind',
  once: false,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'bind', 1, Infinity);
    const except = new Set<Ip>();
    for (const option of options) {
      if (option.name !== 'except') throw unknownOption('bind', option.name, option.place, ['except']);
      count(option.args, option.place, 'except', 1, Infinity);
      for (const word of option.args) {
        const ip = parseIp(word);
        for (const one of ip ? [ip] : networkAddressesOf(word)) except.add(one);
      }
    }
    const named = args.flatMap((word): readonly Ip[] => {
      const ip = parseIp(word);
      const found = ip ? [ip] : networkAddressesOf(word);
      if (found.length === 0) throw new CorefileError(place, `"${word}" is no address, and no interface with one`);
      return found;
    });
    draft.bind = [...new Set([...(draft.bind ?? []), ...named])].filter((ip) => !except.has(ip));
    if (draft.bind.length === 0) throw new CorefileError(place, 'bind leaves no address to listen on');
  },
};
