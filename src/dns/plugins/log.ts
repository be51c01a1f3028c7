// log: a line for each query.

import { ROOT } from '../wire/name.ts';
import type { PluginDefinition, QueryLog } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, unknownOption, zones } from '../corefile/words.ts';
import { unknownField } from '../query-log.ts';

const COMMON =
  '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}';
const COMBINED = `${COMMON} "{>opcode}"`;
const ALL = ['success', 'denial', 'error'] as const;

export const log: PluginDefinition = {
  name: 'log',
  once: false,
  setup: ({ args, options, place }, draft) => {
    const formatAt = args.findIndex((word) => word.includes('{'));
    const names = formatAt < 0 ? args : args.slice(0, formatAt);
    const text = formatAt < 0 ? '{common}' : args.slice(formatAt).join(' ');
    const format = text.replaceAll('{common}', COMMON).replaceAll('{combined}', COMBINED);
    const unknown = unknownField(format);
    if (unknown !== undefined)
      draft.doors.warn(
        `${place.file}:${place.line}: log: there is no field ${unknown}; it is logged as it stands there`,
      );
    const classes = new Set<'success' | 'denial' | 'error'>();
    for (const option of options) {
      if (option.name !== 'class') throw unknownOption('log', option.name, option.place, ['class']);
      count(option.args, option.place, 'class', 1, Infinity);
      for (const word of option.args) {
        const known = ALL.find((one) => one === word);
        if (word === 'all') for (const one of ALL) classes.add(one);
        else if (known) classes.add(known);
        else throw new CorefileError(option.place, `"${word}" is none of all, success, denial, error`);
      }
    }
    const line: QueryLog = {
      zones: zones(names, place, [ROOT]),
      classes: classes.size > 0 ? classes : new Set(ALL),
      format,
    };
    draft.queryLogs.push(line);
  },
};
