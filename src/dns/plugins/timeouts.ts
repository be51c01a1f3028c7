// timeouts: how long connections may be silent, and how many queries one may bring.

import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, duration, integer, unknownOption } from '../corefile/words.ts';

const SHORTEST_MS = 1000;
const LONGEST_MS = 86_400_000;

export const timeouts: PluginDefinition = {
  name: 'timeouts',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'timeouts', 0);
    if (options.length === 0)
      throw new CorefileError(place, 'timeouts needs a line: read, write, idle or maxtcpqueries');
    const read: { readMs?: number; writeMs?: number; idleMs?: number; maxQueries?: number } = {};
    for (const { name, args: words, place: at } of options) {
      count(words, at, name, 1);
      const [word = ''] = words;
      if (name === 'maxtcpqueries') {
        if (word !== '-1') read.maxQueries = integer(word, at, name, 1, 1_000_000_000);
        continue;
      }
      if (name !== 'read' && name !== 'write' && name !== 'idle')
        throw unknownOption('timeouts', name, at, ['read', 'write', 'idle', 'maxtcpqueries']);
      // A bare number is seconds.
      const ms = duration(/^[0-9]+$/.test(word) ? `${word}s` : word, at);
      if (ms < SHORTEST_MS || ms > LONGEST_MS) throw new CorefileError(at, `${name} is from 1s to 24h, not ${word}`);
      read[`${name}Ms`] = ms;
    }
    draft.timeouts = read;
  },
};
