// A master file as entries (RFC 1035 section 5.1): one record or directive each, whatever lines it spans.

import type { Word } from '../record-text.ts';

export interface Entry {
  /** From 1: where it begins. */
  readonly line: number;
  /** It begins with white space: its owner is that of the entry before. */
  readonly sameOwner: boolean;
  readonly words: readonly Word[];
}

export type Scanned =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | { readonly kind: 'mistake'; readonly line: number; readonly what: string };

/** Parentheses join lines, `;` begins a comment, quotes hold white space, and a backslash takes the next character as it is. */
export function scanZoneFile(text: string): Scanned {
  const entries: Entry[] = [];
  let words: Word[] = [];
  let sameOwner = false;
  let began = 1;
  let line = 1;
  let depth = 0;
  const finish = (): void => {
    if (words.length > 0) entries.push({ line: began, sameOwner, words });
    words = [];
  };
  for (let i = 0; i < text.length;) {
    const char = text.charAt(i);
    if (char === '\n') {
      line++;
      i++;
      if (depth === 0) finish();
    } else if (char === ' ' || char === '\t' || char === '\r') {
      if (words.length === 0 && depth === 0 && (i === 0 || text.charAt(i - 1) === '\n')) sameOwner = true;
      i++;
    } else if (char === ';') {
      while (i < text.length && text.charAt(i) !== '\n') i++;
    } else if (char === '(' || char === ')') {
      depth += char === '(' ? 1 : -1;
      if (depth < 0) return { kind: 'mistake', line, what: 'there is a ) without a ( before it' };
      i++;
    } else {
      if (words.length === 0) {
        began = line;
        if (i === 0 || text.charAt(i - 1) === '\n') sameOwner = false;
      }
      const end = char === '"' ? quotedEnd(text, i + 1) : bareEnd(text, i);
      if (end < 0) return { kind: 'mistake', line, what: 'a quote is not closed' };
      const word = char === '"' ? text.slice(i + 1, end) : text.slice(i, end);
      words.push({ text: word, quoted: char === '"' });
      line += word.split('\n').length - 1;
      i = char === '"' ? end + 1 : end;
    }
  }
  if (depth > 0) return { kind: 'mistake', line: began, what: 'a ( is not closed' };
  finish();
  return { kind: 'entries', entries };
}

/** Where the quote that closes stands, or -1. */
function quotedEnd(text: string, start: number): number {
  for (let i = start; i < text.length; i++) {
    if (text.charAt(i) === '\\') i++;
    else if (text.charAt(i) === '"') return i;
  }
  return -1;
}

function bareEnd(text: string, start: number): number {
  let i = start;
  while (i < text.length && !/[\s;()"]/.test(text.charAt(i))) i += text.charAt(i) === '\\' ? 2 : 1;
  return Math.min(i, text.length);
}
