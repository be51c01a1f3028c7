// any: ANY is answered with one small record (RFC 8482).

import { answered } from '../answers.ts';
import type { PluginDefinition } from '../block.ts';
import { count } from '../corefile/words.ts';
import type { Handler } from '../handler.ts';
import { txtData } from '../wire/record.ts';
import { RR } from '../wire/types.ts';

const TTL = 8482;

const handler: Handler = {
  name: 'any',
  byQuestion: true,
  handle: (asked, next) => {
    if (asked.query.type !== RR.ANY) return next(asked);
    const data = txtData('ANY obsoleted') + txtData('See RFC 8482');
    return answered({ answer: [{ owner: undefined, type: RR.HINFO, ttl: TTL, data }] });
  },
};

export const any: PluginDefinition = {
  name: 'any',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'any', 0);
    draft.answer('any', () => handler);
  },
};
