// Rewriting: a question is asked as another one, and the answer is told as if of the question.

import { OPTION_NSID } from './encode.ts';
import { changeOptions, readOptions, writeOptions, type EdnsOption, type OptionAction } from './edns-option.ts';
import { messageOf, replyOf, type Answer, type Asked, type Handle, type Handler, type Outcome } from './handler.ts';
import { backRenamer, type Rename } from './name-match.ts';
import { askThrough } from './resolve-outside.ts';
import type { Message, OwnedRecord } from './wire/message.ts';
import { lowerName, nameText, parseName, type DnsName } from './wire/name.ts';
import type { Edns, Query } from './wire/query.ts';
import { dataShape, type ResourceRecord } from './wire/record.ts';
import { RR } from './wire/types.ts';

/** One rule; a `stop` one that fits is the last. */
export type Rule = { readonly stop: boolean } & RuleKind;

type RuleKind =
  | {
      readonly kind: 'name';
      readonly rename: Rename;
      /** The name that is asked for instead, and those below it, are told as the name that was asked for. */
      readonly back: boolean;
      /** What names of the answer are told as, beside that. */
      readonly answers: readonly Told[];
    }
  | { readonly kind: 'type' | 'class'; readonly from: number; readonly to: number }
  | { readonly kind: 'ttl'; readonly fits: Rename; readonly min: number; readonly max: number }
  | { readonly kind: 'rcode'; readonly fits: Rename; readonly from: number; readonly to: number }
  /** Where an alias leads to; what is there is asked of the whole server. */
  | { readonly kind: 'cname'; readonly rename: Rename }
  | {
      readonly kind: 'edns0';
      readonly action: OptionAction;
      /** Undefined where there is nothing to be said of this question. */
      readonly option: (asked: Asked) => EdnsOption | undefined;
    };

/** How names of an answer are told: those of owners, or those inside data, or both. */
export interface Told {
  readonly where: 'name' | 'value' | 'both';
  readonly rename: Rename;
}

/** What is done to the answer, in the order of the rules; it is done in reverse. */
interface Changes {
  readonly names: Told[];
  readonly aliases: Rename[];
  readonly codes: { readonly from: number; readonly to: number }[];
  ttl: { readonly min: number; readonly max: number } | undefined;
}

/** What a client without EDNS is asked about with, once there is an option to tell. */
const OWN_EDNS: Edns = { udpSize: 4096, dnssecOk: false, version: 0, wantsNsid: false };

/** The name that is asked for instead, by the rules for names alone; undefined where none fits. */
export function rewrittenName(rules: readonly Rule[], name: DnsName): DnsName | undefined {
  let found: DnsName | undefined;
  for (const rule of rules) {
    const text = rule.kind === 'name' ? rule.rename(nameText(lowerName(found ?? name))) : undefined;
    const next = text === undefined ? undefined : parseName(text);
    if (!next) continue;
    found = next;
    if (rule.stop) break;
  }
  return found;
}

export function rewriteHandler(rules: readonly Rule[], ask: Handle): Handler {
  return {
    name: 'rewrite',
    handle: (asked, next): Answer => {
      const changes: Changes = { names: [], aliases: [], codes: [], ttl: undefined };
      let { query } = asked;
      let fits = false;
      for (const rule of rules) {
        const after = applied(rule, query, asked, changes);
        if (!after) continue;
        query = after;
        fits = true;
        if (rule.stop) break;
      }
      if (!fits) return next(asked);
      const inner: Asked = { ...asked, query };
      const answer = next(inner);
      const tell = (outcome: Outcome): Answer => {
        asked.by = inner.by;
        return retold(inner, outcome, asked, changes, ask);
      };
      return answer instanceof Promise ? answer.then(tell) : tell(answer);
    },
  };
}

/** The question after a rule, the same where only the answer is changed; undefined when the rule does not fit. */
function applied(rule: Rule, query: Query, asked: Asked, changes: Changes): Query | undefined {
  switch (rule.kind) {
    case 'name': {
      const from = nameText(query.key);
      const text = rule.rename(from);
      const name = text === undefined ? undefined : parseName(text);
      if (!name) return undefined;
      const key = lowerName(name);
      changes.names.push(...rule.answers);
      if (rule.back) changes.names.push({ where: 'both', rename: backRenamer(from, nameText(key)) });
      return { ...query, name, key };
    }
    case 'type':
      return query.type === rule.from ? { ...query, type: rule.to } : undefined;
    case 'class':
      return query.klass === rule.from ? { ...query, klass: rule.to } : undefined;
    case 'ttl':
      if (rule.fits(nameText(query.key)) === undefined) return undefined;
      changes.ttl ??= rule;
      return query;
    case 'rcode':
      if (rule.fits(nameText(query.key)) === undefined) return undefined;
      changes.codes.push(rule);
      return query;
    case 'cname':
      changes.aliases.push(rule.rename);
      return query;
    case 'edns0': {
      const option = rule.option({ ...asked, query });
      const edns = query.edns ?? OWN_EDNS;
      const options = option && changeOptions(readOptions(edns.options ?? ''), rule.action, option);
      if (!options) return undefined;
      const wantsNsid = options.some(({ code }) => code === OPTION_NSID);
      return { ...query, edns: { ...edns, options: writeOptions(options), wantsNsid } };
    }
  }
}

/** The outcome of the rewritten question as that of the asked one. */
function retold(inner: Asked, outcome: Outcome, asked: Asked, changes: Changes, ask: Handle): Answer {
  if (outcome.kind === 'reply' && outcome.reply.kind === 'code') {
    const rcode = codeOf(outcome.reply.rcode, changes);
    return rcode === outcome.reply.rcode ? outcome : { kind: 'reply', reply: { kind: 'code', rcode } };
  }
  const message = messageOf(inner, outcome);
  if (!message) return outcome;
  for (const rename of changes.aliases.toReversed()) {
    const alias = message.answer.find(({ type }) => type === RR.CNAME);
    const found = alias && leads(message.answer, rename);
    if (found) return followed(inner, message, found, ask).then((other) => told(other, asked, changes));
  }
  return told(message, asked, changes);
}

interface Lead {
  /** Of the alias in the answer. */
  readonly at: number;
  readonly target: DnsName;
}

function leads(answer: readonly OwnedRecord[], rename: Rename): Lead | undefined {
  for (const [at, { type, data }] of answer.entries()) {
    const text = type === RR.CNAME ? rename(nameText(lowerName(data as DnsName))) : undefined;
    const target = text === undefined ? undefined : parseName(text);
    if (target) return { at, target };
  }
  return undefined;
}

/** The aliases up to the one that leads elsewhere now, and what is found there. */
async function followed(inner: Asked, message: Message, { at, target }: Lead, ask: Handle): Promise<Message> {
  const other = await askThrough(ask, target, inner.query.type, inner);
  if (!other) return message;
  const aliases = message.answer
    .slice(0, at + 1)
    .filter(({ type }) => type === RR.CNAME)
    .map((alias, i, { length }) => (i === length - 1 ? { ...alias, data: target } : alias));
  return { ...message, answer: [...aliases, ...other.answer], truncated: other.truncated };
}

function codeOf(rcode: number, { codes }: Changes): number {
  return codes.toReversed().reduce((code, { from, to }) => (code === from ? to : code), rcode);
}

function told(message: Message, asked: Asked, changes: Changes): Outcome {
  const names = changes.names.toReversed();
  const { ttl } = changes;
  const rename = (name: DnsName, where: 'name' | 'value'): DnsName => {
    let text: string | undefined;
    for (const change of names) {
      if (change.where === 'both' || change.where === where)
        text = change.rename((text ?? nameText(name)).toLowerCase()) ?? text;
    }
    return (text === undefined ? undefined : parseName(text)) ?? name;
  };
  const retell = (record: OwnedRecord): ResourceRecord => {
    const owner = rename(record.owner, 'name');
    return {
      type: record.type,
      // The question's own name is told as it was asked, case and all.
      owner: lowerName(owner) === asked.query.key ? undefined : owner,
      ttl: ttl ? Math.min(Math.max(record.ttl, ttl.min), ttl.max) : record.ttl,
      data: names.length === 0 ? record.data : renamedData(record, (name) => rename(name, 'value')),
    };
  };
  const { answer, authority, additional } = message;
  return {
    kind: 'reply',
    reply: replyOf({
      ...message,
      rcode: codeOf(message.rcode, changes),
      answer: answer.map(retell),
      authority: authority.map(retell),
      additional: additional.map(retell),
    }),
  };
}

/** The first name in the data of those types that have one: of a SOA its primary server. */
function renamedData({ type, data }: OwnedRecord, rename: (name: DnsName) => DnsName): string {
  const shape = dataShape(type);
  if (!shape) return data;
  let end = shape.before;
  while (data.charCodeAt(end) > 0) end += 1 + data.charCodeAt(end);
  return data.slice(0, shape.before) + rename(data.slice(shape.before, end + 1) as DnsName) + data.slice(end + 1);
}
