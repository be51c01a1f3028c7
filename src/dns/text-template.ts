// The part of Go's text templates that records of a Corefile are made with: fields, `index`, `printf`, `parseInt`, pipes, `if`.

export type TemplateValue = string | number | boolean | undefined | readonly TemplateValue[] | TemplateMap;

export type TemplateMap = ReadonlyMap<string, TemplateValue>;

/** What a template may name. */
export interface TemplateFields {
  /** `.Name`, `.Group.x`, … */
  readonly fields: TemplateMap;
  /** `.Meta "plugin/label"`. */
  readonly meta: (label: string) => string;
}

/** A template with its parts found; undefined with the part that is not understood. */
export type Template =
  | { readonly kind: 'template'; readonly render: (fields: TemplateFields) => string }
  | { readonly kind: 'unknown'; readonly part: string };

/** A template that cannot be worked out for a question: an index that is not there, text for a number. */
export class TemplateError extends Error {
  readonly code = 'TEMPLATE';
}

type Part = (fields: TemplateFields) => TemplateValue;

class Unknown extends Error {}

/** `known`: the fields that there are, at the top. */
export function parseTemplate(text: string, known: ReadonlySet<string>): Template {
  const pieces = split(text);
  let part = '';
  const block = (inside: boolean): readonly Part[] => {
    const parts: Part[] = [];
    for (let piece = pieces[0]; piece !== undefined; piece = pieces[0]) {
      const { literal, action } = piece;
      if (action === undefined) parts.push(() => literal);
      else if (/^(end|else\b.*)$/s.test(action)) {
        if (inside) return parts;
        throw new Unknown();
      } else if (action.startsWith('if ')) {
        part = action;
        parts.push(condition(action.slice(3)));
        continue;
      } else {
        part = action;
        if (!/^\/\*.*\*\/$/s.test(action)) parts.push(new Pipeline(action, known).parse());
      }
      pieces.shift();
    }
    if (inside) throw new Unknown();
    return parts;
  };
  const condition = (test: string): Part => {
    const holds = new Pipeline(test, known).parse();
    pieces.shift();
    const then = block(true);
    const next = pieces[0]?.action ?? '';
    let otherwise: readonly Part[] = [];
    if (next.startsWith('else if ')) otherwise = [condition(next.slice(8))];
    else {
      pieces.shift();
      if (next === 'else') {
        otherwise = block(true);
        if (pieces.shift()?.action !== 'end') throw new Unknown();
      } else if (next !== 'end') throw new Unknown();
    }
    return (fields) => joined(isTrue(holds(fields)) ? then : otherwise, fields);
  };
  try {
    const parts = block(false);
    return { kind: 'template', render: (fields) => joined(parts, fields) };
  } catch (error) {
    if (error instanceof Unknown) return { kind: 'unknown', part: part === '' ? text : `{{ ${part} }}` };
    throw error;
  }
}

function joined(parts: readonly Part[], fields: TemplateFields): string {
  return parts.map((part) => printed(part(fields))).join('');
}

interface Piece {
  readonly literal: string;
  readonly action?: string;
}

/** Literals and actions in turn; `{{-` and `-}}` take the white space beside them. */
function split(text: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  let trim = false;
  const literal = (end: number, trimEnd: boolean): void => {
    let piece = text.slice(at, end);
    if (trim) piece = piece.trimStart();
    if (trimEnd) piece = piece.trimEnd();
    if (piece !== '') pieces.push({ literal: piece });
  };
  for (const found of text.matchAll(/\{\{(- )?((?:"(?:[^"\\]|\\.)*"|`[^`]*`|[^}"`]|\}(?!\}))*?)( -)?\}\}/g)) {
    const [whole, before, action = '', after] = found;
    literal(found.index, before !== undefined);
    pieces.push({ literal: '', action: action.trim() });
    trim = after !== undefined;
    at = found.index + whole.length;
  }
  literal(text.length, false);
  const open = pieces.find(({ literal: piece }) => piece.includes('{{'))?.literal;
  if (open !== undefined) return [{ literal: '', action: open.slice(open.indexOf('{{') + 2).trim() }];
  return pieces;
}

const TOKEN =
  /\s*(?:("(?:[^"\\]|\\.)*"|`[^`]*`)|(-?[0-9]+(?:\.[0-9]+)?|0x[0-9a-fA-F]+)|(\$?\.[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*|\$|\.)|([A-Za-z]+)|([()|]))/y;

/** One action, as a pipe of commands. */
class Pipeline {
  readonly #tokens: readonly string[];
  readonly #known: ReadonlySet<string>;
  #at = 0;

  constructor(text: string, known: ReadonlySet<string>) {
    const tokens: string[] = [];
    for (let at = 0; text.slice(at).trim() !== ''; at = TOKEN.lastIndex) {
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(text);
      if (!match) throw new Unknown();
      tokens.push(match[0].trim());
    }
    this.#tokens = tokens;
    this.#known = known;
  }

  parse(): Part {
    const part = this.#pipe();
    if (this.#at < this.#tokens.length) throw new Unknown();
    return part;
  }

  #pipe(): Part {
    let part = this.#command(undefined);
    while (this.#tokens[this.#at] === '|') {
      this.#at++;
      part = this.#command(part);
    }
    return part;
  }

  /** `piped` is the last argument. */
  #command(piped: Part | undefined): Part {
    const head = this.#tokens[this.#at] ?? '';
    if (head === '.Meta' || head === '$.Meta') {
      this.#at++;
      const [label] = this.#arguments(piped);
      if (!label) throw new Unknown();
      return (fields) => fields.meta(printed(label(fields)));
    }
    const call = FUNCTIONS.get(head);
    if (call) {
      this.#at++;
      const args = this.#arguments(piped);
      return (fields) => call(args.map((arg) => arg(fields)));
    }
    if (piped) throw new Unknown();
    const [value, ...more] = this.#arguments(undefined);
    if (!value || more.length > 0) throw new Unknown();
    return value;
  }

  #arguments(piped: Part | undefined): readonly Part[] {
    const args: Part[] = [];
    for (;;) {
      const token = this.#tokens[this.#at];
      if (token === undefined || token === '|' || token === ')') break;
      this.#at++;
      args.push(token === '(' ? this.#inner() : this.#operand(token));
    }
    return piped ? [...args, piped] : args;
  }

  #inner(): Part {
    const part = this.#pipe();
    if (this.#tokens[this.#at++] !== ')') throw new Unknown();
    return part;
  }

  #operand(token: string): Part {
    if (token.startsWith('"') || token.startsWith('`')) {
      const text = token.startsWith('`') ? token.slice(1, -1) : token.slice(1, -1).replace(/\\(.)/gs, '$1');
      return () => text;
    }
    if (/^-?[0-9]/.test(token)) return () => Number(token);
    if (token === 'true' || token === 'false') return () => token === 'true';
    const [, ...path] = token.replace(/^\$/, '').split('.');
    const [first] = path;
    if (!/^\$?\./.test(token) || first === undefined || !this.#known.has(first)) throw new Unknown();
    // A map of texts has an empty one for what is not in it; one of anything has nothing.
    const absent = first === 'Group' ? '' : undefined;
    return ({ fields }) =>
      path.reduce<TemplateValue>(
        (value, name) => (value instanceof Map ? (value.get(name) ?? absent) : undefined),
        fields,
      );
  }
}

const FUNCTIONS: ReadonlyMap<string, (args: readonly TemplateValue[]) => TemplateValue> = new Map([
  ['index', ([value, ...keys]: readonly TemplateValue[]) => keys.reduce(indexed, value)],
  ['len', ([value]: readonly TemplateValue[]) => lengthOf(value)],
  ['print', (args: readonly TemplateValue[]) => args.map(printed).join('')],
  ['printf', ([format, ...args]: readonly TemplateValue[]) => formatted(printed(format), args)],
  ['parseInt', ([text, base, bits]: readonly TemplateValue[]) => parsed(printed(text), Number(base), Number(bits))],
  ['eq', ([a, ...others]: readonly TemplateValue[]) => others.some((b) => a === b)],
  ['ne', ([a, b]: readonly TemplateValue[]) => a !== b],
  ['lt', ([a, b]: readonly TemplateValue[]) => compared(a, b) < 0],
  ['le', ([a, b]: readonly TemplateValue[]) => compared(a, b) <= 0],
  ['gt', ([a, b]: readonly TemplateValue[]) => compared(a, b) > 0],
  ['ge', ([a, b]: readonly TemplateValue[]) => compared(a, b) >= 0],
  ['not', ([value]: readonly TemplateValue[]) => !isTrue(value)],
  ['and', (args: readonly TemplateValue[]) => args.find((value) => !isTrue(value)) ?? args.at(-1)],
  ['or', (args: readonly TemplateValue[]) => args.find(isTrue) ?? args.at(-1)],
]);

function isList(value: TemplateValue): value is readonly TemplateValue[] {
  return Array.isArray(value);
}

function indexed(value: TemplateValue, key: TemplateValue): TemplateValue {
  if (value instanceof Map) return value.get(printed(key)) ?? '';
  if (!isList(value) || typeof key !== 'number' || key < 0 || key >= value.length)
    throw new TemplateError(`index: there is nothing at ${printed(key)}`);
  return value[key];
}

function lengthOf(value: TemplateValue): number {
  if (value instanceof Map) return value.size;
  if (isList(value) || typeof value === 'string') return value.length;
  throw new TemplateError('len takes text or a list');
}

/** As Go's ParseUint: within so many bits, or an error. */
function parsed(text: string, base: number, bits: number): number {
  const digits = '0123456789abcdefghijklmnopqrstuvwxyz'.slice(0, base);
  const low = text.toLowerCase();
  const isNumber = low !== '' && low.split('').every((digit) => digits.includes(digit));
  const value = isNumber ? Number.parseInt(low, base) : NaN;
  if (!(value < 2 ** (bits || 64))) throw new TemplateError(`parseInt: "${text}" is no number of ${bits} bits`);
  return value;
}

function compared(a: TemplateValue, b: TemplateValue): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0;
  throw new TemplateError('two numbers or two texts are compared');
}

function isTrue(value: TemplateValue): boolean {
  if (value instanceof Map) return value.size > 0;
  if (isList(value)) return value.length > 0;
  return Boolean(value);
}

function printed(value: TemplateValue): string {
  if (value === undefined) return '<no value>';
  if (isList(value)) return `[${value.map(printed).join(' ')}]`;
  if (typeof value !== 'object') return String(value);
  return `map[${[...value].map(([key, one]) => `${key}:${printed(one)}`).join(' ')}]`;
}

/** The verbs `%s %v %d %x %X %q %%`, with a width. */
function formatted(format: string, args: readonly TemplateValue[]): string {
  let next = 0;
  return format.replace(/%(-?)(0?)([0-9]*)([a-zA-Z%])/g, (whole, left: string, zero: string, width: string, verb) => {
    if (verb === '%') return '%';
    const value = args[next++];
    const text = verbText(String(verb), value);
    if (text === undefined) throw new TemplateError(`printf: ${whole} cannot show ${printed(value)}`);
    const size = Number(width || 0);
    return left ? text.padEnd(size) : text.padStart(size, zero ? '0' : ' ');
  });
}

function verbText(verb: string, value: TemplateValue): string | undefined {
  const isNumber = typeof value === 'number';
  switch (verb) {
    case 's':
    case 'v':
      return printed(value);
    case 'd':
      return isNumber ? String(Math.trunc(value)) : undefined;
    case 'x':
    case 'X': {
      const hex = isNumber ? value.toString(16) : Buffer.from(printed(value), 'utf8').toString('hex');
      return verb === 'X' ? hex.toUpperCase() : hex;
    }
    case 'q':
      return JSON.stringify(printed(value));
    default:
      return undefined;
  }
}
