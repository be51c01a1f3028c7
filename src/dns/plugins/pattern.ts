// The patterns of `rewrite` and `template`: Go's (RE2's) spelling, matched in linear time whatever the name.

import { compileRegex, type LinearRegex } from '../../lib/linear-regex.ts';
import { CorefileError, type Place } from '../corefile/error.ts';

/** Throws a CorefileError at the place for what is no pattern, or cannot be matched in linear time. Names are in lower case. */
export function compilePattern(plugin: string, pattern: string, place: Place): LinearRegex {
  const compiled = compileRegex(pattern, { ignoreCase: false, anchored: false });
  if (compiled.kind === 'regex') return compiled.regex;
  throw new CorefileError(place, `${plugin}: ${pattern} is no pattern that can be used: ${compiled.reason}`);
}
