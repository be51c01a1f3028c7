// Names that a rule of `rewrite` is for, and what they become: exact, prefix, suffix, substring or regex.

import type { LinearRegex } from '../lib/linear-regex.ts';

/** A name in text, in lower case with its final dot → another one; undefined when the rule does not fit. */
export type Rename = (name: string) => string | undefined;

export type Match = 'exact' | 'prefix' | 'suffix' | 'substring' | 'regex';

const MATCHES: ReadonlySet<string> = new Set(['exact', 'prefix', 'suffix', 'substring', 'regex']);

export function isMatch(word: string): word is Match {
  return MATCHES.has(word);
}

/** `to` is undefined for rules that only ask whether a name fits. */
export function renamer(match: Exclude<Match, 'regex'>, from: string, to = ''): Rename {
  const low = from.toLowerCase();
  switch (match) {
    case 'exact': {
      const whole = withDot(low);
      return (name) => (name === whole ? to : undefined);
    }
    case 'prefix':
      return (name) => (name.startsWith(low) ? to + name.slice(low.length) : undefined);
    case 'suffix': {
      const [end, put] = [withDot(low), withDot(to)];
      return (name) => (name.endsWith(end) ? name.slice(0, -end.length) + put : undefined);
    }
    case 'substring':
      return (name) => (name.includes(low) ? name.replaceAll(low, to) : undefined);
  }
}

/** `{1}` in `to` stands for the first group, `{0}` for the whole match; `to` is the whole new name. */
export function regexRenamer(pattern: LinearRegex, to: string): Rename {
  return (name) => {
    const found = pattern.exec(name);
    return found ? to.replace(/\{([0-9]+)\}/g, (_, group: string) => found[Number(group)] ?? '') : undefined;
  };
}

/** The highest group that a replacement names; 0 for none. */
export function highestGroup(to: string): number {
  return Math.max(0, ...[...to.matchAll(/\{([0-9]+)\}/g)].map(([, group]) => Number(group)));
}

/** Undoes the renaming of one name, and of the names below it. */
export function backRenamer(from: string, to: string): Rename {
  return (name) => {
    if (name === to) return from;
    return name.endsWith(`.${to}`) ? name.slice(0, -to.length) + from : undefined;
  };
}

function withDot(name: string): string {
  return name.endsWith('.') ? name : `${name}.`;
}
