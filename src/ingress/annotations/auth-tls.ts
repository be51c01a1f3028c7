// auth-tls-*: which client certificates a host asks for.

import type { ObjectKey } from '../../model/records.ts';
import { compileRegex, type LinearRegex } from '../../lib/linear-regex.ts';
import type { GlobalSettings } from '../global-settings.ts';
import { objectRef, type SettingReader } from './reader.ts';
import { parseTemplate, type Template } from './template.ts';

export interface ClientCertificateSettings {
  /** Holds `ca.crt`, and `ca.crl` if there is one. */
  readonly secret: ObjectKey;
  readonly verify: 'on' | 'optional' | 'optional_no_ca';
  /** Intermediate certificates between the client's and the authority's. */
  readonly depth: number;
  /** Where a client without a fitting certificate is sent instead of 400. */
  readonly errorPage: Template | undefined;
  /** The backend gets the certificate. */
  readonly pass: boolean;
  /** What the subject must match. */
  readonly matchCn: LinearRegex | undefined;
}

/** What cannot be read shuts the location. */
export function readClientCertificate(
  reader: SettingReader,
  globals: GlobalSettings,
  namespace: string,
): ClientCertificateSettings | undefined {
  const secret = reader.guard('auth-tls-secret');
  const verifyText = reader.guard('auth-tls-verify-client') ?? 'on';
  const errorPage = reader.guard('auth-tls-error-page');
  const matchText = reader.guard('auth-tls-match-cn');
  const depth = reader.integer('auth-tls-verify-depth', 20) ?? 1;
  const pass = reader.bool('auth-tls-pass-certificate-to-upstream') ?? false;
  if (secret === undefined) {
    const alone = verifyText !== 'off' && (reader.has('auth-tls-verify-client') || matchText !== undefined);
    return alone ? reader.denies('auth-tls-secret', 'it is missing; name the Secret with the authorities') : undefined;
  }
  if (verifyText === 'off') return undefined;
  if (verifyText !== 'on' && verifyText !== 'optional' && verifyText !== 'optional_no_ca') {
    return reader.denies(
      'auth-tls-verify-client',
      `${JSON.stringify(verifyText)} is none of on, off, optional, optional_no_ca`,
    );
  }
  const ref = objectRef(secret, namespace);
  if (!ref) return reader.denies('auth-tls-secret', 'it names no Secret; write namespace/name');
  if (ref.namespace !== namespace && !globals.allowCrossNamespace) {
    return reader.denies(
      'auth-tls-secret',
      'a Secret of another namespace needs allow-cross-namespace-resources in the ConfigMap',
    );
  }
  const page = errorPage === undefined ? undefined : parseTemplate(errorPage);
  if (page && page.kind !== 'template')
    return reader.denies('auth-tls-error-page', `the variable $${page.variable} is not known`);
  const match = matchText === undefined ? undefined : compileRegex(matchText, { ignoreCase: false, anchored: false });
  if (match?.kind === 'refused') return reader.denies('auth-tls-match-cn', match.reason);
  return { secret: ref.key, verify: verifyText, depth, errorPage: page?.template, pass, matchCn: match?.regex };
}
