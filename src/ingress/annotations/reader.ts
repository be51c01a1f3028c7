// Values of annotations and ConfigMap keys. As ingress-nginx: what cannot be read counts as not given, and is told of; for
// what guards a location that would be an open door, so a guard asks `broken` and shuts it.

import { cidrOfIp, parseCidr, type Cidr } from '../../lib/cidr.ts';
import { parseIp } from '../../lib/ip.ts';

/** What is wrong with one setting. */
export interface Problem {
  /** The annotation without its prefix, or the ConfigMap key. */
  readonly name: string;
  readonly reason: string;
  /** `denied`: the location answers 503 because of it; `ignored`: it has no effect. */
  readonly effect: 'denied' | 'ignored';
  /** Nothing is wrong with the value: this version does not know the name. */
  readonly unknown?: true;
}

/** Of nginx: a month has 30 days and a year 365. */
const TIME_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  M: 2_592_000_000,
  y: 31_536_000_000,
};

export class SettingReader {
  readonly problems: Problem[] = [];
  readonly #text: (name: string) => string | undefined;
  readonly #seen = new Set<string>();

  constructor(text: (name: string) => string | undefined) {
    this.#text = text;
  }

  /** The names that were asked for. */
  get seen(): ReadonlySet<string> {
    return this.#seen;
  }

  /** It is given, whatever its value is. */
  has(name: string): boolean {
    return this.#text(name) !== undefined;
  }

  get denied(): boolean {
    return this.problems.some(({ effect }) => effect === 'denied');
  }

  ignored(name: string, reason: string): undefined {
    this.problems.push({ name, reason, effect: 'ignored' });
    return undefined;
  }

  unknown(name: string, reason: string): void {
    this.problems.push({ name, reason, effect: 'ignored', unknown: true });
  }

  denies(name: string, reason: string): undefined {
    this.problems.push({ name, reason, effect: 'denied' });
    return undefined;
  }

  /** The value without the space around it; undefined when it is empty or holds what no setting may hold. */
  text(name: string): string | undefined {
    this.#seen.add(name);
    const value = this.#text(name)?.trim();
    if (value === undefined || value === '') return undefined;
    // Header fields are written a byte a character: beyond ASCII, U+200A would become a line break.
    if (/^[\u0020-\u007e]*$/.test(value)) return value;
    return this.ignored(name, 'the value holds a line break, a control character or a character beyond ASCII');
  }

  /** A value of several lines, for those who read them by a grammar of their own. */
  lines(name: string): string | undefined {
    this.#seen.add(name);
    const value = this.#text(name)?.trim();
    return value === '' ? undefined : value;
  }

  /** As `text`, for what guards a location: a value that cannot be read shuts the location. */
  guard(name: string): string | undefined {
    const before = this.problems.length;
    const value = this.text(name);
    const problem = this.problems[before];
    if (problem) this.problems[before] = { ...problem, effect: 'denied' };
    return value;
  }

  bool(name: string): boolean | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    // As Go's strconv.ParseBool.
    if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true;
    if (/^(0|f|F|FALSE|false|False)$/.test(value)) return false;
    return this.ignored(name, `${JSON.stringify(value)} is neither "true" nor "false"`);
  }

  integer(name: string, max = 2 ** 31 - 1): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const number = /^[0-9]{1,10}$/.test(value) ? Number(value) : Number.NaN;
    return number <= max ? number : this.ignored(name, `${JSON.stringify(value)} is no number from 0 to ${max}`);
  }

  /** Bytes: digits with k, m or g. */
  size(name: string): number | undefined {
    const value = this.text(name);
    const match = value === undefined ? undefined : /^([0-9]{1,12})([kKmMgG]?)$/.exec(value);
    if (match === undefined) return undefined;
    if (match === null)
      return this.ignored(name, `${JSON.stringify(value)} is no size; write it as 8m, 512k or 0 for no limit`);
    const unit = { k: 1024, m: 1024 ** 2, g: 1024 ** 3 }[(match[2] ?? '').toLowerCase()] ?? 1;
    return Number(match[1]) * unit;
  }

  /** Milliseconds, of whole seconds (`60`, `60s`); 0 cannot be waited for and is refused. */
  seconds(name: string): number | undefined {
    const value = this.text(name);
    const match = value === undefined ? undefined : /^([0-9]{1,7})s?$/.exec(value);
    if (match === undefined) return undefined;
    const seconds = match === null ? 0 : Number(match[1]);
    return seconds > 0
      ? seconds * 1000
      : this.ignored(name, `${JSON.stringify(value)} is no number of seconds above 0`);
  }

  /** Milliseconds, of a time as nginx writes it: `10m`, `1h 30m`, `500ms`; a bare number is seconds. */
  time(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const whole = /^(?:[0-9]{1,9}(?:ms|[smhdwMy])?\s*)+$/.test(value);
    const ms = [...value.matchAll(/([0-9]{1,9})(ms|[smhdwMy])?/g)].reduce(
      (sum, [, digits, unit = 's']) => sum + Number(digits) * (TIME_UNITS[unit] ?? 0),
      0,
    );
    return whole && ms > 0 && Number.isSafeInteger(ms)
      ? ms
      : this.ignored(name, `${JSON.stringify(value)} is no time above 0; write it as 30s, 10m or 1h`);
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const found = values.find((known) => known.toLowerCase() === value.toLowerCase());
    return found ?? this.ignored(name, `${JSON.stringify(value)} is none of ${values.join(', ')}`);
  }

  list(name: string): readonly string[] | undefined {
    return this.text(name)
      ?.split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  }

  /** Ranges and single addresses; one that cannot be read shuts the location. */
  ranges(name: string): readonly Cidr[] | undefined {
    const value = this.guard(name);
    if (value === undefined) return undefined;
    const ranges: Cidr[] = [];
    for (const part of value.split(',').map((text) => text.trim())) {
      if (part === '') continue;
      const ip = parseIp(part);
      const range = ip ? cidrOfIp(ip) : parseCidr(part);
      if (!range) return this.denies(name, `${JSON.stringify(part)} is no address range; write it as 10.0.0.0/8`);
      ranges.push(range);
    }
    return ranges.length > 0 ? ranges : undefined;
  }

  fieldName(name: string): string | undefined {
    const value = this.text(name);
    return value === undefined || isFieldName(value)
      ? value
      : this.ignored(name, `${JSON.stringify(value)} is no header name`);
  }
}

/** Letters, digits and hyphens: the names that the proxy passes on. */
export function isFieldName(text: string): boolean {
  return /^[A-Za-z0-9-]{1,128}$/.test(text);
}

/** `namespace/name`, or `name` in the given namespace; undefined for another form. */
export function objectRef(
  text: string,
  namespace: string,
): { readonly namespace: string; readonly key: string } | undefined {
  const match = /^(?:([a-z0-9][a-z0-9-]{0,62})\/)?([a-z0-9][a-z0-9.-]{0,252})$/.exec(text);
  if (!match?.[2]) return undefined;
  const where = match[1] ?? namespace;
  return { namespace: where, key: `${where}/${match[2]}` };
}
