// A typed reader over `unknown`. It knows where it stands in the object, so that every complaint names its field as
// the API server does (`spec.ports[0].port`), and how strict to be: an object of a manifest is refused when a field
// is wrong, one that an API server has accepted is taken as far as it can be understood.

import { parseCidrSloppy, type Cidr } from '../../lib/cidr.ts';
import { parseIpSloppy, type Ip } from '../../lib/ip.ts';
import { toPort, type Port } from '../../lib/port.ts';

/** `strict`: a wrong field refuses the object. `trusted`: a wrong field is left out, with a notice. */
export type ParseMode = 'strict' | 'trusted';

export type FieldKey = string | number;

export interface FieldError {
  /** `spec.ports[0].port`; empty for the object itself. */
  readonly path: string;
  /** What is wrong and what is allowed, in the API server's words. */
  readonly message: string;
  /** The path as keys and indexes, for finding its line in a file. */
  readonly keys: readonly FieldKey[];
}

/** What parsing one object gave. Notices tell what was left out or converted; the record is good without them. */
export type Parsed<T> =
  | { readonly ok: true; readonly record: T; readonly notices: readonly string[] }
  | { readonly ok: false; readonly errors: readonly FieldError[] };

interface Report {
  readonly mode: ParseMode;
  readonly errors: FieldError[];
  readonly notices: string[];
}

/** Runs a reader over a value. Undefined from `read` without any error is a bug of the reader, and is thrown as one. */
export function parseWith<T>(
  value: unknown,
  mode: ParseMode,
  read: (root: Field) => { readonly record: T } | undefined,
): Parsed<T> {
  const report: Report = { mode, errors: [], notices: [] };
  const root = new Field(value, undefined, '', report);
  if (!isObject(value)) root.refuse('must be an object');
  const result = isObject(value) ? read(root) : undefined;
  if (report.errors.length > 0) return { ok: false, errors: report.errors };
  if (!result) throw new Error('a reader gave neither a record nor an error');
  return { ok: true, record: result.record, notices: report.notices };
}

export class Field {
  readonly value: unknown;
  readonly #parent: Field | undefined;
  readonly #key: FieldKey;
  readonly #report: Report;
  #complained = false;

  constructor(value: unknown, parent: Field | undefined, key: FieldKey, report: Report) {
    this.value = value ?? undefined;
    this.#parent = parent;
    this.#key = key;
    this.#report = report;
  }

  get present(): boolean {
    return this.value !== undefined;
  }

  get strict(): boolean {
    return this.#report.mode === 'strict';
  }

  get keys(): readonly FieldKey[] {
    return this.#parent ? [...this.#parent.keys, this.#key] : [];
  }

  get path(): string {
    return formatPath(this.keys);
  }

  /** A field of an object. Absent when this is absent or no object; the latter is complained about once. */
  get(name: string): Field {
    if (this.present && !isObject(this.value)) this.#wrongType('an object');
    return new Field(isObject(this.value) ? this.value[name] : undefined, this, name, this.#report);
  }

  /** The items of a list; none when absent. */
  items(): readonly Field[] {
    if (!this.present) return [];
    if (!Array.isArray(this.value)) {
      this.#wrongType('a list');
      return [];
    }
    return this.value.map((item: unknown, index) => new Field(item, this, index, this.#report));
  }

  /** A string; undefined when absent or of another type. */
  text(): string | undefined {
    if (typeof this.value === 'string') return this.value;
    if (this.present) this.#wrongType('a string');
    return undefined;
  }

  /** A string that is not empty. */
  requiredText(hint = ''): string | undefined {
    const text = this.text();
    if (text !== undefined && text !== '') return text;
    if (!this.present || text === '') this.problem(`Required value${hint && `: ${hint}`}`);
    return undefined;
  }

  integer(): number | undefined {
    if (typeof this.value === 'number' && Number.isInteger(this.value)) return this.value;
    if (this.present) this.#wrongType('a whole number');
    return undefined;
  }

  boolean(): boolean | undefined {
    if (typeof this.value === 'boolean') return this.value;
    if (this.present) this.#wrongType('true or false');
    return undefined;
  }

  /** A map of strings (labels, annotations, `data`); empty when absent. */
  textMap(): ReadonlyMap<string, string> {
    const map = new Map<string, string>();
    for (const [key, field] of this.fields()) {
      const text = field.text();
      if (text !== undefined) map.set(key, text);
    }
    return map;
  }

  /** The fields of an object, whatever their names. */
  fields(): readonly (readonly [string, Field])[] {
    if (!this.present) return [];
    if (!isObject(this.value)) {
      this.#wrongType('an object');
      return [];
    }
    return Object.entries(this.value).map(([key, value]) => [key, new Field(value, this, key, this.#report)]);
  }

  /** In a manifest, tells of fields that the API does not have: most often a slip of the pen (`targetport`). */
  noticeUnknown(known: readonly string[]): void {
    if (!this.strict || !isObject(this.value)) return;
    for (const name of Object.keys(this.value)) {
      if (known.includes(name)) continue;
      const meant = known.find((other) => other.toLowerCase() === name.toLowerCase());
      this.get(name).notice(`unknown field, not read${meant === undefined ? '' : `: did you mean ${meant}?`}`);
    }
  }

  /** One of the values, or undefined when absent or another. */
  oneOf<T extends string>(allowed: readonly T[]): T | undefined {
    const text = this.text();
    if (text === undefined) return undefined;
    const found = allowed.find((value) => value === text);
    if (found === undefined) {
      const supported = [...allowed].sort().map((value) => JSON.stringify(value));
      this.problem(`Unsupported value: ${JSON.stringify(text)}: supported values: ${supported.join(', ')}`);
    }
    return found;
  }

  port(): Port | undefined {
    const number = this.integer();
    if (number === undefined) return undefined;
    const port = toPort(number);
    if (port === undefined) this.invalid('must be between 1 and 65535, inclusive');
    return port;
  }

  /** An address, read as the API reads old fields (leading zeros are decimal). */
  ip(): Ip | undefined {
    const text = this.text();
    if (text === undefined) return undefined;
    const ip = parseIpSloppy(text);
    if (!ip) this.invalid('must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)');
    return ip;
  }

  cidr(): Cidr | undefined {
    const text = this.text();
    if (text === undefined) return undefined;
    const cidr = parseCidrSloppy(text);
    if (!cidr) this.invalid('must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)');
    return cidr;
  }

  /** The value is not allowed: an error in strict mode, else a notice that it is left out. */
  invalid(allowed: string): void {
    this.problem(`Invalid value: ${showValue(this.value)}: ${allowed}`);
  }

  problem(message: string): void {
    if (this.strict) this.refuse(message);
    else this.notice(`${message} (left out)`);
  }

  /** An error in either mode: without this field there is no record. */
  refuse(message: string): void {
    this.#report.errors.push({ path: this.path, message, keys: this.keys });
  }

  notice(message: string): void {
    const path = this.path;
    this.#report.notices.push(path === '' ? message : `${path}: ${message}`);
  }

  #wrongType(wanted: string): void {
    if (this.#complained) return;
    this.#complained = true;
    this.invalid(`must be ${wanted}`);
  }
}

export function formatPath(keys: readonly FieldKey[]): string {
  let path = '';
  for (const key of keys) {
    if (typeof key === 'number') path += `[${key}]`;
    else if (/^[A-Za-z0-9_-]+$/.test(key)) path += path === '' ? key : `.${key}`;
    else path += `[${key}]`;
  }
  return path;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Long values are cut, so that a message stays one line. */
function showValue(value: unknown): string {
  const text = JSON.stringify(value) ?? 'null';
  return text.length <= 200 ? text : `${text.slice(0, 200)}…`;
}
