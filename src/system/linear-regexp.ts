// Regular expressions of configuration, in time linear in the text: V8's engine for those, so that no pattern and no
// name together can hold a thread.

import { setFlagsFromString } from 'node:v8';

/** Known to V8 once the engine is switched on. */
const LINEAR: string = 'l';

let switchedOn = false;

/**
 * A pattern in Go's (RE2's) spelling. Throws a SyntaxError for what is no pattern, or needs more than linear time
 * (look-around, back references, counts of more than a few).
 */
export function linearRegExp(pattern: string): RegExp {
  if (!switchedOn) setFlagsFromString('--enable-experimental-regexp-engine');
  switchedOn = true;
  // A pattern is matched against lower-case names, so (?i) changes only the pattern.
  const insensitive = pattern.startsWith('(?i)');
  const bare = insensitive ? pattern.slice(4).toLowerCase() : pattern;
  return new RegExp(bare.replaceAll('(?P<', '(?<'), LINEAR);
}
