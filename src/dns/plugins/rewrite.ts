// rewrite: questions are asked as others, and answers told as if of the question.

import type { PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import { compilePattern } from './pattern.ts';
import type { Directive } from '../corefile/parse.ts';
import { integer, notBuilt } from '../corefile/words.ts';
import { changed, messageOf, replyOf, type Asked, type Handler, type Outcome } from '../handler.ts';
import { dataShape, type ResourceRecord } from '../wire/record.ts';
import { lowerName, nameText, parseName, type DnsName } from '../wire/name.ts';
import { CLASS_CH, CLASS_IN, typeCode } from '../wire/types.ts';

/** A name in text → another one; undefined when the rule does not fit. */
type Rename = (name: string) => string | undefined;

type Rule =
  | { readonly kind: 'name'; readonly stop: boolean; readonly rename: Rename; readonly answers: readonly Told[] }
  | { readonly kind: 'type'; readonly stop: boolean; readonly from: number; readonly to: number }
  | { readonly kind: 'class'; readonly stop: boolean; readonly from: number; readonly to: number }
  | { readonly kind: 'ttl'; readonly stop: boolean; readonly fits: Rename; readonly min: number; readonly max: number };

/** How names of an answer are told: those of owners, or those inside data, or both. */
interface Told {
  readonly where: 'name' | 'value' | 'auto';
  readonly rename: Rename | 'back';
}

export function rewriteHandler(rules: readonly Rule[]): Handler {
  return {
    name: 'rewrite',
    handle: (asked, next) => {
      const changes: ((name: string, where: 'name' | 'value') => string | undefined)[] = [];
      let ttl: { min: number; max: number } | undefined;
      let { query } = asked;
      for (const rule of rules) {
        const before = query;
        switch (rule.kind) {
          case 'name': {
            const from = nameText(query.key);
            const text = rule.rename(from);
            const name = text === undefined ? undefined : parseName(text);
            if (!name) continue;
            query = { ...query, name, key: lowerName(name) };
            const to = nameText(query.key);
            for (const told of rule.answers) changes.unshift(tell(told, from, to));
            break;
          }
          case 'type':
            if (query.type !== rule.from) continue;
            query = { ...query, type: rule.to };
            break;
          case 'class':
            if (query.klass !== rule.from) continue;
            query = { ...query, klass: rule.to };
            break;
          case 'ttl':
            if (rule.fits(nameText(query.key)) === undefined) continue;
            ttl = rule;
            break;
        }
        if (rule.stop || before === query) break;
      }
      if (query === asked.query && !ttl) return next(asked);
      const inner: Asked = { ...asked, query };
      return changed(next(inner), (outcome) => {
        asked.by = inner.by;
        return retold(inner, outcome, asked, changes, ttl);
      });
    },
  };
}

type Change = (name: string, where: 'name' | 'value') => string | undefined;

function tell({ where, rename }: Told, from: string, to: string): Change {
  return (name, at) => {
    if (where !== 'auto' && where !== at) return undefined;
    return rename === 'back' ? (name === to ? from : undefined) : rename(name);
  };
}

/** The outcome of the rewritten question as that of the asked one. */
function retold(
  inner: Asked,
  outcome: Outcome,
  asked: Asked,
  changes: readonly Change[],
  ttl: { min: number; max: number } | undefined,
): Outcome {
  if (outcome.kind === 'reply' && outcome.reply.kind === 'code') return outcome;
  const message = messageOf(inner, outcome);
  if (!message) return outcome;
  const rename = (name: DnsName, where: 'name' | 'value'): DnsName => {
    let text = nameText(name);
    for (const change of changes) text = change(lowerText(text), where) ?? text;
    return parseName(text) ?? name;
  };
  const told = (record: ResourceRecord): ResourceRecord => {
    const owner = record.owner === undefined ? undefined : rename(record.owner, 'name');
    // The question's own name is told as it was asked, case and all.
    const same = owner !== undefined && lowerName(owner) === asked.query.key;
    return {
      type: record.type,
      owner: same ? undefined : owner,
      ttl: ttl ? Math.min(Math.max(record.ttl, ttl.min), ttl.max) : record.ttl,
      data: changes.length === 0 ? record.data : renamedData(record, (name) => rename(name, 'value')),
    };
  };
  const { answer, authority, additional } = message;
  return {
    kind: 'reply',
    reply: replyOf({
      ...message,
      answer: answer.map(told),
      authority: authority.map(told),
      additional: additional.map(told),
    }),
  };
}

function lowerText(text: string): string {
  return text.toLowerCase();
}

function renamedData(record: ResourceRecord, rename: (name: DnsName) => DnsName): string {
  const shape = dataShape(record.type);
  if (shape?.names !== 1) return record.data;
  return record.data.slice(0, shape.before) + rename(record.data.slice(shape.before) as DnsName);
}

const FIELDS_TO_COME: ReadonlySet<string> = new Set(['edns0', 'rcode', 'cname']);
const MATCHES: ReadonlySet<string> = new Set(['exact', 'prefix', 'suffix', 'substring', 'regex']);

export const rewrite: PluginDefinition = {
  name: 'rewrite',
  once: false,
  setup: (directive, draft) => {
    const rule = readRule(directive);
    rulesOf(draft).push(rule);
    if (rulesOf(draft).length === 1) {
      const rules = rulesOf(draft);
      draft.answer('rewrite', () => rewriteHandler(rules));
    }
  },
};

const RULES = new WeakMap<object, Rule[]>();

/** The rules of a block, from all of its lines. */
function rulesOf(draft: object): Rule[] {
  const rules = RULES.get(draft) ?? [];
  RULES.set(draft, rules);
  return rules;
}

function readRule({ args, options, place }: Directive): Rule {
  const [mode, ...others] = args;
  const named = mode === 'stop' || mode === 'continue';
  const stop = mode !== 'continue';
  const lines = options.map((option) => [option.name, ...option.args]);
  const [first = [], ...rest] = named && others.length === 0 ? lines : [named ? others : args, ...lines];
  const [field = '', ...words] = first;
  // `answer …` may stand behind the rule, or on lines of its own.
  const at = words.findIndex((word, i) => word === 'answer' && i >= 2);
  const own = at < 0 ? words : words.slice(0, at);
  const answers = [...(at < 0 ? [] : [words.slice(at)]), ...rest];
  switch (field) {
    case 'name':
      return nameRule(own, answers, stop, place);
    case 'type':
    case 'class': {
      if (own.length !== 2 || answers.length > 0) throw new CorefileError(place, `rewrite ${field} takes FROM and TO`);
      const code = field === 'type' ? typeCode : classCode;
      const [from, to] = own.map((word) => code(word));
      if (from === undefined || to === undefined)
        throw new CorefileError(place, `rewrite ${field}: "${own.join(' ')}" names no ${field} that is known`);
      return { kind: field, stop, from, to };
    }
    case 'ttl':
      return ttlRule(own, stop, place);
    default:
      if (FIELDS_TO_COME.has(field)) throw notBuilt('rewrite', `"${field}"`, place);
      throw new CorefileError(place, `rewrite has no field "${field}"; there are: name, type, class, ttl`);
  }
}

function classCode(word: string): number | undefined {
  return word.toUpperCase() === 'IN' ? CLASS_IN : word.toUpperCase() === 'CH' ? CLASS_CH : undefined;
}

function nameRule(
  words: readonly string[],
  answers: readonly (readonly string[])[],
  stop: boolean,
  place: Place,
): Rule {
  const [match, from, to] = words.length === 2 ? ['exact', ...words] : words;
  if (match === undefined || from === undefined || to === undefined || words.length > 3 || !MATCHES.has(match))
    throw new CorefileError(place, 'rewrite name takes [exact|prefix|suffix|substring|regex] FROM TO [answer …]');
  const auto = answers.some((words2) => words2[0] === 'answer' && words2[1] === 'auto');
  const told: Told[] = [];
  if (match === 'exact' || auto) told.push({ where: 'auto', rename: 'back' });
  if (auto && match === 'suffix') told.push({ where: 'auto', rename: renamer('suffix', to, from, place) });
  if (auto && match === 'prefix') told.push({ where: 'auto', rename: renamer('prefix', to, from, place) });
  for (const [word, where, ...pair] of answers) {
    if (word !== 'answer') throw new CorefileError(place, `"${word}" is unknown here; answer was expected`);
    if (where === 'auto') continue;
    const [pattern, replacement] = where === 'name' || where === 'value' ? pair : [where, ...pair];
    if (pattern === undefined || replacement === undefined)
      throw new CorefileError(place, 'answer takes auto, or [name|value] FROM TO');
    told.push({
      where: where === 'value' ? 'value' : 'name',
      rename: renamer('regex', pattern, replacement, place),
    });
  }
  // Clients look for their own name: what no rule tells back is told as the question's.
  if (told.length === 0 && match === 'exact') told.push({ where: 'name', rename: 'back' });
  return { kind: 'name', stop, rename: renamer(match, from, to, place), answers: told };
}

function ttlRule(words: readonly string[], stop: boolean, place: Place): Rule {
  const [match, from, range] = words.length === 2 ? ['exact', ...words] : words;
  if (match === undefined || from === undefined || range === undefined || !MATCHES.has(match))
    throw new CorefileError(place, 'rewrite ttl takes [exact|prefix|suffix|substring|regex] NAME SECONDS or MIN-MAX');
  const [low = '', high] = range.split('-');
  const open = range.includes('-');
  const min = low === '' ? 0 : integer(low, place, 'the TTL', 0, 2_147_483_647);
  const max = !open
    ? min
    : high === '' || high === undefined
      ? 2_147_483_647
      : integer(high, place, 'the TTL', min, 2_147_483_647);
  return { kind: 'ttl', stop, fits: renamer(match, from, match === 'regex' ? '' : from, place, true), min, max };
}

/** Names are in lower case with their final dot. */
function renamer(match: string, from: string, to: string, place: Place, testOnly = false): Rename {
  const low = from.toLowerCase();
  switch (match) {
    case 'exact': {
      const whole = low.endsWith('.') ? low : `${low}.`;
      return (name) => (name === whole ? to : undefined);
    }
    case 'prefix':
      return (name) => (name.startsWith(low) ? to + name.slice(low.length) : undefined);
    case 'suffix': {
      const [end, put] = [low.endsWith('.') ? low : `${low}.`, to.endsWith('.') ? to : `${to}.`];
      return (name) => (name.endsWith(end) ? name.slice(0, -end.length) + put : undefined);
    }
    case 'substring':
      return (name) => (name.includes(low) ? name.replaceAll(low, to) : undefined);
    default: {
      const pattern = compilePattern('rewrite', from, place);
      return (name) => {
        const found = pattern.exec(name);
        if (!found) return undefined;
        return testOnly ? name : to.replace(/\{([0-9]+)\}/g, (_, group: string) => found[Number(group)] ?? '');
      };
    }
  }
}
