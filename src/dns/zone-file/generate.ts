// `$GENERATE` of master files (as BIND has it): one line that stands for many records.

import type { Word } from '../record-text.ts';

export type Generated =
  | { readonly kind: 'lines'; readonly lines: readonly (readonly Word[])[] }
  | { readonly kind: 'mistake'; readonly what: string };

/** More are better written to a file. */
const MOST_LINES = 65_536;
const MOST_NUMBER = 0x7fffffff;

/** `START-STOP[/STEP] OWNER [TTL] [CLASS] TYPE DATA`: the words of each record, numbers put in for `$`. */
export function generate([range, ...words]: readonly Word[]): Generated {
  const mistake = (what: string): Generated => ({ kind: 'mistake', what: `$GENERATE: ${what}` });
  const [, startText, stopText, stepText = '1'] =
    /^([0-9]{1,10})-([0-9]{1,10})(?:\/([0-9]{1,10}))?$/.exec(range?.text ?? '') ?? [];
  const [start, stop, step] = [Number(startText), Number(stopText), Number(stepText)];
  if (!(start <= stop && stop <= MOST_NUMBER && step >= 1))
    return mistake(`START-STOP or START-STOP/STEP was expected, not "${range?.text ?? ''}"`);
  if (words.length < 3) return mistake('a name, a type and data were expected behind the range');
  if ((stop - start) / step >= MOST_LINES) return mistake(`it makes more than ${MOST_LINES} records`);
  const lines: (readonly Word[])[] = [];
  for (let number = start; number <= stop; number += step) {
    const line: Word[] = [];
    for (const word of words) {
      const text = numbered(word.text, number);
      if (text === undefined)
        return mistake(`"${word.text}" has a number that is none: \${OFFSET,WIDTH,d|o|x|X} was expected`);
      line.push({ ...word, text });
    }
    lines.push(line);
  }
  return { kind: 'lines', lines };
}

/** `$` is the number, `${offset,width,base}` one that is shifted and filled up with zeros, `$$` and `\$` a dollar sign. */
function numbered(text: string, number: number): string | undefined {
  let isWrong = false;
  const out = text.replace(/\\.|\$\$|\$\{([^}]*)\}|\$/gs, (found, modifier: string | undefined) => {
    if (found === '$$' || found === '\\$') return '$';
    if (found.startsWith('\\')) return found;
    if (modifier === undefined) return found === '$' ? String(number) : found;
    const shown = shifted(modifier, number);
    isWrong ||= shown === undefined;
    return shown ?? '';
  });
  return isWrong ? undefined : out;
}

const BASES = { d: 10, o: 8, x: 16, X: 16 };

function shifted(modifier: string, number: number): string | undefined {
  const [, offset, width = '0', base = 'd'] =
    /^([+-]?[0-9]{1,10})(?:,([0-9]{1,3})(?:,([doxX]))?)?$/.exec(modifier) ?? [];
  const value = number + Number(offset);
  if (offset === undefined || value < 0 || value > MOST_NUMBER || Number(width) > 255) return undefined;
  const digits = value.toString(BASES[base as keyof typeof BASES]).padStart(Number(width), '0');
  return base === 'X' ? digits.toUpperCase() : digits;
}
