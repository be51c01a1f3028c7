// configuration-snippet and server-snippet as a closed set of directives: nginx' syntax is read into typed values, and a word that is not
// known refuses the whole. Nothing of the text is ever run or pasted.

import { cidrOfIp, parseCidr, type Cidr } from '../../lib/cidr.ts';
import { parseIp } from '../../lib/ip.ts';
import { compileRegex, type LinearRegex } from '../../lib/linear-regex.ts';
import { isFieldName } from './reader.ts';
import { parseTemplate, type Template } from './template.ts';

export type Directive =
  | {
      readonly kind: 'answer-field';
      readonly name: string;
      readonly value: Template;
      /** `success`: with an answer that is none of an error (add_header without always); or with these statuses alone. */
      readonly when: 'always' | 'success' | readonly number[];
      readonly replaces: boolean;
    }
  /** In lower case; a star at its end stands for any rest. */
  | { readonly kind: 'drop-answer-field'; readonly name: string }
  | { readonly kind: 'drop-request-field'; readonly name: string }
  | {
      readonly kind: 'request-field';
      readonly name: string;
      readonly value: Template;
      /** Only in the place of one that the client sends. */
      readonly onlyGiven: boolean;
    }
  | { readonly kind: 'set'; readonly variable: string; readonly value: Template }
  | { readonly kind: 'return'; readonly status: number; readonly text: Template | undefined }
  | {
      readonly kind: 'rewrite';
      readonly regex: LinearRegex;
      readonly target: string;
      readonly redirect: 301 | 302 | undefined;
    }
  | { readonly kind: 'access'; readonly allow: boolean; readonly range: Cidr | 'all' }
  | { readonly kind: 'expires'; readonly seconds: number | 'max' | 'epoch' }
  | { readonly kind: 'if'; readonly condition: Condition; readonly block: readonly Directive[] };

export type Condition =
  | { readonly kind: 'given'; readonly value: Template }
  | { readonly kind: 'start'; readonly value: Template; readonly text: string }
  | { readonly kind: 'equal'; readonly value: Template; readonly text: string; readonly not: boolean }
  | { readonly kind: 'match'; readonly value: Template; readonly regex: LinearRegex; readonly not: boolean };

export type ParsedSnippet =
  | { readonly kind: 'directives'; readonly directives: readonly Directive[] }
  | { readonly kind: 'refused'; readonly reason: string };

class Refused extends Error {}

/** Bounds on what one annotation can make every request cost. */
const MAX_LENGTH = 16_384;
const MAX_DIRECTIVES = 100;

export function parseSnippet(text: string): ParsedSnippet {
  if (text.length > MAX_LENGTH) return { kind: 'refused', reason: `it is longer than ${MAX_LENGTH} characters` };
  try {
    const reader = new SnippetReader(tokens(text));
    return { kind: 'directives', directives: reader.block(false) };
  } catch (error) {
    if (error instanceof Refused) return { kind: 'refused', reason: error.message };
    throw error;
  }
}

interface Token {
  readonly text: string;
  /** Punctuation (`;`, `{`, `}`) that was not in quotes. */
  readonly mark: boolean;
}

function tokens(text: string): readonly Token[] {
  const found: Token[] = [];
  const pattern =
    /\s+|#[^\n]*|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([;{}])|((?:[^\s;{}"'\\]|\\.|\$\{[A-Za-z0-9_]+\})+)/gy;
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    const [, double, single, mark, word] = match;
    if (mark !== undefined) found.push({ text: mark, mark: true });
    else if (word !== undefined) found.push({ text: word, mark: false });
    else if (double !== undefined || single !== undefined) {
      found.push({ text: (double ?? single ?? '').replace(/\\(["'\\])/g, '$1'), mark: false });
    }
    if (match.index + match[0].length === text.length) return found;
  }
  if (text === '') return found;
  throw new Refused('quotes or braces are not closed');
}

class SnippetReader {
  readonly #tokens: readonly Token[];
  /** Variables that a `set` before has made. */
  readonly #variables = new Set<string>();
  #at = 0;
  #count = 0;

  constructor(list: readonly Token[]) {
    this.#tokens = list;
  }

  block(inner: boolean): readonly Directive[] {
    const directives: Directive[] = [];
    for (;;) {
      const token = this.#tokens[this.#at];
      if (!token || (token.mark && token.text === '}')) {
        if (inner !== (token !== undefined)) throw new Refused('braces do not match');
        this.#at++;
        return directives;
      }
      if (token.mark) throw new Refused(`"${token.text}" is not expected`);
      if (++this.#count > MAX_DIRECTIVES) throw new Refused(`more than ${MAX_DIRECTIVES} directives`);
      this.#at++;
      directives.push(...this.#directive(token.text));
    }
  }

  /** As a condition on the path: what of it answers, answers; the rest goes on as other requests do. */
  #location(words: readonly string[]): Directive {
    const uri = value('$uri', this.#variables);
    const [first = '', second] = words;
    const condition: Condition | undefined =
      words.length === 1 && first.startsWith('/')
        ? { kind: 'start', value: uri, text: first }
        : second !== undefined && words.length === 2 && first === '='
          ? { kind: 'equal', value: uri, text: second, not: false }
          : second !== undefined && words.length === 2 && first === '^~'
            ? { kind: 'start', value: uri, text: second }
            : second !== undefined && words.length === 2 && /^~\*?$/.test(first)
              ? { kind: 'match', value: uri, regex: regexOf(second, first === '~*'), not: false }
              : undefined;
    if (!condition) throw new Refused(`location: "${words.join(' ')}" is no path`);
    const block = this.block(true);
    if (!block.some(({ kind }) => kind === 'return'))
      throw new Refused('location: only one that answers by itself (return) is supported');
    return { kind: 'if', condition, block };
  }

  #directive(name: string): readonly Directive[] {
    const words: string[] = [];
    for (;;) {
      const token = this.#tokens[this.#at++];
      if (!token) throw new Refused(`"${name}" is not ended by a semicolon`);
      if (!token.mark) {
        words.push(token.text);
        continue;
      }
      if (token.text === '{' && name === 'if')
        return [{ kind: 'if', condition: condition(words, this.#variables), block: this.block(true) }];
      if (token.text === '{' && name === 'location') return [this.#location(words)];
      if (token.text !== ';') throw new Refused(`"${name}" with a block is not supported here`);
      return directive(name, words, this.#variables);
    }
  }
}

function directive(name: string, words: readonly string[], variables: Set<string>): readonly Directive[] {
  const [first = '', second = '', third] = words;
  const arity = (from: number, to: number): void => {
    if (words.length < from || words.length > to) throw new Refused(`"${name}" has a wrong number of words`);
  };
  switch (name) {
    case 'add_header':
      arity(2, 3);
      if (third !== undefined && third !== 'always') throw new Refused(`add_header: "${third}" is not known`);
      return [
        {
          kind: 'answer-field',
          name: answerField(first),
          value: value(second, variables),
          when: third === 'always' ? 'always' : 'success',
          replaces: false,
        },
      ];
    case 'more_set_headers':
      arity(1, 20);
      return answerFields(words, variables);
    case 'more_clear_headers':
    case 'proxy_hide_header':
      arity(1, 20);
      return words.map((word) => ({ kind: 'drop-answer-field', name: droppedField(name, word) }));
    case 'more_clear_input_headers':
      arity(1, 20);
      return words.map((word) => ({ kind: 'drop-request-field', name: droppedField(name, word) }));
    case 'proxy_set_header':
    case 'more_set_input_headers':
      return requestFields(name, words, variables);
    case 'set': {
      arity(2, 2);
      const variable = /^\$([a-z][A-Za-z0-9_]*)$/.exec(first)?.[1];
      if (variable === undefined) throw new Refused(`set: "${first}" is no variable`);
      const set: Directive = { kind: 'set', variable, value: value(second, variables) };
      variables.add(variable);
      return [set];
    }
    case 'return':
      arity(1, 2);
      return [returned(words, variables)];
    case 'rewrite':
      arity(2, 3);
      return [rewritten(first, second, third)];
    case 'allow':
    case 'deny':
      arity(1, 1);
      return [{ kind: 'access', allow: name === 'allow', range: range(first) }];
    case 'expires':
      arity(1, 1);
      return expires(first);
    default:
      throw new Refused(`"${name}" is not supported`);
  }
}

/** `-s "404 500"` in front: with these statuses alone. */
function answerFields(words: readonly string[], variables: ReadonlySet<string>): readonly Directive[] {
  const statuses = words[0] === '-s' ? (words[1] ?? '').split(/\s+/).map(Number) : undefined;
  if (statuses?.some((status) => !Number.isInteger(status) || status < 100 || status > 599))
    throw new Refused(`more_set_headers: "${words[1]}" is no list of statuses`);
  return words.slice(statuses ? 2 : 0).map((word) => {
    const colon = word.indexOf(':');
    if (colon < 1)
      throw new Refused(`more_set_headers: "${word}" is not "Name: value"; of its options only -s is known`);
    return {
      kind: 'answer-field',
      name: answerField(word.slice(0, colon).trim()),
      value: value(word.slice(colon + 1).trim(), variables),
      when: statuses ?? 'always',
      replaces: true,
    };
  });
}

function droppedField(directive: string, word: string): string {
  const name = word.endsWith('*') ? word.slice(0, -1) : word;
  if (!isFieldName(name) || FRAMING.test(name))
    throw new Refused(`${directive}: "${word}" is no header that can be taken out`);
  return word.toLowerCase();
}

function requestFields(name: string, given: readonly string[], variables: ReadonlySet<string>): readonly Directive[] {
  const onlyGiven = name === 'more_set_input_headers' && given[0] === '-r';
  const words = onlyGiven ? given.slice(1) : given;
  const pairs =
    name === 'proxy_set_header'
      ? [[words[0] ?? '', words[1] ?? '']]
      : words.map((word) => [word.slice(0, word.indexOf(':')).trim(), word.slice(word.indexOf(':') + 1).trim()]);
  if (name === 'proxy_set_header' && words.length !== 2) throw new Refused('"proxy_set_header" has a name and a value');
  return pairs.map(([field = '', text = '']) => {
    if (!isFieldName(field) || FRAMING.test(field))
      throw new Refused(`${name}: "${field}" is no header that can be set`);
    return { kind: 'request-field', name: field, value: value(text, variables), onlyGiven };
  });
}

/** What says where a message ends, and who it is for. */
const FRAMING = /^(content-length|transfer-encoding|connection|keep-alive|upgrade|trailer|te|host|expect|proxy-.*)$/i;

function answerField(name: string): string {
  if (!isFieldName(name) || FRAMING.test(name)) throw new Refused(`"${name}" is no header that can be set`);
  return name;
}

function value(text: string, variables: ReadonlySet<string>): Template {
  if (/[^\u0020-\u007e]/.test(text)) throw new Refused('a value is one line of ASCII');
  const parsed = parseTemplate(text, variables);
  if (parsed.kind === 'unknown') throw new Refused(`the variable $${parsed.variable} is not known`);
  return parsed.template;
}

function returned(words: readonly string[], variables: ReadonlySet<string>): Directive {
  const [first = '', second] = words;
  const status = /^[1-5][0-9]{2}$/.test(first) ? Number(first) : undefined;
  // nginx: an address alone is a 302.
  if (status === undefined && words.length === 1 && /^(https?:\/\/|\$scheme)/.test(first)) {
    return { kind: 'return', status: 302, text: value(first, variables) };
  }
  if (status === undefined || status < 200) throw new Refused(`return: "${first}" is no status`);
  return { kind: 'return', status, text: second === undefined ? undefined : value(second, variables) };
}

function rewritten(pattern: string, target: string, flag: string | undefined): Directive {
  const ignoreCase = pattern.startsWith('(?i)');
  const regex = regexOf(ignoreCase ? pattern.slice(4) : pattern, ignoreCase);
  if (!/^[\u0021-\u007e]+$/.test(target)) throw new Refused('rewrite: the target holds spaces or letters beyond ASCII');
  const absolute = /^https?:\/\//.test(target);
  if (flag !== undefined && !/^(last|break|redirect|permanent)$/.test(flag))
    throw new Refused(`rewrite: "${flag}" is not known`);
  return {
    kind: 'rewrite',
    regex,
    target,
    redirect: flag === 'permanent' ? 301 : flag === 'redirect' || absolute ? 302 : undefined,
  };
}

function regexOf(pattern: string, ignoreCase: boolean): LinearRegex {
  const compiled = compileRegex(pattern, { ignoreCase, anchored: false });
  if (compiled.kind === 'refused') throw new Refused(`"${pattern}": ${compiled.reason}`);
  return compiled.regex;
}

function range(text: string): Cidr | 'all' {
  if (text === 'all') return 'all';
  const ip = parseIp(text);
  const cidr = ip ? cidrOfIp(ip) : parseCidr(text);
  if (!cidr) throw new Refused(`"${text}" is no address range`);
  return cidr;
}

const UNITS: Readonly<Record<string, number>> = {
  s: 1,
  m: 60,
  h: 3600,
  d: 86_400,
  w: 604_800,
  M: 2_592_000,
  y: 31_536_000,
};

function expires(text: string): readonly Directive[] {
  if (text === 'off') return [];
  if (text === 'max' || text === 'epoch') return [{ kind: 'expires', seconds: text }];
  const match = /^(-?)([0-9]{1,9})([smhdwMy]?)$/.exec(text);
  if (!match) throw new Refused(`expires: "${text}" is no time`);
  const seconds = Number(match[2]) * (UNITS[match[3] || 's'] ?? 1);
  return [{ kind: 'expires', seconds: match[1] === '-' ? -seconds : seconds }];
}

/** `($variable)`, `($variable = text)`, `($variable ~* expression)`. */
function condition(words: readonly string[], variables: ReadonlySet<string>): Condition {
  const joined = [...words];
  const last = joined.length - 1;
  if (!joined[0]?.startsWith('(') || !joined[last]?.endsWith(')'))
    throw new Refused('if: the condition stands in parentheses');
  joined[0] = joined[0].slice(1);
  const end = joined.pop() ?? '';
  if (end !== ')') joined.push(end.slice(0, -1));
  const parts = joined[0] === '' ? joined.slice(1) : joined;
  const [subject = '', operator, text = ''] = parts;
  if (!/^\$\{?[A-Za-z0-9_]+\}?$/.test(subject)) throw new Refused('if: the condition begins with a variable');
  const left = value(subject, variables);
  if (operator === undefined) return { kind: 'given', value: left };
  if (parts.length > 3) throw new Refused('if: one comparison only');
  if (operator === '=' || operator === '!=') return { kind: 'equal', value: left, text, not: operator === '!=' };
  const match = /^(!?)~(\*?)$/.exec(operator);
  if (!match) throw new Refused(`if: the operator "${operator}" is not supported`);
  return { kind: 'match', value: left, regex: regexOf(text, match[2] === '*'), not: match[1] === '!' };
}
