// chaos: version, host and authors in class CH.

import { hostname } from 'node:os';
import { answered } from '../answers.ts';
import type { PluginDefinition } from '../block.ts';
import type { Handler } from '../handler.ts';
import { nameText } from '../wire/name.ts';
import { txtData } from '../wire/record.ts';
import { CLASS_CH, RR } from '../wire/types.ts';

function chaosHandler(version: string, authors: readonly string[]): Handler {
  return {
    name: 'chaos',
    handle: (asked, next) => {
      const { query } = asked;
      if (query.klass !== CLASS_CH || query.type !== RR.TXT) return next(asked);
      const texts = textsOf(nameText(query.key), version, authors);
      if (!texts) return next(asked);
      const record = (text: string) => ({ owner: undefined, type: RR.TXT, ttl: 0, data: txtData(text.slice(0, 255)) });
      return answered({ answer: texts.map(record) });
    },
  };
}

function textsOf(name: string, version: string, authors: readonly string[]): readonly string[] | undefined {
  switch (name) {
    case 'version.bind.':
    case 'version.server.':
      return [version];
    case 'hostname.bind.':
    case 'id.server.':
      return [hostname()];
    case 'authors.bind.':
      return authors;
    default:
      return undefined;
  }
}

export const chaos: PluginDefinition = {
  name: 'chaos',
  once: false,
  setup: ({ args }, draft) => {
    const [version = 'fairlead', ...authors] = args;
    draft.otherClasses = true;
    draft.answer('chaos', () => chaosHandler(version, authors));
  },
};
