// template: answers made from the question.

import { answered, coded } from '../answers.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import type { Labels } from '../../observe/metrics.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { LinearRegex } from '../../lib/linear-regex.ts';
import { BUILTINS } from '../expression-builtins.ts';
import { compileExpression, type Functions } from '../expression.ts';
import { ExpressionError, type Value } from '../expression-value.ts';
import { classText, QUERY_FUNCTIONS } from '../query-expression.ts';
import { askThrough } from '../resolve-outside.ts';
import { compilePattern } from './pattern.ts';
import type { Directive, Option } from '../corefile/parse.ts';
import { count, integer, notBuilt, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import type { Asked, Handler } from '../handler.ts';
import { parseRecord } from '../record-text.ts';
import { parseTemplate, TemplateError, type TemplateFields, type TemplateValue } from '../text-template.ts';
import { nameText, ROOT, type DnsName } from '../wire/name.ts';
import type { ResourceRecord } from '../wire/record.ts';
import { CLASS_ANY, CLASS_CH, CLASS_IN, RCODE, rcodeNumber, RR, typeCode, typeName } from '../wire/types.ts';

interface TemplateRule {
  readonly klass: number | undefined;
  readonly type: number | undefined;
  readonly zones: readonly DnsName[];
  /** None: every name. */
  readonly matches: readonly LinearRegex[];
  /** In order: each may use those before it. */
  readonly variables: readonly { readonly name: string; readonly value: (facts: Facts) => Value }[];
  /** All of them are to be true. */
  readonly conditions: readonly ((facts: Facts) => Value)[];
  readonly answer: readonly Line[];
  readonly authority: readonly Line[];
  readonly additional: readonly Line[];
  readonly rcode: number;
  /** RFC 8914. */
  readonly ede: { readonly code: number; readonly text: string } | undefined;
  readonly fallthrough: readonly DnsName[];
}

/** One record, and how the Corefile writes it. */
interface Line {
  readonly source: string;
  readonly render: (fields: TemplateFields) => string;
}

/** What expressions know of a question. */
interface Facts {
  readonly asked: Asked;
  readonly group: ReadonlyMap<string, string>;
  readonly variables: Map<string, Value>;
}

export function templateHandler(rule: TemplateRule, services: BlockServices): Handler {
  const counts = templateMetrics(services);
  return {
    name: 'template',
    handle: (asked, next) => {
      const { query } = asked;
      // A question for everything is for each of them, too.
      if (rule.klass !== undefined && query.klass !== CLASS_ANY && rule.klass !== query.klass) return next(asked);
      if (rule.type !== undefined && query.type !== RR.ANY && rule.type !== query.type) return next(asked);
      const zone = zoneOf(query.key, rule.zones);
      if (zone === undefined) return next(asked);
      const matched = match(rule, asked, zone);
      if (matched.kind === 'failed') return coded(RCODE.SERVFAIL, matched.why);
      if (matched.kind === 'none') {
        if (zoneOf(query.key, rule.fallthrough) !== undefined) return next(asked);
        return coded(RCODE.SERVFAIL, 'no match of the template fits this name, and it hands none on');
      }
      const { fields } = matched;
      const labels = { zone: nameText(zone), class: fieldText(fields, 'Class'), type: fieldText(fields, 'Type') };
      counts.matched(labels);
      const sections = (['answer', 'authority', 'additional'] as const).map((section) =>
        records(rule[section], fields, (line, failure) =>
          counts.failed(failure, { ...labels, section, template: line }),
        ),
      );
      const [answer, authority, additional] = sections;
      if (!answer || !authority || !additional)
        return coded(RCODE.SERVFAIL, 'a template makes a line that is no record');
      const made = { rcode: rule.rcode, authority, additional, ...(rule.ede ? { ede: rule.ede } : {}) };
      const alias =
        query.type === RR.A || query.type === RR.AAAA ? answer.find(({ type }) => type === RR.CNAME) : undefined;
      if (!alias) return answered({ ...made, answer });
      return askThrough(services.ask, alias.data as DnsName, query.type, asked).then((found) =>
        answered({ ...made, answer: withFound(answer, alias, found?.answer ?? []) }),
      );
    },
  };
}

/** What the alias leads to, behind it. */
function withFound(
  answer: readonly ResourceRecord[],
  alias: ResourceRecord,
  found: readonly ResourceRecord[],
): readonly ResourceRecord[] {
  return answer.flatMap((record) => (record === alias ? [record, ...found] : [record]));
}

type Matched =
  | { readonly kind: 'fits'; readonly fields: TemplateFields }
  | { readonly kind: 'none' }
  | { readonly kind: 'failed'; readonly why: string };

/** The fields that a template may name at its top. */
const FIELDS: ReadonlySet<string> = new Set([
  'Name',
  'Zone',
  'Type',
  'Class',
  'Remote',
  'Regex',
  'Match',
  'Group',
  'Var',
  'Question',
  'Message',
]);

function match(rule: TemplateRule, asked: Asked, zone: DnsName): Matched {
  const { query, client } = asked;
  const name = nameText(query.key);
  const found = firstMatch(name, rule.matches);
  if (!found) return { kind: 'none' };
  const group = new Map(found.texts.map((text, i) => [String(i), text] as const));
  for (const [label, i] of found.names) group.set(label, found.texts[i] ?? '');
  const variables = new Map<string, Value>();
  const facts: Facts = { asked, group, variables };
  try {
    for (const { name: variable, value } of rule.variables) variables.set(variable, value(facts));
    if (!rule.conditions.every((holds) => holds(facts) === true)) return { kind: 'none' };
  } catch (error) {
    if (error instanceof ExpressionError) return { kind: 'failed', why: `template: ${error.message}` };
    throw error;
  }
  const fields = new Map<string, TemplateValue>([
    ['Name', name],
    ['Zone', nameText(zone)],
    ['Type', typeName(query.type === RR.ANY ? (rule.type ?? RR.ANY) : query.type)],
    ['Class', classText(query.klass === CLASS_ANY ? (rule.klass ?? CLASS_ANY) : query.klass)],
    ['Remote', client?.address.replace(/^::ffff:(?=[0-9.]+$)/, '') ?? ''],
    ['Regex', found.source],
    ['Match', found.texts],
    ['Group', group],
    ['Var', variables],
    [
      'Question',
      new Map<string, TemplateValue>([
        ['Name', nameText(query.name)],
        ['Qtype', query.type],
        ['Qclass', query.klass],
      ]),
    ],
    ['Message', new Map<string, TemplateValue>([['Id', query.id]])],
  ]);
  return { kind: 'fits', fields: { fields, meta: (label) => asked.metadata?.get(label) ?? '' } };
}

interface Found {
  readonly source: string;
  /** The groups, the whole match first. */
  readonly texts: readonly string[];
  readonly names: ReadonlyMap<string, number>;
}

const NO_NAMES: ReadonlyMap<string, number> = new Map();

/** Without a pattern everything matches. */
function firstMatch(name: string, matches: readonly LinearRegex[]): Found | undefined {
  if (matches.length === 0) return { source: '.*', texts: [name], names: NO_NAMES };
  for (const pattern of matches) {
    const texts = pattern.exec(name);
    if (texts) return { source: pattern.source, names: pattern.names, texts };
  }
  return undefined;
}

function fieldText({ fields }: TemplateFields, name: string): string {
  const value = fields.get(name);
  return typeof value === 'string' ? value : '';
}

type Failure = 'template_failures' | 'rr_failures';

/** Undefined where a line makes no record. */
function records(
  lines: readonly Line[],
  fields: TemplateFields,
  failed: (source: string, failure: Failure) => void,
): readonly ResourceRecord[] | undefined {
  const made: ResourceRecord[] = [];
  for (const { source, render } of lines) {
    const text = rendered(render, fields);
    const record = text === undefined ? undefined : parseRecord(text);
    if (!record) {
      failed(source, text === undefined ? 'template_failures' : 'rr_failures');
      return undefined;
    }
    made.push(record);
  }
  return made;
}

function rendered(render: Line['render'], fields: TemplateFields): string | undefined {
  try {
    return render(fields);
  } catch (error) {
    if (error instanceof TemplateError) return undefined;
    throw error;
  }
}

interface TemplateMetrics {
  matched(labels: Labels): void;
  failed(failure: Failure, labels: Labels): void;
}

function templateMetrics({ metrics, labels }: Pick<BlockServices, 'metrics' | 'labels'>): TemplateMetrics {
  const names = ['server', 'zone', 'view', 'class', 'type'];
  const counter = (name: string, help: string, more: readonly string[]) =>
    metrics.counter({ name: `coredns_template_${name}_total`, help, labels: [...names, ...more] });
  const matches = counter('matches', 'Questions that a template was for.', []);
  const failures = {
    template_failures: counter('template_failures', 'Templates that could not be worked out.', ['section', 'template']),
    rr_failures: counter('rr_failures', 'Templates that made no record.', ['section', 'template']),
  };
  return {
    matched: (own) => matches.add(1, { ...labels, ...own }),
    failed: (failure, own) => failures[failure].add(1, { ...labels, ...own }),
  };
}

export const template: PluginDefinition = {
  name: 'template',
  once: false,
  setup: (directive, draft) => {
    const rule = readTemplate(directive, draft.zones);
    if (rule.klass !== CLASS_IN) draft.otherClasses = true;
    draft.answer('template', (services) => templateHandler(rule, services));
  },
};

const OPTIONS = [
  'match',
  'answer',
  'authority',
  'additional',
  'var',
  'expr',
  'rcode',
  'ederror',
  'fallthrough',
  // Of versions before 1.5; says nothing any more.
  'upstream',
];

const LINES: ReadonlySet<string> = new Set(['match', 'answer', 'authority', 'additional']);

function readTemplate({ args, options, place }: Directive, blockZones: readonly DnsName[]): TemplateRule {
  count(args, place, 'template', 2, Infinity);
  const [klass = '', type = '', ...zoneNames] = args;
  const lines = (name: string): readonly Option[] => options.filter((option) => option.name === name);
  for (const { name, args: words, place: at } of options) {
    if (!OPTIONS.includes(name)) throw unknownOption('template', name, at, OPTIONS);
    if (LINES.has(name)) count(words, at, name, 1, Infinity);
    if (name === 'ederror') count(words, at, name, 1, 2);
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
    ...readExpressions(options),
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

function renders({ args, place }: Option): Line[] {
  return args.map((source) => {
    const parsed = parseTemplate(source, FIELDS);
    if (parsed.kind === 'unknown') throw notBuilt('template', `the expression ${parsed.part}`, place);
    return { source, render: parsed.render };
  });
}

const TEMPLATE_FUNCTIONS: Functions<Facts> = new Map([
  ...[...QUERY_FUNCTIONS].map(
    ([name, { arity, call }]) =>
      [name, { arity, call: ({ asked }: Facts, args: readonly Value[]) => call(asked, args) }] as const,
  ),
  ['group', { arity: 1, call: ({ group }: Facts, [name]: readonly Value[]) => group.get(String(name)) ?? '' }] as const,
]);

/** `var NAME EXPRESSION` and `expr EXPRESSION`, in the order of the file. */
function readExpressions(options: readonly Option[]): Pick<TemplateRule, 'variables' | 'conditions'> {
  const known = new Map<string, (facts: Facts) => Value>();
  const variables: { name: string; value: (facts: Facts) => Value }[] = [];
  const conditions: ((facts: Facts) => Value)[] = [];
  const compiled = (text: string, place: Place): ((facts: Facts) => Value) => {
    const made = compileExpression(text, TEMPLATE_FUNCTIONS, known);
    if (made.kind === 'mistake') throw new CorefileError(place, `template: ${text}: ${made.what}`);
    return made.evaluate;
  };
  for (const { name: option, args, place } of options) {
    if (option === 'expr') {
      count(args, place, option, 1, Infinity);
      conditions.push(compiled(args.join(' '), place));
    } else if (option === 'var') {
      count(args, place, option, 2, Infinity);
      const [name = '', ...words] = args;
      if (
        !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ||
        RESERVED.has(name) ||
        TEMPLATE_FUNCTIONS.has(name) ||
        BUILTINS.has(name)
      )
        throw new CorefileError(place, `template: "${name}" cannot be the name of a variable`);
      variables.push({ name, value: compiled(words.join(' '), place) });
      known.set(name, ({ variables: values }) => values.get(name));
    }
  }
  return { variables, conditions };
}

const RESERVED: ReadonlySet<string> = new Set(
  'true false nil in not and or matches contains startsWith endsWith let if else'.split(' '),
);
