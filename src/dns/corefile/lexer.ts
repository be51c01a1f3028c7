// A Corefile as tokens: words between white space, or between double quotes.

import type { Place } from './error.ts';

export interface Token extends Place {
  readonly text: string;
  /** The first of its line; what comes in by `import` begins a line too. */
  readonly first: boolean;
}

/**
 * The rules of the Caddy file format: quotes count only where a token begins, `\"` is the only escape in them, and `#`
 * begins a comment anywhere outside quotes, inside a word too. `{$NAME}` and `{%NAME%}` are replaced by the
 * environment's values, empty when there is none.
 */
export function tokensOf(text: string, file: string, env: (name: string) => string | undefined): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let lastLine = 0;
  let word = '';
  let began = 0;
  let inWord = false;
  let quoted = false;
  const push = (): void => {
    tokens.push({ text: withEnvironment(word, env), file, line: began, first: began !== lastLine });
    // A token may span lines in quotes: what follows on its last line is not the first there.
    lastLine = line;
    word = '';
    inWord = false;
    quoted = false;
  };
  const source = text.replace(/^\uFEFF/, '').replaceAll('\r', '');
  for (let i = 0; i < source.length; i++) {
    const char = source.charAt(i);
    if (quoted) {
      if (char === '\\' && source.charAt(i + 1) === '"') {
        word += '"';
        i++;
      } else if (char === '"') {
        push();
      } else {
        word += char;
        if (char === '\n') line++;
      }
    } else if (char === '#') {
      if (inWord) push();
      while (i + 1 < source.length && source.charAt(i + 1) !== '\n') i++;
    } else if (/\s/u.test(char)) {
      if (inWord) push();
      if (char === '\n') line++;
    } else if (!inWord) {
      inWord = true;
      began = line;
      quoted = char === '"';
      word = quoted ? '' : char;
    } else {
      word += char;
    }
  }
  if (inWord) push();
  return tokens;
}

function withEnvironment(word: string, env: (name: string) => string | undefined): string {
  return word.replace(/\{\$([^}]*)\}|\{%([^}]*?)%\}/g, (_, unix?: string, windows?: string) => {
    return env(unix ?? windows ?? '') ?? '';
  });
}
