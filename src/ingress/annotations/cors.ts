// enable-cors and cors-*: fields on every answer, and preflights answered here.

import type { SettingReader } from './reader.ts';

type OriginRule =
  | { readonly kind: 'any' }
  | { readonly kind: 'exact'; readonly origin: string }
  /** One label before `suffix`. */
  | { readonly kind: 'wildcard'; readonly scheme: string; readonly suffix: string };

export interface CorsSettings {
  readonly origins: readonly OriginRule[];
  /** The lines that every answer to an allowed origin has, after Access-Control-Allow-Origin. */
  readonly fields: string;
  readonly maxAge: number;
  readonly methods: string;
  readonly headers: string;
}

const METHODS = 'GET, PUT, POST, DELETE, PATCH, OPTIONS';
const HEADERS =
  'DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization';

export function readCors(reader: SettingReader): CorsSettings | undefined {
  const enabled = reader.bool('enable-cors') ?? false;
  const origins = reader.list('cors-allow-origin');
  const methods = words(reader, 'cors-allow-methods', /^[A-Za-z]+(\s*,\s*[A-Za-z]+)*$/) ?? METHODS;
  const headers = words(reader, 'cors-allow-headers', /^[A-Za-z0-9\-_]+(\s*,\s*[A-Za-z0-9\-_]+)*$/) ?? HEADERS;
  const credentials = reader.bool('cors-allow-credentials') ?? true;
  const expose = words(reader, 'cors-expose-headers', /^(\*|[A-Za-z0-9\-_]+)(\s*,\s*(\*|[A-Za-z0-9\-_]+))*$/);
  const maxAge = reader.integer('cors-max-age') ?? 1_728_000;
  if (!enabled) return undefined;
  const rules = (origins ?? ['*']).flatMap((word) => originRule(word) ?? wrongOrigin(reader, word));
  return {
    origins: rules,
    fields:
      (credentials ? 'Access-Control-Allow-Credentials: true\r\n' : '') +
      (expose === undefined ? '' : `Access-Control-Expose-Headers: ${expose}\r\n`),
    methods,
    headers,
    maxAge,
  };
}

/** The lines for an answer to this Origin; empty when it is not allowed. */
export function corsFields(cors: CorsSettings, origin: string | undefined, preflight: boolean): string {
  const any = cors.origins.some(({ kind }) => kind === 'any');
  const allowed = any
    ? '*'
    : origin !== undefined && cors.origins.some((rule) => takes(rule, origin))
      ? origin
      : undefined;
  if (allowed === undefined) return '';
  // The answer depends on Origin: a shared cache must know.
  const vary = any ? '' : 'Vary: Origin\r\n';
  const ask = preflight
    ? `Access-Control-Allow-Methods: ${cors.methods}\r\nAccess-Control-Allow-Headers: ${cors.headers}\r\nAccess-Control-Max-Age: ${cors.maxAge}\r\n`
    : '';
  return `Access-Control-Allow-Origin: ${allowed}\r\n${cors.fields}${ask}${vary}`;
}

function originRule(text: string): OriginRule | undefined {
  if (text === '*') return { kind: 'any' };
  if (text === 'null') return { kind: 'exact', origin: 'null' };
  const match = /^([A-Za-z][A-Za-z0-9+.-]*:\/\/)(\*\.)?([A-Za-z0-9.-]+(?::[0-9]{1,5})?)$/.exec(text);
  if (!match?.[1] || !match[3]) return undefined;
  return match[2] === undefined
    ? { kind: 'exact', origin: text.toLowerCase() }
    : { kind: 'wildcard', scheme: match[1].toLowerCase(), suffix: `.${match[3].toLowerCase()}` };
}

/** ingress-nginx leaves the start of its expression open, so that `https://evil.test?https://good` passes; here all of it has to fit. */
function takes(rule: OriginRule, origin: string): boolean {
  const text = origin.toLowerCase();
  switch (rule.kind) {
    case 'any':
      return true;
    case 'exact':
      return text === rule.origin;
    case 'wildcard':
      return (
        text.startsWith(rule.scheme) &&
        text.endsWith(rule.suffix) &&
        /^[a-z0-9-]+$/.test(text.slice(rule.scheme.length, text.length - rule.suffix.length))
      );
  }
}

function wrongOrigin(reader: SettingReader, word: string): readonly OriginRule[] {
  reader.ignored('cors-allow-origin', `${JSON.stringify(word)} is no origin; write it as https://app.example.com`);
  return [];
}

function words(reader: SettingReader, name: string, form: RegExp): string | undefined {
  const value = reader.text(name);
  return value === undefined || form.test(value)
    ? value
    : reader.ignored(name, `${JSON.stringify(value)} is no list of names with commas between them`);
}
