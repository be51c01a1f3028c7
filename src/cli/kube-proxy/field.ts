// The kinds of field that a KubeProxyConfiguration has: what is accepted, and how a value is written again.

import { formatGoDuration, parseGoDuration } from '../../lib/go-duration.ts';

/**
 * What a change of the field brings about while the program runs. `live`: applied at once. `restart`: sockets, credentials or the backend
 * hang on it, so the program asks to be started again. `none`: it has no effect here at all.
 */
export type Change = 'live' | 'restart' | 'none';

export interface Leaf<T> {
  readonly kind: 'leaf';
  readonly change: Change;
  readonly fallback: T;
  /** Ends "must be …". */
  readonly wants: string;
  /** Of YAML or JSON; undefined when it is none of ours. */
  readonly read: (value: unknown) => T | undefined;
  /** Of a flag. */
  readonly readText: (text: string) => T | undefined;
  readonly write: (value: T) => unknown;
  /** kubeadm writes every field, with Go's zero value where nothing was said; such a value stands for the default. */
  readonly isUnset: (value: T) => boolean;
}

interface Options<T> {
  readonly change: Change;
  readonly fallback: T;
  readonly unset?: T;
}

function leaf<T>(
  options: Options<T>,
  wants: string,
  read: (value: unknown) => T | undefined,
  readText: (text: string) => T | undefined,
  write: (value: T) => unknown = (value) => value,
): Leaf<T> {
  const { change, fallback, unset } = options;
  return { kind: 'leaf', change, fallback, wants, read, readText, write, isUnset: (value) => value === unset };
}

const isText = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

/** An empty text stands for the default. */
export function text(change: Change, fallback = ''): Leaf<string> {
  return leaf({ change, fallback, unset: '' }, 'a text', isText, (word) => word);
}

export function yes(change: Change, fallback = false): Leaf<boolean> {
  return leaf(
    { change, fallback },
    'true or false',
    (value) => (typeof value === 'boolean' ? value : undefined),
    (word) => (/^(true|1)$/.test(word) ? true : /^(false|0)$/.test(word) ? false : undefined),
  );
}

/** A whole number; null stands for the default, and `unset` when it is given. */
export function integer(change: Change, fallback: number, unset?: number): Leaf<number> {
  return leaf(
    { change, fallback, ...(unset === undefined ? {} : { unset }) },
    'a whole number',
    (value) => (typeof value === 'number' && Number.isInteger(value) ? value : undefined),
    (word) => (/^-?[0-9]{1,10}$/.test(word) ? Number(word) : undefined),
  );
}

export function decimal(change: Change, fallback: number): Leaf<number> {
  return leaf(
    { change, fallback, unset: 0 },
    'a number',
    (value) => (typeof value === 'number' && Number.isFinite(value) ? value : undefined),
    (word) => (/^-?[0-9]+(\.[0-9]+)?$/.test(word) ? Number(word) : undefined),
  );
}

const DURATION = 'a duration such as 30s or 1h0m0s';

/** In milliseconds. `zero` says whether 0s is a value of its own or stands for the default. */
export function duration(change: Change, fallback: number, zero: 'is-unset' | 'is-a-value'): Leaf<number> {
  return leaf(
    { change, fallback, ...(zero === 'is-unset' ? { unset: 0 } : {}) },
    DURATION,
    (value) => (typeof value === 'string' ? parseGoDuration(value) : undefined),
    parseGoDuration,
    formatGoDuration,
  );
}

/** `logging.flushFrequency`: a duration, or a number of nanoseconds. */
export function durationOrNanoseconds(change: Change, fallback: number): Leaf<number> {
  return leaf(
    { change, fallback, unset: 0 },
    DURATION,
    (value) =>
      typeof value === 'string' ? parseGoDuration(value) : typeof value === 'number' ? value / 1e6 : undefined,
    parseGoDuration,
    formatGoDuration,
  );
}

/** A list of texts; null when there is none. */
export function texts(change: Change): Leaf<readonly string[] | null> {
  return leaf<readonly string[] | null>(
    { change, fallback: null },
    'a list of texts',
    (value) =>
      Array.isArray(value) && value.every((item): item is string => typeof item === 'string') ? value : undefined,
    (word) =>
      word
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== ''),
  );
}

export function flagMap(change: Change): Leaf<Readonly<Record<string, boolean>>> {
  return leaf<Readonly<Record<string, boolean>>>(
    { change, fallback: {} },
    'a map of names to true or false',
    (value) =>
      isRecord(value) && Object.values(value).every((item) => typeof item === 'boolean')
        ? (value as Readonly<Record<string, boolean>>)
        : undefined,
    (word) => {
      const pairs = word.split(',').map((part) => /^(\w+)=(true|false)$/.exec(part.trim()));
      if (pairs.some((pair) => pair === null)) return undefined;
      return Object.fromEntries(pairs.map((pair) => [pair?.[1] ?? '', pair?.[2] === 'true']));
    },
  );
}

/** Anything: for parts of logging that mean nothing here. */
export function anything(change: Change, fallback: unknown, wants: string): Leaf<unknown> {
  return leaf<unknown>(
    { change, fallback },
    wants,
    (value) => value ?? undefined,
    (word) => word,
  );
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
