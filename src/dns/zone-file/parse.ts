// A master file → its records, or the first mistake in it.

import { recordData, ttlOf, type Word } from '../record-text.ts';
import { parseName, type DnsName } from '../wire/name.ts';
import type { OwnedRecord } from '../wire/message.ts';
import { CLASS_IN, RR, typeCode } from '../wire/types.ts';
import { generate } from './generate.ts';
import { scanZoneFile, type Entry } from './scan.ts';

export type ParsedZoneFile =
  | { readonly kind: 'records'; readonly records: readonly OwnedRecord[] }
  /** `file:line: what is wrong`. */
  | { readonly kind: 'mistake'; readonly message: string };

export interface ZoneFileSource {
  readonly text: string;
  readonly path: string;
  readonly origin: DnsName;
  /** The text of a file that `$INCLUDE` names, and its path; undefined when there is none. */
  readonly include: (path: string) => Promise<{ readonly path: string; readonly text: string } | undefined>;
}

const DEFAULT_TTL = 3600;
/** Files within files. */
const MOST_INCLUDES = 7;
const MOST_TTL = 0x7fffffff;
/** What a signed zone has; answers would have to carry the signatures. */
const SIGNED: ReadonlySet<string> = new Set(['RRSIG', 'NSEC', 'NSEC3', 'NSEC3PARAM', 'DNSKEY', 'CDS', 'CDNSKEY']);

interface State {
  origin: DnsName;
  ttl: number | undefined;
  owner: DnsName | undefined;
  lastTtl: number | undefined;
}

/** Never rejects but for what `include` throws. */
export async function parseZoneFile(source: ZoneFileSource): Promise<ParsedZoneFile> {
  const records: OwnedRecord[] = [];
  const state: State = { origin: source.origin, ttl: undefined, owner: undefined, lastTtl: undefined };
  const mistake = await readInto(records, source, state, 0);
  return mistake === undefined ? { kind: 'records', records } : { kind: 'mistake', message: mistake };
}

async function readInto(
  records: OwnedRecord[],
  source: ZoneFileSource,
  state: State,
  depth: number,
): Promise<string | undefined> {
  const scanned = scanZoneFile(source.text);
  if (scanned.kind === 'mistake') return `${source.path}:${scanned.line}: ${scanned.what}`;
  for (const entry of scanned.entries) {
    const what = entry.words[0]?.text.startsWith('$')
      ? await directive(records, entry, source, state, depth)
      : record(records, entry, state);
    if (typeof what === 'string') return `${source.path}:${entry.line}: ${what}`;
    if (what) return what.message;
  }
  return undefined;
}

async function directive(
  records: OwnedRecord[],
  { words, line }: Entry,
  source: ZoneFileSource,
  state: State,
  depth: number,
): Promise<string | { readonly message: string } | undefined> {
  const [name = '', value, second] = words.map(({ text }) => text);
  switch (name.toUpperCase()) {
    case '$ORIGIN': {
      const origin = value === undefined ? undefined : nameIn(state.origin)(value);
      if (origin === undefined) return '$ORIGIN takes a name';
      state.origin = origin;
      return undefined;
    }
    case '$TTL': {
      const ttl = ttlOf(value ?? '');
      if (ttl === undefined || ttl > MOST_TTL) return '$TTL takes a number of seconds, such as 3600 or 1h';
      state.ttl = ttl;
      return undefined;
    }
    case '$INCLUDE': {
      if (depth >= MOST_INCLUDES) return '$INCLUDE: files include each other too deep';
      const found = value === undefined ? undefined : await source.include(value);
      if (!found) return `$INCLUDE: there is no file ${value ?? ''}`;
      const origin = second === undefined ? state.origin : nameIn(state.origin)(second);
      if (origin === undefined) return `"${second}" is no name`;
      // What the file says of origin and owner ends with it (RFC 1035 section 5.1).
      const message = await readInto(records, { ...source, ...found }, { ...state, origin }, depth + 1);
      return message === undefined ? undefined : { message };
    }
    case '$GENERATE': {
      const generated = generate(words.slice(1));
      if (generated.kind === 'mistake') return generated.what;
      for (const made of generated.lines) {
        const what = record(records, { line, words: made, sameOwner: false }, state);
        if (what !== undefined) return `$GENERATE, ${made.map(({ text }) => text).join(' ')}: ${what}`;
      }
      return undefined;
    }
    default:
      return `${name} is unknown; there are: $ORIGIN, $TTL, $INCLUDE, $GENERATE`;
  }
}

/** A name as the file writes it: without a final dot it goes on with the origin, and `@` is the origin. */
function nameIn(origin: DnsName): (text: string) => DnsName | undefined {
  return (text) => {
    if (text === '@') return origin;
    const name = parseName(text);
    if (name === undefined || /(?:^|[^\\])\.$/.test(text)) return name;
    const whole = name.slice(0, -1) + origin;
    return whole.length > 255 ? undefined : (whole as DnsName);
  };
}

/** `[OWNER] [TTL] [CLASS] TYPE DATA`, TTL and class in any order. */
function record(records: OwnedRecord[], { words, sameOwner }: Entry, state: State): string | undefined {
  let rest: readonly Word[] = words;
  if (!sameOwner) {
    const [first] = words;
    const owner = nameIn(state.origin)(first?.text ?? '');
    if (owner === undefined) return `"${first?.text}" is no name`;
    state.owner = owner;
    rest = words.slice(1);
  }
  if (state.owner === undefined) return 'the first record needs a name';
  let ttl: number | undefined;
  let typeWord = rest[0]?.text ?? '';
  for (; rest.length > 0; rest = rest.slice(1)) {
    typeWord = rest[0]?.text ?? '';
    const upper = typeWord.toUpperCase();
    if (upper === 'IN') continue;
    if (upper === 'CH' || upper === 'HS' || upper === 'CS') return `class ${upper} is not served from a file`;
    const seconds = typeCode(typeWord) === undefined ? ttlOf(typeWord) : undefined;
    if (seconds === undefined) break;
    if (seconds > MOST_TTL) return `the TTL ${typeWord} is more than 2147483647 seconds`;
    ttl = seconds;
  }
  if (SIGNED.has(typeWord.toUpperCase()))
    return `${typeWord.toUpperCase()}: signed zones are not built yet; serve the zone unsigned`;
  const type = typeCode(typeWord);
  if (type === undefined) return `"${typeWord}" is no record type`;
  const data = recordData(type, rest.slice(1), nameIn(state.origin));
  if (data === undefined) return `this is no data of a record of type ${typeWord.toUpperCase()}`;
  const given = ttl ?? state.ttl ?? state.lastTtl ?? (type === RR.SOA ? minimumOf(data) : DEFAULT_TTL);
  state.lastTtl = given;
  records.push({ owner: state.owner, klass: CLASS_IN, type, ttl: given, data });
  return undefined;
}

function minimumOf(data: string): number {
  return Buffer.from(data.slice(-4), 'latin1').readUInt32BE(0);
}
