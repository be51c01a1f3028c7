// errors: failures of plugins in the log, as `RCODE name type: why`; many of one kind as one line.

import type { LinearRegex } from '../../lib/linear-regex.ts';
import type { LogLevel } from '../../observe/log.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, unknownOption } from '../corefile/words.ts';
import { compilePattern } from './pattern.ts';

/** Errors that match are counted for a while, and told as one. */
interface Consolidation {
  readonly periodMs: number;
  readonly text: string;
  readonly pattern: LinearRegex;
  readonly level: LogLevel;
  readonly showFirst: boolean;
}

const LEVELS: ReadonlyMap<string, LogLevel> = new Map([
  ['error', 'error'],
  ['warning', 'warn'],
  ['info', 'info'],
  ['debug', 'debug'],
]);
const MOST_PATTERN = 10_000;

export const errors: PluginDefinition = {
  name: 'errors',
  once: true,
  setup: ({ args, options, place }, draft) => {
    // `errors stdout` was written once, and nothing else can be meant.
    if (args.length > 1 || (args.length === 1 && args[0] !== 'stdout')) count(args, place, 'errors', 0);
    const consolidations: Consolidation[] = [];
    for (const option of options) {
      if (option.name === 'consolidate') consolidations.push(consolidationOf(option));
      // The stack of an error is in the log in any case.
      else if (option.name === 'stacktrace') count(option.args, option.place, 'stacktrace', 0);
      else throw unknownOption('errors', option.name, option.place, ['consolidate', 'stacktrace']);
    }
    draft.errorLog = (services) => errorLog(consolidations, services);
  },
};

function consolidationOf({ args, place }: Option): Consolidation {
  count(args, place, 'consolidate', 2, 4);
  const [period = '', text = '', ...rest] = args;
  if (text.length > MOST_PATTERN) throw new CorefileError(place, `a pattern has ${MOST_PATTERN} characters at most`);
  const [first, second] = rest;
  const level = first === undefined || first === 'show_first' ? undefined : LEVELS.get(first);
  const showFirst = first === 'show_first' || second === 'show_first';
  const isKnown =
    (level !== undefined || first === undefined || first === 'show_first') &&
    (second === undefined || (level !== undefined && second === 'show_first'));
  if (!isKnown)
    throw new CorefileError(place, 'consolidate takes DURATION REGEXP [error|warning|info|debug] [show_first]');
  const pattern = compilePattern('errors', text, place);
  return { periodMs: duration(period, place), text, pattern, level: level ?? 'error', showFirst };
}

/** Takes `RCODE name type: why`, whose last part the patterns are held against. */
function errorLog(consolidations: readonly Consolidation[], { log, clock, stopped }: BlockServices) {
  const counts = new Map<Consolidation, number>();
  const settle = (one: Consolidation): void => {
    const seen = counts.get(one) ?? 0;
    counts.delete(one);
    if (seen > 1 || (seen === 1 && !one.showFirst))
      log[one.level](`${seen} errors like '${one.text}' occurred in last ${one.periodMs / 1000}s`);
  };
  return (head: string, why: string): void => {
    const one = consolidations.find(({ pattern }) => pattern.exec(why) !== undefined);
    if (!one) {
      log.error(`${head}: ${why}`);
      return;
    }
    const seen = (counts.get(one) ?? 0) + 1;
    counts.set(one, seen);
    if (seen > 1) return;
    if (one.showFirst) log[one.level](`${head}: ${why}`);
    void clock.sleep(one.periodMs, stopped).then(() => settle(one));
  };
}
