// auth-url and what belongs to it: another service says whether a request may pass.

import { fieldNames } from './rewrite.ts';
import type { SettingReader } from './reader.ts';
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
}

export function readExternalAuth(reader: SettingReader): ExternalAuthSettings | undefined {
  const url = reader.guard('auth-url');
  const signin = template(reader, 'auth-signin');
  const parameter = reader.text('auth-signin-redirect-param') ?? 'rd';
  const method = reader.guard('auth-method')?.toUpperCase();
  const responseHeaders = fieldNames(reader, 'auth-response-headers');
  const requestRedirect = template(reader, 'auth-request-redirect');
  const alwaysSetCookie = reader.bool('auth-always-set-cookie') ?? false;
  if (url === undefined) return undefined;
  if (method !== undefined && !/^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(method)) {
    return reader.denies('auth-method', `${JSON.stringify(method)} is no method`);
  }
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(parameter)) {
    return reader.denies('auth-signin-redirect-param', 'a parameter name holds letters, digits and ._- only');
  }
  const match = /^(https?):\/\/([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(\/[\u0021-\u007e]*)?$/.exec(url);
  const port = Number(match?.[3] ?? (match?.[1] === 'https' ? 443 : 80));
  if (!match?.[2] || port < 1 || port > 65535) {
    return reader.denies(
      'auth-url',
      'it is no http or https URL with a fixed host; variables may stand in its path and query',
    );
  }
  const target = parseTemplate(match[4] ?? '/');
  if (target.kind === 'unknown') return reader.denies('auth-url', `the variable $${target.variable} is not known`);
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
  };
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
