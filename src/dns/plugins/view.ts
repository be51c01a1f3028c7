// view: which questions of its zones a server block is for.

import type { PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, unknownOption } from '../corefile/words.ts';
import { compileExpression } from '../expression.ts';
import { ExpressionError } from '../expression-value.ts';
import type { Asked } from '../handler.ts';
import { QUERY_FUNCTIONS } from '../query-expression.ts';

export const view: PluginDefinition = {
  name: 'view',
  once: true,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'view', 1);
    const tests = options.map((option) => {
      if (option.name !== 'expr') throw unknownOption('view', option.name, option.place, ['expr']);
      const text = option.args.join(' ');
      const compiled = compileExpression(text, QUERY_FUNCTIONS);
      if (compiled.kind === 'mistake') throw new CorefileError(option.place, `expr ${text}: ${compiled.what}`);
      return compiled.evaluate;
    });
    draft.view = { name: args[0] ?? '', fits: (asked) => tests.every((test) => isTrue(test, asked)) };
  },
};

/** An expression that cannot be worked out for a question does not fit it. */
function isTrue(test: (asked: Asked) => unknown, asked: Asked): boolean {
  try {
    return test(asked) === true;
  } catch (error) {
    if (error instanceof ExpressionError) return false;
    throw error;
  }
}
