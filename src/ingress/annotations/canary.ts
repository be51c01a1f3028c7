// canary and canary-*: a second Ingress for the same host and path takes a part of the requests.

import { compileRegex, type LinearRegex } from '../../lib/linear-regex.ts';
import { cookieValue } from './template.ts';
import type { SettingReader } from './reader.ts';

export interface CanarySettings {
  readonly header: string | undefined;
  readonly headerValue: string | undefined;
  /** `never`: the pattern cannot be used, so no request with the header is for the canary. */
  readonly headerPattern: LinearRegex | 'never' | undefined;
  readonly cookie: string | undefined;
  readonly weight: number;
  readonly weightTotal: number;
  /** affinity-canary-behavior legacy: who comes to the canary gets no cookie, and is not held there. */
  readonly legacyAffinity: boolean;
}

export function readCanary(reader: SettingReader): CanarySettings | undefined {
  const canary = reader.bool('canary') ?? false;
  const header = reader.fieldName('canary-by-header');
  const headerValue = reader.text('canary-by-header-value');
  const pattern = reader.text('canary-by-header-pattern');
  const cookie = reader.text('canary-by-cookie');
  const weight = reader.integer('canary-weight') ?? 0;
  const total = reader.integer('canary-weight-total') ?? 100;
  const compiled = pattern === undefined ? undefined : compileRegex(pattern, { ignoreCase: false, anchored: false });
  if (compiled?.kind === 'refused') reader.ignored('canary-by-header-pattern', compiled.reason);
  const behaviour = reader.oneOf('affinity-canary-behavior', ['sticky', 'legacy']);
  if (!canary) return undefined;
  return {
    header: header?.toLowerCase(),
    headerValue,
    headerPattern: compiled && (compiled.kind === 'regex' ? compiled.regex : 'never'),
    cookie,
    weight,
    weightTotal: Math.max(100, total),
    legacyAffinity: behaviour === 'legacy',
  };
}

/** Header, then cookie, then weight. `random` in [0, 1). */
export function goesToCanary(
  canary: CanarySettings,
  header: (name: string) => string | undefined,
  random: number,
): boolean {
  const given = canary.header === undefined ? undefined : header(canary.header);
  if (given !== undefined) {
    if (canary.headerValue !== undefined) {
      if (given === canary.headerValue) return true;
    } else if (canary.headerPattern !== undefined) {
      if (canary.headerPattern === 'never') return false;
      if (canary.headerPattern.test(given)) return true;
    } else if (given === 'always') return true;
    else if (given === 'never') return false;
  }
  if (canary.cookie !== undefined) {
    const value = cookieValue(header('cookie'), canary.cookie);
    if (value === 'always') return true;
    if (value === 'never') return false;
  }
  return random * canary.weightTotal < canary.weight;
}
