// auth-type, auth-secret, auth-secret-type, auth-realm.

import type { ObjectKey } from '../../model/records.ts';
import type { GlobalSettings } from '../global-settings.ts';
import { objectRef, type SettingReader } from './reader.ts';

export interface BasicAuthSettings {
  readonly scheme: 'basic' | 'digest';
  readonly secret: ObjectKey;
  /** `auth-file`: htpasswd lines under the key `auth`; `auth-map`: a user for each key. */
  readonly form: 'auth-file' | 'auth-map';
  readonly realm: string;
}

export function readBasicAuth(
  reader: SettingReader,
  globals: GlobalSettings,
  namespace: string,
): BasicAuthSettings | undefined {
  const type = reader.guard('auth-type');
  const secret = reader.guard('auth-secret');
  const formText = reader.guard('auth-secret-type') ?? 'auth-file';
  const realm = reader.guard('auth-realm') ?? '';
  if (type === undefined) {
    return secret === undefined
      ? undefined
      : reader.denies('auth-secret', 'auth-type is missing; give it the value basic or digest');
  }
  if (type !== 'basic' && type !== 'digest')
    return reader.denies('auth-type', `${JSON.stringify(type)} is neither basic nor digest`);
  if (/["\\]|[^\u0020-\u007e]/.test(realm)) {
    return reader.denies('auth-realm', 'a realm holds ASCII without quotes and backslashes');
  }
  if (formText !== 'auth-file' && formText !== 'auth-map') {
    return reader.denies('auth-secret-type', `${JSON.stringify(formText)} is neither auth-file nor auth-map`);
  }
  const ref = secret === undefined ? undefined : objectRef(secret, namespace);
  if (!ref) return reader.denies('auth-secret', 'it names no Secret; give the name of one in this namespace');
  if (ref.namespace !== namespace && !globals.allowCrossNamespace) {
    return reader.denies(
      'auth-secret',
      'a Secret of another namespace needs allow-cross-namespace-resources in the ConfigMap',
    );
  }
  return { scheme: type, secret: ref.key, form: formText, realm };
}
