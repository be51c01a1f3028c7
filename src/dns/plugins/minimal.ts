// minimal: positive answers without their other sections.

import type { PluginDefinition } from '../block.ts';
import { count } from '../corefile/words.ts';
import { changed, messageOf, replyOf, type Asked, type Handler, type Outcome } from '../handler.ts';
import { RCODE } from '../wire/types.ts';

const handler: Handler = {
  name: 'minimal',
  byQuestion: true,
  handle: (asked, next) => changed(next(asked), (outcome) => minimized(asked, outcome)),
};

function minimized(asked: Asked, outcome: Outcome): Outcome {
  // Wire-ready addresses have one section already.
  if (outcome.kind === 'reply' && outcome.reply.kind === 'addresses') return outcome;
  const message = messageOf(asked, outcome);
  if (!message || message.rcode !== RCODE.NOERROR || message.answer.length === 0) return outcome;
  return { kind: 'reply', reply: replyOf({ ...message, authority: [], additional: [] }) };
}

export const minimal: PluginDefinition = {
  name: 'minimal',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'minimal', 0);
    draft.answer('minimal', () => handler);
  },
};
