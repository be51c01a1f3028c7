// affinity, affinity-mode, affinity-canary-behavior and session-cookie-*.

import type { SettingReader } from './reader.ts';

export interface AffinitySettings {
  /** `balanced` moves some clients when endpoints come; `persistent` moves one only when its endpoint is gone. */
  readonly mode: 'balanced' | 'persistent';
  readonly canary: 'sticky' | 'legacy';
  readonly cookie: string;
  /** Undefined: the path of the location. */
  readonly path: string | undefined;
  readonly domain: string | undefined;
  readonly expires: number | undefined;
  readonly maxAge: number | undefined;
  readonly sameSite: 'None' | 'Lax' | 'Strict' | undefined;
  readonly secure: boolean;
  /** A client whose endpoint fails is moved to the one that answers, for good. */
  readonly changeOnFailure: boolean;
}

export function readAffinity(reader: SettingReader): AffinitySettings | undefined {
  const affinity = reader.oneOf('affinity', ['cookie']);
  const mode = reader.oneOf('affinity-mode', ['balanced', 'persistent']) ?? 'balanced';
  const canary = reader.oneOf('affinity-canary-behavior', ['sticky', 'legacy']) ?? 'sticky';
  const cookie = matching(reader, 'session-cookie-name', /^[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}$/) ?? 'INGRESSCOOKIE';
  const path = matching(reader, 'session-cookie-path', /^\/[\u0021-\u003a\u003c-\u007e]*$/);
  const domain = matching(reader, 'session-cookie-domain', /^[A-Za-z0-9.-]{1,253}$/);
  const expires = reader.integer('session-cookie-expires');
  const maxAge = reader.integer('session-cookie-max-age');
  const sameSite = reader.oneOf('session-cookie-samesite', ['None', 'Lax', 'Strict']);
  const secure = reader.bool('session-cookie-secure') ?? false;
  const changeOnFailure = reader.bool('session-cookie-change-on-failure') ?? false;
  if (affinity === undefined) return undefined;
  return { changeOnFailure, mode, canary, cookie, path, domain, expires, maxAge, sameSite, secure };
}

function matching(reader: SettingReader, name: string, form: RegExp): string | undefined {
  const value = reader.text(name);
  return value === undefined || form.test(value)
    ? value
    : reader.ignored(name, `${JSON.stringify(value)} cannot stand in a cookie`);
}

/** The attributes of the cookie after its value. `now` in milliseconds since 1970. */
export function cookieAttributes(
  settings: AffinitySettings,
  locationPath: string,
  secure: boolean,
  now: number,
): string {
  const expires =
    settings.expires === undefined ? '' : `; Expires=${new Date(now + settings.expires * 1000).toUTCString()}`;
  const maxAge = settings.maxAge === undefined ? '' : `; Max-Age=${settings.maxAge}`;
  const domain = settings.domain === undefined ? '' : `; Domain=${settings.domain}`;
  const sameSite = settings.sameSite === undefined ? '' : `; SameSite=${settings.sameSite}`;
  // A location path is an Ingress author's text: what would end the attribute stays out.
  const path = settings.path ?? locationPath.replaceAll(/[^\u0021-\u003a\u003c-\u007e]/g, '');
  return `${expires}${maxAge}; Path=${path}${domain}${secure || settings.secure ? '; Secure' : ''}; HttpOnly${sameSite}`;
}
