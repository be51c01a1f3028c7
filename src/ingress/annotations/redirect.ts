// app-root, permanent-redirect, temporal-redirect, ssl-redirect, from-to-www-redirect: answers instead of a backend.

import type { GlobalSettings } from '../global-settings.ts';
import type { SettingReader } from './reader.ts';
import { parseTemplate, type Template } from './template.ts';

export interface RedirectSettings {
  /** Where `/` goes, by 302. */
  readonly appRoot: Template | undefined;
  /** The whole location goes there. */
  readonly to: { readonly status: number; readonly url: Template } | undefined;
  /** Plain HTTP goes to HTTPS where the host has a `tls` entry; with `force` always. */
  readonly ssl: boolean;
  readonly force: boolean;
  readonly keepSlash: boolean;
  /** Redirects to a path stay paths, without scheme and host. */
  readonly relative: boolean;
  /** `www.host` goes to `host`, or the other way round. */
  readonly wwwRedirect: boolean;
}

export function readRedirects(reader: SettingReader, globals: GlobalSettings): RedirectSettings {
  const appRoot = reader.text('app-root');
  const rooted = appRoot === undefined || appRoot.startsWith('/');
  if (!rooted) reader.ignored('app-root', 'the value is a path and starts with /');
  // Read all four, so that none counts as unknown; the temporal one wins.
  const temporal = url(reader, 'temporal-redirect');
  const temporalCode = code(reader, 'temporal-redirect-code', 307, 302);
  const permanent = url(reader, 'permanent-redirect');
  const permanentCode = code(reader, 'permanent-redirect-code', 308, 301);
  return {
    appRoot: rooted ? url(reader, 'app-root') : undefined,
    to: temporal ? { status: temporalCode, url: temporal } : permanent && { status: permanentCode, url: permanent },
    ssl: reader.bool('ssl-redirect') ?? globals.sslRedirect,
    force: reader.bool('force-ssl-redirect') ?? globals.forceSslRedirect,
    keepSlash: reader.bool('preserve-trailing-slash') ?? globals.preserveTrailingSlash,
    relative: reader.bool('relative-redirects') ?? globals.relativeRedirects,
    wwwRedirect: reader.bool('from-to-www-redirect') ?? false,
  };
}

function url(reader: SettingReader, name: string): Template | undefined {
  const value = reader.text(name);
  if (value === undefined) return undefined;
  if (!/^[\u0021-\u007e]+$/.test(value))
    return reader.ignored(name, 'a URL holds neither spaces nor letters beyond ASCII');
  const parsed = parseTemplate(value);
  return parsed.kind === 'template'
    ? parsed.template
    : reader.ignored(name, `the variable $${parsed.variable} is not known`);
}

function code(reader: SettingReader, name: string, max: number, fallback: number): number {
  const value = reader.integer(name);
  if (value === undefined || (value >= 300 && value <= max)) return value ?? fallback;
  reader.ignored(name, `${value} is no redirect status from 300 to ${max}; ${fallback} is used`);
  return fallback;
}
