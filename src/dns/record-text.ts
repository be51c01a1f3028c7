// One resource record in the form of a zone file: `NAME TTL IN TYPE DATA`.

import { parseIp } from '../lib/ip.ts';
import { serviceParameters } from './service-parameters.ts';
import { parseName, type DnsName } from './wire/name.ts';
import { addressData, addressType, soaData, srvData, txtData, uint16, type ResourceRecord } from './wire/record.ts';
import { RR, typeCode } from './wire/types.ts';

/** A word of a record's line; `quoted` ones are text whatever they look like. */
export interface Word {
  readonly text: string;
  readonly quoted: boolean;
}

/** Undefined when the line is no record of a type that can be written so. Names are whole, with or without a final dot. */
export function parseRecord(line: string): ResourceRecord | undefined {
  const match = /^\s*(\S+)\s+(?:([0-9]{1,10})\s+)?(?:IN\s+)?([A-Za-z0-9]+)\s+(.*?)\s*$/s.exec(line);
  const owner = parseName(match?.[1] ?? '');
  const type = typeCode(match?.[3] ?? '');
  if (!match || !owner || type === undefined) return undefined;
  const data = recordData(type, wordsOf(match[4] ?? ''), (text) => parseName(text));
  return data === undefined ? undefined : { owner, ttl: Number(match[2] ?? 3600), type, data };
}

function wordsOf(text: string): readonly Word[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/gs)].map(([, quoted, bare]) => ({
    text: quoted ?? bare ?? '',
    quoted: quoted !== undefined,
  }));
}

/** A record's data of these words (RFC 1035 section 5, RFC 3597 section 5). `nameOf` reads a name. Undefined when they are none. */
export function recordData(
  type: number,
  words: readonly Word[],
  nameOf: (text: string) => DnsName | undefined,
): string | undefined {
  const texts = words.map(({ text }) => text);
  if (texts[0] === '\\#' && words[0]?.quoted === false) return genericData(texts.slice(1));
  const fields = new Fields(words, nameOf);
  const data = typedData(type, fields);
  return fields.allRead ? data : undefined;
}

/** Reads words from left to right; what does not fit makes the whole wrong. */
class Fields {
  readonly #words: readonly Word[];
  readonly #nameOf: (text: string) => DnsName | undefined;
  #at = 0;
  #wrong = false;

  constructor(words: readonly Word[], nameOf: (text: string) => DnsName | undefined) {
    this.#words = words;
    this.#nameOf = nameOf;
  }

  get allRead(): boolean {
    return !this.#wrong && this.#at === this.#words.length;
  }

  get #next(): string {
    const word = this.#words[this.#at++];
    if (!word) this.#wrong = true;
    return word?.text ?? '';
  }

  name(): string {
    const name = this.#nameOf(this.#next);
    if (name === undefined) this.#wrong = true;
    return name ?? '';
  }

  number(most: number): number {
    const text = this.#next;
    const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : NaN;
    if (!(value <= most)) this.#wrong = true;
    return value;
  }

  seconds(): number {
    const value = ttlOf(this.#next);
    if (value === undefined) this.#wrong = true;
    return value ?? 0;
  }

  text(): string {
    const bytes = characterString(this.#next);
    if (bytes === undefined) this.#wrong = true;
    return bytes ?? '';
  }

  address(type: number): string {
    const ip = parseIp(this.#next);
    if (ip && addressType(ip) === type) return addressData(ip);
    this.#wrong = true;
    return '';
  }

  /** The words that are left. */
  rest(): readonly Word[] {
    const rest = this.#words.slice(this.#at);
    this.#at = this.#words.length;
    if (rest.length === 0) this.#wrong = true;
    return rest;
  }

  hex(): string {
    const digits = this.rest()
      .map(({ text }) => text)
      .join('');
    if (!/^([0-9a-fA-F]{2})*$/.test(digits)) this.#wrong = true;
    return Buffer.from(digits, 'hex').toString('latin1');
  }

  fail(): string {
    this.#wrong = true;
    return '';
  }
}

function typedData(type: number, fields: Fields): string | undefined {
  switch (type) {
    case RR.A:
    case RR.AAAA:
      return fields.address(type);
    case RR.CNAME:
    case RR.DNAME:
    case RR.NS:
    case RR.PTR:
      return fields.name();
    case RR.MX:
      return uint16(fields.number(0xffff)) + fields.name();
    case RR.SRV:
      return srvData(
        fields.number(0xffff),
        fields.number(0xffff),
        fields.number(0xffff),
        // A name that is none makes the whole wrong.
        fields.name() as DnsName,
      );
    case RR.SOA:
      return soaData({
        primary: fields.name() as DnsName,
        mailbox: fields.name() as DnsName,
        serial: fields.number(0xffffffff),
        refresh: fields.seconds(),
        retry: fields.seconds(),
        expire: fields.seconds(),
        minimum: fields.seconds(),
      });
    case RR.TXT:
      return fields
        .rest()
        .map(({ text }) => stringData(text) ?? fields.fail())
        .join('');
    case RR.HINFO:
      return fields.text() + fields.text();
    case RR.CAA:
      return caaData(fields);
    case RR.NAPTR:
      return (
        uint16(fields.number(0xffff)) +
        uint16(fields.number(0xffff)) +
        fields.text() +
        fields.text() +
        fields.text() +
        fields.name()
      );
    case RR.SSHFP:
      return byte(fields.number(255)) + byte(fields.number(255)) + fields.hex();
    case RR.TLSA:
      return byte(fields.number(255)) + byte(fields.number(255)) + byte(fields.number(255)) + fields.hex();
    case RR.DS:
      return uint16(fields.number(0xffff)) + byte(fields.number(255)) + byte(fields.number(255)) + fields.hex();
    case RR.SVCB:
    case RR.HTTPS: {
      const head = uint16(fields.number(0xffff)) + fields.name();
      return head + (fields.allRead ? '' : (serviceParameters(fields.rest()) ?? fields.fail()));
    }
    default:
      return undefined;
  }
}

function byte(value: number): string {
  return String.fromCharCode(value & 0xff);
}

/** RFC 8659: flags, a tag with its length, and a value without. */
function caaData(fields: Fields): string {
  const flags = byte(fields.number(255));
  const [tag, value, ...more] = fields.rest();
  if (!tag || !value || more.length > 0 || !/^[A-Za-z0-9]{1,15}$/.test(tag.text)) return fields.fail();
  return flags + byte(tag.text.length) + tag.text + unescaped(value.text);
}

/** `\# LENGTH HEX` (RFC 3597 section 5). */
function genericData([length = '', ...hex]: readonly string[]): string | undefined {
  const digits = hex.join('');
  if (!/^([0-9a-fA-F]{2})*$/.test(digits) || Number(length) !== digits.length / 2) return undefined;
  return Buffer.from(digits, 'hex').toString('latin1');
}

/** A text is bytes: what is not ASCII is UTF-8. */
function unescaped(text: string): string {
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  return bytes.replace(/\\(?:([0-9]{3})|(.))/gs, (_, code?: string, char?: string) =>
    code === undefined ? (char ?? '') : String.fromCharCode(Number(code) & 0xff),
  );
}

/** One character-string, 255 bytes at most. */
function characterString(text: string): string | undefined {
  const bytes = unescaped(text);
  return bytes.length > 255 ? undefined : txtData(bytes);
}

/** A text of TXT: a longer one is more than one string. */
function stringData(text: string): string | undefined {
  const bytes = unescaped(text);
  if (bytes.length <= 255) return txtData(bytes);
  return bytes.length > 60_000 ? undefined : (bytes.match(/.{1,255}/gs) ?? []).map((part) => txtData(part)).join('');
}

const UNITS: ReadonlyMap<string, number> = new Map([
  ['s', 1],
  ['m', 60],
  ['h', 3600],
  ['d', 86_400],
  ['w', 604_800],
]);

/** `3600`, or with units as BIND has them (`1h30m`); seconds. */
export function ttlOf(text: string): number | undefined {
  if (/^[0-9]{1,10}$/.test(text)) return Number(text) <= 0xffffffff ? Number(text) : undefined;
  if (!/^(?:[0-9]{1,9}[smhdw])+$/i.test(text)) return undefined;
  let sum = 0;
  for (const [, number, unit] of text.toLowerCase().matchAll(/([0-9]+)([smhdw])/g))
    sum += Number(number) * (UNITS.get(unit ?? '') ?? 0);
  return sum <= 0xffffffff ? sum : undefined;
}
