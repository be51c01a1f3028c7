// The options of an OPT record (RFC 6891 section 6.1.2), as `rewrite edns0` changes them and forward hands them on.

import { uint16 } from './wire/record.ts';

export interface EdnsOption {
  readonly code: number;
  /** One character a byte. */
  readonly data: string;
}

/** Of the OPT record's data; what does not fit is left off. */
export function readOptions(data: string): readonly EdnsOption[] {
  const options: EdnsOption[] = [];
  const word = (at: number): number => (data.charCodeAt(at) << 8) | data.charCodeAt(at + 1);
  for (let at = 0; at + 4 <= data.length; at += 4 + word(at + 2))
    options.push({ code: word(at), data: data.slice(at + 4, at + 4 + word(at + 2)) });
  return options;
}

export function writeOptions(options: readonly EdnsOption[]): string {
  return options.map(({ code, data }) => uint16(code) + uint16(data.length) + data).join('');
}

export type OptionAction = 'set' | 'append' | 'replace' | 'unset';

/**
 * The options after the action; undefined when it has nothing to do: `replace` without such an option. `append` adds one more, `set`
 * replaces the one that is there and adds it otherwise.
 */
export function changeOptions(
  options: readonly EdnsOption[],
  action: OptionAction,
  option: EdnsOption,
): readonly EdnsOption[] | undefined {
  const at = options.findIndex(({ code }) => code === option.code);
  switch (action) {
    case 'unset':
      return options.filter(({ code }) => code !== option.code);
    case 'append':
      return [...options, option];
    case 'set':
      return at < 0 ? [...options, option] : options.with(at, option);
    case 'replace':
      return at < 0 ? undefined : options.with(at, option);
  }
}
