// auth-url and what belongs to it: another service says whether a request may pass.

import { fieldNames } from './rewrite.ts';
import type { ObjectKey } from '../../model/records.ts';
import { objectRef, type SettingReader } from './reader.ts';
import { parseTemplate, type Template } from './template.ts';

export interface ExternalAuthSettings {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** The Host field of the question: without a port that goes without saying. */
  readonly authority: string;
  /** Path and query. */
  readonly target: Template;
  readonly method: string | undefined;
  readonly signin: Template | undefined;
  readonly signinParameter: string;
  /** Fields of the verdict that go to the backend in place of the client's. */
  readonly responseHeaders: readonly string[];
  readonly requestRedirect: Template | undefined;
  readonly alwaysSetCookie: boolean;
  /** auth-cache-key: verdicts are kept under it, each status for so many milliseconds. */
  readonly cacheKey: Template | undefined;
  readonly cacheFor: ReadonlyMap<number, number>;
  /** The ConfigMap of auth-proxy-set-headers. */
  readonly setHeaders: ObjectKey | undefined;
}

export interface ExternalAuthPlace {
  /** `global-` for the keys of the ConfigMap. */
  readonly prefix: '' | 'global-';
  readonly namespace: string;
  readonly allowCrossNamespace: boolean;
}

export function readExternalAuth(
  reader: SettingReader,
  { prefix, namespace, allowCrossNamespace }: ExternalAuthPlace,
): ExternalAuthSettings | undefined {
  const url = reader.guard(`${prefix}auth-url`);
  const signin = template(reader, `${prefix}auth-signin`);
  const parameter = reader.text(`${prefix}auth-signin-redirect-param`) ?? 'rd';
  const method = reader.guard(`${prefix}auth-method`)?.toUpperCase();
  const responseHeaders = fieldNames(reader, `${prefix}auth-response-headers`);
  const requestRedirect = template(reader, `${prefix}auth-request-redirect`);
  const alwaysSetCookie = reader.bool(`${prefix}auth-always-set-cookie`) ?? false;
  const cacheKey = template(reader, `${prefix}auth-cache-key`);
  const cacheFor = cacheTimes(reader, `${prefix}auth-cache-duration`);
  const setHeaders = prefix === '' ? headersRef(reader, namespace, allowCrossNamespace) : undefined;
  if (url === undefined) return undefined;
  if (method !== undefined && !/^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(method)) {
    return reader.denies(`${prefix}auth-method`, `${JSON.stringify(method)} is no method`);
  }
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(parameter)) {
    return reader.denies(`${prefix}auth-signin-redirect-param`, 'a parameter name holds letters, digits and ._- only');
  }
  const match = /^(https?):\/\/([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(\/[\u0021-\u007e]*)?$/.exec(url);
  const port = Number(match?.[3] ?? (match?.[1] === 'https' ? 443 : 80));
  if (!match?.[2] || port < 1 || port > 65535) {
    return reader.denies(
      `${prefix}auth-url`,
      'it is no http or https URL with a fixed host; variables may stand in its path and query',
    );
  }
  const target = parseTemplate(match[4] ?? '/');
  if (target.kind === 'unknown')
    return reader.denies(`${prefix}auth-url`, `the variable $${target.variable} is not known`);
  return {
    secure: match[1] === 'https',
    host: match[2].replace(/^\[|\]$/g, ''),
    port,
    authority: match[3] === undefined ? match[2] : `${match[2]}:${match[3]}`,
    target: target.template,
    method,
    signin,
    signinParameter: parameter,
    responseHeaders,
    requestRedirect,
    alwaysSetCookie,
    cacheKey,
    cacheFor,
    setHeaders,
  };
}

/** As nginx' proxy_cache_valid: `200 202 401 5m, 403 30s`. */
function cacheTimes(reader: SettingReader, name: string): ReadonlyMap<number, number> {
  const times = new Map<number, number>();
  for (const part of reader.list(name) ?? ['200 202 401 5m']) {
    const words = part.split(/\s+/);
    const match = /^([0-9]{1,6})(s|m|h|d)?$/.exec(words.at(-1) ?? '');
    const codes = words.slice(0, -1);
    if (!match || codes.length === 0 || !codes.every((code) => /^[1-5][0-9]{2}$/.test(code))) {
      reader.ignored(name, `${JSON.stringify(part)} is not statuses and a time, such as 200 202 5m`);
      continue;
    }
    const unit = { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] ?? 's'] ?? 1;
    for (const code of codes) times.set(Number(code), Number(match[1]) * unit * 1000);
  }
  return times;
}

function headersRef(reader: SettingReader, namespace: string, allowCrossNamespace: boolean): ObjectKey | undefined {
  const value = reader.guard('auth-proxy-set-headers');
  if (value === undefined) return undefined;
  const ref = objectRef(value, namespace);
  if (!ref) return reader.denies('auth-proxy-set-headers', 'it names no ConfigMap; write it as namespace/name');
  if (ref.namespace === namespace || allowCrossNamespace) return ref.key;
  return reader.denies(
    'auth-proxy-set-headers',
    'a ConfigMap of another namespace needs allow-cross-namespace-resources',
  );
}

function template(reader: SettingReader, name: string): Template | undefined {
  const value = reader.guard(name);
  if (value === undefined) return undefined;
  if (!/^[\u0021-\u007e]+$/.test(value)) return reader.denies(name, 'it holds spaces or letters beyond ASCII');
  const parsed = parseTemplate(value);
  return parsed.kind === 'template'
    ? parsed.template
    : reader.denies(name, `the variable $${parsed.variable} is not known`);
}
