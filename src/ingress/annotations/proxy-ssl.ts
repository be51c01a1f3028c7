// proxy-ssl-*: how a backend that speaks TLS is met.

import type { ObjectKey } from '../../model/records.ts';
import type { GlobalSettings } from '../global-settings.ts';
import { objectRef, type SettingReader } from './reader.ts';
import { readCipherList, readTlsVersions, type TlsVersions } from './tls-words.ts';

export interface BackendTlsSettings {
  /** Holds the client certificate (`tls.crt`, `tls.key`) and the authorities (`ca.crt`). */
  readonly secret: ObjectKey | undefined;
  readonly verify: boolean;
  /** Intermediate certificates between the backend's and the authority's. */
  readonly verifyDepth: number;
  /** The name that the certificate must have, and that the server is told with `sendName`. */
  readonly name: string | undefined;
  readonly sendName: boolean;
  readonly versions: TlsVersions;
  readonly ciphers: string | undefined;
}

/** As ingress-nginx without annotations: not verified, no name told. Its default for `proxy-ssl-protocols` is TLSv1.2. */
export const DEFAULT_BACKEND_TLS: BackendTlsSettings = {
  secret: undefined,
  verify: false,
  verifyDepth: 1,
  name: undefined,
  sendName: false,
  versions: { min: 'TLSv1.2', max: 'TLSv1.3' },
  ciphers: undefined,
};

/** What cannot be read guards the way to a backend, so it shuts the location. */
export function readBackendTls(reader: SettingReader, globals: GlobalSettings, namespace: string): BackendTlsSettings {
  const secretText = reader.guard('proxy-ssl-secret');
  const verify = onOff(reader, 'proxy-ssl-verify');
  const sendName = onOff(reader, 'proxy-ssl-server-name');
  const name = reader.guard('proxy-ssl-name');
  const ref = secretText === undefined ? undefined : objectRef(secretText, namespace);
  if (secretText !== undefined && !ref) reader.denies('proxy-ssl-secret', 'it names no Secret');
  if (ref && ref.namespace !== namespace && !globals.allowCrossNamespace) {
    reader.denies(
      'proxy-ssl-secret',
      'a Secret of another namespace needs allow-cross-namespace-resources in the ConfigMap',
    );
  }
  if (name !== undefined && !/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(name)) {
    reader.denies('proxy-ssl-name', `${JSON.stringify(name)} is no host name`);
  }
  if (verify && secretText === undefined) {
    reader.denies('proxy-ssl-verify', 'it needs the authorities: name a Secret with ca.crt in proxy-ssl-secret');
  }
  return {
    secret: ref?.key,
    verify,
    verifyDepth: reader.integer('proxy-ssl-verify-depth', 20) ?? DEFAULT_BACKEND_TLS.verifyDepth,
    name,
    sendName,
    versions: readTlsVersions(reader, 'proxy-ssl-protocols') ?? DEFAULT_BACKEND_TLS.versions,
    ciphers: readCipherList(reader, 'proxy-ssl-ciphers'),
  };
}

function onOff(reader: SettingReader, name: string): boolean {
  const value = reader.guard(name)?.toLowerCase();
  if (value === undefined || value === 'off' || value === 'false') return false;
  if (value === 'on' || value === 'true') return true;
  reader.denies(name, `${JSON.stringify(value)} is neither "on" nor "off"`);
  return false;
}
