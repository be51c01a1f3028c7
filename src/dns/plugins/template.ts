// template: answers made from the question.

import { answered, coded } from '../answers.ts';
import type { PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { LinearRegex } from '../../lib/linear-regex.ts';
import { compilePattern } from './pattern.ts';
import type { Directive, Option } from '../corefile/parse.ts';
import { count, integer, notBuilt, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import type { Asked, Handler } from '../handler.ts';
import { parseRecord } from '../record-text.ts';
import { parseTemplate, type TemplateFields } from '../text-template.ts';
import { nameText, ROOT, type DnsName } from '../wire/name.ts';
import type { ResourceRecord } from '../wire/record.ts';
import { CLASS_CH, CLASS_IN, RCODE, rcodeNumber, RR, typeCode, typeName } from '../wire/types.ts';

type Render = (fields: TemplateFields) => string;

interface TemplateRule {
  readonly klass: number | undefined;
  readonly type: number | undefined;
  readonly zones: readonly DnsName[];
  /** None: every name. */
  readonly matches: readonly LinearRegex[];
  readonly answer: readonly Render[];
  readonly authority: readonly Render[];
  readonly additional: readonly Render[];
  readonly rcode: number;
  /** RFC 8914. */
  readonly ede: { readonly code: number; readonly text: string } | undefined;
  readonly fallthrough: readonly DnsName[];
}

export function templateHandler(rule: TemplateRule): Handler {
  return {
    name: 'template',
    handle: (asked, next) => {
      const { query } = asked;
      if (rule.klass !== undefined && rule.klass !== query.klass) return next(asked);
      if (rule.type !== undefined && rule.type !== query.type) return next(asked);
      const zone = zoneOf(query.key, rule.zones);
      if (zone === undefined) return next(asked);
      const fields = fieldsOf(asked, zone, rule.matches);
      if (!fields) {
        if (zoneOf(query.key, rule.fallthrough) !== undefined) return next(asked);
        return coded(RCODE.SERVFAIL, 'no match of the template fits this name, and it hands none on');
      }
      const answer = records(rule.answer, fields);
      const authority = records(rule.authority, fields);
      const additional = records(rule.additional, fields);
      if (!answer || !authority || !additional)
        return coded(RCODE.SERVFAIL, 'a template makes a line that is no record');
      return answered({ rcode: rule.rcode, answer, authority, additional, ...(rule.ede ? { ede: rule.ede } : {}) });
    },
  };
}

function fieldsOf(
  { query, client }: Asked,
  zone: DnsName,
  matches: readonly LinearRegex[],
): TemplateFields | undefined {
  const name = nameText(query.key);
  const found = matches.length === 0 ? NO_PATTERN : firstMatch(name, matches);
  if (!found) return undefined;
  const numbered = found.texts.map((text, i) => [String(i), text] as const);
  const named = [...found.names].map(([group, i]) => [group, found.texts[i] ?? ''] as const);
  return {
    fields: new Map([
      ['Name', nameText(query.name)],
      ['Zone', nameText(zone)],
      ['Type', typeName(query.type)],
      ['Class', query.klass === CLASS_IN ? 'IN' : 'CH'],
      ['Remote', client?.address ?? ''],
    ]),
    match: matches.length === 0 ? [name] : found.texts,
    group: new Map([...numbered, ...named]),
  };
}

interface Found {
  /** The groups, the whole match first. */
  readonly texts: readonly string[];
  readonly names: ReadonlyMap<string, number>;
}

const NO_PATTERN: Found = { texts: [], names: new Map() };

function firstMatch(name: string, matches: readonly LinearRegex[]): Found | undefined {
  for (const match of matches) {
    const texts = match.exec(name);
    if (texts) return { texts, names: match.names };
  }
  return undefined;
}

function records(renders: readonly Render[], fields: TemplateFields): readonly ResourceRecord[] | undefined {
  const made = renders.map((render) => parseRecord(render(fields)));
  return made.includes(undefined) ? undefined : made.filter((record) => record !== undefined);
}

export const template: PluginDefinition = {
  name: 'template',
  once: false,
  setup: (directive, draft) => {
    const rule = readTemplate(directive, draft.zones);
    if (rule.klass !== CLASS_IN) draft.otherClasses = true;
    draft.answer('template', () => templateHandler(rule));
  },
};

const OPTIONS = ['match', 'answer', 'authority', 'additional', 'rcode', 'ederror', 'fallthrough'];

function readTemplate({ args, options, place }: Directive, blockZones: readonly DnsName[]): TemplateRule {
  count(args, place, 'template', 2, Infinity);
  const [klass = '', type = '', ...zoneNames] = args;
  const lines = (name: string): readonly Option[] => options.filter((option) => option.name === name);
  for (const { name, place: at } of options) {
    if (name === 'var' || name === 'expr') throw notBuilt('template', `"${name}"`, at);
    if (!OPTIONS.includes(name)) throw unknownOption('template', name, at, OPTIONS);
  }
  const [fall] = lines('fallthrough');
  const [code] = lines('rcode');
  const [error] = lines('ederror');
  const rcode = code ? rcodeNumber(code.args[0] ?? '') : RCODE.NOERROR;
  if (rcode === undefined)
    throw new CorefileError(code?.place ?? place, `"${code?.args[0]}" is no response code such as NXDOMAIN`);
  return {
    klass: classOf(klass, place),
    type: typeOf(type, place),
    zones: zones(zoneNames, place, blockZones),
    matches: lines('match').flatMap((option) =>
      option.args.map((pattern) => compilePattern('template', pattern, option.place)),
    ),
    answer: lines('answer').flatMap(renders),
    authority: lines('authority').flatMap(renders),
    additional: lines('additional').flatMap(renders),
    rcode,
    ede: error && {
      code: integer(error.args[0] ?? '', error.place, 'the code of ederror', 0, 0xffff),
      text: Buffer.from(error.args.slice(1).join(' '), 'utf8').toString('latin1'),
    },
    fallthrough: fall ? zones(fall.args, fall.place, [ROOT]) : [],
  };
}

function classOf(word: string, place: Place): number | undefined {
  const upper = word.toUpperCase();
  if (upper === 'ANY') return undefined;
  if (upper === 'IN' || upper === 'CH') return upper === 'IN' ? CLASS_IN : CLASS_CH;
  throw new CorefileError(place, `"${word}" is no class: IN, CH or ANY was expected`);
}

function typeOf(word: string, place: Place): number | undefined {
  const type = typeCode(word);
  if (type === undefined) throw new CorefileError(place, `"${word}" is no record type, and not ANY`);
  return type === RR.ANY ? undefined : type;
}

function renders({ args, place }: Option): Render[] {
  return args.map((text) => {
    const parsed = parseTemplate(text);
    if (parsed.kind === 'unknown') throw notBuilt('template', `the expression ${parsed.part}`, place);
    return parsed.render;
  });
}
