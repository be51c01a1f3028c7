// Reading the words of a directive: numbers, durations, zones. Each mistake names its line.

import { originAt, ROOT, type DnsName } from '../wire/name.ts';
import { CorefileError, type Place } from './error.ts';
import { parseZone } from './key.ts';

const UNITS: ReadonlyMap<string, number> = new Map([
  ['ns', 1e-6],
  ['us', 1e-3],
  ['µs', 1e-3],
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** Go's form (`1h30m`, `5s`, `0`), in milliseconds. */
export function duration(text: string, place: Place): number {
  if (text === '0') return 0;
  if (!/^([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+$/.test(text))
    throw new CorefileError(place, `"${text}" is no duration: write it as 5s, 500ms or 1m30s`);
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)/g))
    sum += Number(number) * (UNITS.get(unit ?? '') ?? 0);
  return sum;
}

export function integer(text: string, place: Place, what: string, from: number, to: number): number {
  const value = /^-?[0-9]{1,15}$/.test(text) ? Number(text) : NaN;
  if (!(value >= from && value <= to))
    throw new CorefileError(place, `${what} is a number from ${from} to ${to}, not "${text}"`);
  return value;
}

/** The zones named, ranges as their reverse zones; `fallback` when none is named. */
export function zones(words: readonly string[], place: Place, fallback: readonly DnsName[]): readonly DnsName[] {
  if (words.length === 0) return fallback;
  return words.flatMap((word) => {
    const found = parseZone(word);
    if (!found) throw new CorefileError(place, `"${word}" is no zone`);
    return found;
  });
}

/** The longest of the zones that the name is in. Both in lower case. */
export function zoneOf(name: DnsName, among: readonly DnsName[]): DnsName | undefined {
  let best: DnsName | undefined;
  for (const zone of among) {
    if (best !== undefined && zone.length <= best.length) continue;
    if (zone === ROOT || originAt(name, zone) >= 0) best = zone;
  }
  return best;
}

/** Throws unless there are `from` to `to` words. */
export function count(words: readonly string[], place: Place, name: string, from: number, to = from): void {
  if (words.length >= from && words.length <= to) return;
  const wanted = from === to ? String(from) : to === Infinity ? `at least ${from}` : `${from} to ${to}`;
  throw new CorefileError(place, `${name} takes ${wanted} argument${wanted === '1' ? '' : 's'}, not ${words.length}`);
}

export function unknownOption(plugin: string, name: string, place: Place, known: readonly string[]): CorefileError {
  const there = known.length > 0 ? `there are: ${known.join(', ')}` : 'it has none';
  return new CorefileError(place, `${plugin} has no option "${name}"; ${there}`);
}

export function notBuilt(plugin: string, what: string, place: Place): CorefileError {
  return new CorefileError(place, `${plugin}: ${what} is not built yet; remove it`);
}
