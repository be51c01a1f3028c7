// ConfigMap keys of gzip and brotli.

import { compileRegex, type LinearRegex } from '../lib/linear-regex.ts';
import type { SettingReader } from './annotations/reader.ts';
import type { CodingRules, Compression } from './http/compression.ts';

/** ingress-nginx' gzip-types and brotli-types. */
const TYPES =
  'application/atom+xml application/javascript application/x-javascript application/json application/rss+xml application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component';

/** Undefined when neither is on. */
export function readCompression(reader: SettingReader): Compression | undefined {
  const gzip = rulesOf(reader, 'gzip', { level: 1, lowest: 1, highest: 9, minLength: 256 });
  const brotli = rulesOf(reader, 'brotli', { level: 4, lowest: 0, highest: 11, minLength: 20 });
  const notFor = readNotFor(reader);
  const gzipOn = reader.bool('use-gzip') ?? false;
  const brotliOn = reader.bool('enable-brotli') ?? false;
  if (!gzipOn && !brotliOn) return undefined;
  return { gzip: gzipOn ? gzip : undefined, brotli: brotliOn ? brotli : undefined, notFor };
}

interface Defaults {
  readonly level: number;
  readonly lowest: number;
  readonly highest: number;
  readonly minLength: number;
}

function rulesOf(reader: SettingReader, name: string, defaults: Defaults): CodingRules {
  const { lowest, highest } = defaults;
  const given = reader.integer(`${name}-level`);
  const level = given === undefined || (given >= lowest && given <= highest) ? given : undefined;
  if (given !== level) reader.ignored(`${name}-level`, `it is not between ${lowest} and ${highest}`);
  const minLength = reader.integer(`${name}-min-length`) ?? defaults.minLength;
  const types = (reader.text(`${name}-types`) ?? TYPES).toLowerCase().split(/\s+/);
  // nginx adds this one always.
  return { level: level ?? defaults.level, minLength, types: new Set([...types, 'text/html']) };
}

/** Words of expressions that a User-Agent is held against. */
function readNotFor(reader: SettingReader): LinearRegex | undefined {
  const text = reader.text('gzip-disable');
  if (text === undefined) return undefined;
  // nginx' word for old browsers that could not read it.
  const source = text
    .split(/\s+/)
    .map((word) => (word === 'msie6' ? 'MSIE [4-6]\\.' : word))
    .join('|');
  const compiled = compileRegex(source, { ignoreCase: true, anchored: false });
  return compiled.kind === 'regex' ? compiled.regex : reader.ignored('gzip-disable', compiled.reason);
}
