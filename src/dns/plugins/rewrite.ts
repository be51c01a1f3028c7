// rewrite: questions are asked as others, and answers told as if of the question. The rules as the Corefile writes them.

import type { BlockDraft, PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Directive } from '../corefile/parse.ts';
import { integer } from '../corefile/words.ts';
import { highestGroup, isMatch, regexRenamer, renamer, type Rename } from '../name-match.ts';
import { rewriteHandler, rewrittenName, type Rule, type Told } from '../rewriting.ts';
import { CLASS_CH, CLASS_IN, rcodeNumber, typeCode } from '../wire/types.ts';
import { compilePattern } from './pattern.ts';
import { edns0Rule } from './rewrite-edns0.ts';

const FIELDS = 'name, type, class, ttl, rcode, cname and edns0';
const MOST_TTL = 2_147_483_647;
const MATCH_WORDS = '[exact|prefix|suffix|substring|regex]';

export const rewrite: PluginDefinition = {
  name: 'rewrite',
  once: false,
  setup: (directive, draft) => {
    const rules = rulesOf(draft);
    rules.push(readRule(directive));
    if (rules.length > 1) return;
    draft.answer('rewrite', (services) => rewriteHandler(rules, services.ask));
    draft.rename = (name) => rewrittenName(rules, name);
  },
};

const RULES = new WeakMap<BlockDraft, Rule[]>();

/** The rules of a block, from all of its lines. */
function rulesOf(draft: BlockDraft): Rule[] {
  const rules = RULES.get(draft) ?? [];
  RULES.set(draft, rules);
  return rules;
}

/** A rule stands in one line, or in braces, where its lines are read as one. */
function readRule({ args, options, place }: Directive): Rule {
  const [mode = '', ...others] = args;
  const named = mode.toLowerCase() === 'stop' || mode.toLowerCase() === 'continue';
  const words = [...(named ? others : args), ...options.flatMap((option) => [option.name, ...option.args])];
  const stop = mode.toLowerCase() !== 'continue';
  const [fieldWord = '', ...rest] = words;
  const field = fieldWord.toLowerCase();
  switch (field) {
    case 'name':
      return nameRule(rest, stop, place);
    case 'type':
    case 'class': {
      if (rest.length !== 2) throw new CorefileError(place, `rewrite ${field} takes FROM and TO`);
      const code = field === 'type' ? typeCode : classCode;
      const [from, to] = rest.map((word) => code(word));
      if (from === undefined || to === undefined)
        throw new CorefileError(place, `rewrite ${field}: "${rest.join(' ')}" names no ${field} that is known`);
      return { kind: field, stop, from, to };
    }
    case 'ttl':
      return ttlRule(rest, stop, place);
    case 'rcode':
      return rcodeRule(rest, stop, place);
    case 'cname':
      return cnameRule(rest, stop, place);
    case 'edns0':
      return edns0Rule(rest, stop, place);
    default:
      throw new CorefileError(place, `rewrite has no field "${fieldWord}"; there are ${FIELDS}`);
  }
}

function classCode(word: string): number | undefined {
  return word.toUpperCase() === 'IN' ? CLASS_IN : word.toUpperCase() === 'CH' ? CLASS_CH : undefined;
}

/** [MATCH] FROM TO [answer …] */
function nameRule(words: readonly string[], stop: boolean, place: Place): Rule {
  const [match = '', from, to, ...more] = words.length === 2 ? ['exact', ...words] : words;
  const kind = match.toLowerCase();
  if (from === undefined || to === undefined || !isMatch(kind))
    throw new CorefileError(place, `rewrite name takes ${MATCH_WORDS} FROM TO [answer …]`);
  const { auto, told } = readAnswers(more, place);
  const rename = renameOf(kind, from, to, place);
  // The end of a name is put back wherever it is found; anything else only in the name that was asked for.
  const undoSuffix = auto && kind === 'suffix' ? [{ where: 'both', rename: renamer('suffix', to, from) } as const] : [];
  const back = kind === 'exact' || (auto && kind !== 'suffix');
  return { kind: 'name', stop, rename, back, answers: [...undoSuffix, ...told] };
}

function renameOf(match: string, from: string, to: string, place: Place): Rename {
  if (!isMatch(match)) throw new CorefileError(place, `"${match}" is no way to match a name; there are ${MATCH_WORDS}`);
  if (match !== 'regex') return renamer(match, from, to.toLowerCase());
  const pattern = compilePattern('rewrite', from, place);
  const wanted = highestGroup(to);
  const there = groupsOf(from);
  if (wanted > there)
    throw new CorefileError(place, `rewrite: ${to} wants group ${wanted}, and ${from} has ${there || 'none'}`);
  return regexRenamer(pattern, to.toLowerCase());
}

/** How many groups a pattern has that are counted. */
function groupsOf(pattern: string): number {
  const bare = pattern.replace(/\\./g, '').replace(/\[\^?\]?[^\]]*\]/g, '');
  return [...bare.matchAll(/\((?!\?)|\(\?P?<(?![=!])/g)].length;
}

/** `answer auto`, `answer name FROM TO`, `answer value FROM TO`; one `answer` may stand for several. */
function readAnswers(words: readonly string[], place: Place): { auto: boolean; told: readonly Told[] } {
  let auto = false;
  const told: Told[] = [];
  if (words.length > 0 && words[0] !== 'answer')
    throw new CorefileError(place, `"${words[0]}" is unknown here; answer was expected`);
  for (let at = 0; at < words.length;) {
    if (words[at] === 'answer') at++;
    const where = words[at];
    if (where === 'auto') {
      auto = true;
      at += 1;
      continue;
    }
    const [from, to] = words.slice(at + 1);
    if ((where !== 'name' && where !== 'value') || from === undefined || to === undefined)
      throw new CorefileError(place, 'answer takes auto, name FROM TO, or value FROM TO');
    told.push({ where, rename: renameOf('regex', from, to, place) });
    at += 3;
  }
  if (auto && told.some(({ where }) => where === 'name'))
    throw new CorefileError(place, 'answer auto and answer name exclude each other');
  return { auto, told };
}

/** [MATCH] NAME, and then `count` words that say what is done. */
function matched(
  field: string,
  words: readonly string[],
  count: number,
  place: Place,
): { readonly fits: Rename; readonly rest: readonly string[] } {
  const [match = '', from, ...rest] = words.length === count + 1 ? ['exact', ...words] : words;
  const kind = match.toLowerCase();
  if (from === undefined || rest.length !== count || !isMatch(kind)) {
    const what = field === 'ttl' ? 'SECONDS or MIN-MAX' : 'FROM TO';
    throw new CorefileError(place, `rewrite ${field} takes ${MATCH_WORDS} NAME ${what}`);
  }
  const fits = renameOf(kind, from, '', place);
  return { fits, rest };
}

function ttlRule(words: readonly string[], stop: boolean, place: Place): Rule {
  const { fits, rest } = matched('ttl', words, 1, place);
  const [range = ''] = rest;
  const [low = '', high] = range.split('-');
  const open = range.includes('-');
  const min = low === '' ? 0 : integer(low, place, 'the TTL', 0, MOST_TTL);
  const max = !open
    ? min
    : high === '' || high === undefined
      ? MOST_TTL
      : integer(high, place, 'the TTL', min, MOST_TTL);
  return { kind: 'ttl', stop, fits, min, max };
}

function rcodeRule(words: readonly string[], stop: boolean, place: Place): Rule {
  const { fits, rest } = matched('rcode', words, 2, place);
  const [from, to] = rest.map((word) => codeOf(word, place));
  return { kind: 'rcode', stop, fits, from: from ?? 0, to: to ?? 0 };
}

/** By name or number. */
function codeOf(word: string, place: Place): number {
  const code = /^[0-9]{1,2}$/.test(word) && Number(word) <= 23 ? Number(word) : rcodeNumber(word);
  if (code === undefined) throw new CorefileError(place, `"${word}" is no response code such as NXDOMAIN`);
  return code;
}

function cnameRule(words: readonly string[], stop: boolean, place: Place): Rule {
  const [match = '', from, to, ...more] = words.length === 2 ? ['exact', ...words] : words;
  const kind = match.toLowerCase();
  if (from === undefined || to === undefined || more.length > 0 || !isMatch(kind))
    throw new CorefileError(place, `rewrite cname takes ${MATCH_WORDS} FROM TO`);
  return { kind: 'cname', stop, rename: renameOf(kind, from, to, place) };
}
