// custom-headers: fields of a ConfigMap on every answer.

import type { ConfigMapRecord, ObjectKey } from '../../model/records.ts';
import type { GlobalSettings } from '../global-settings.ts';
import { isFieldName, objectRef, type SettingReader } from './reader.ts';

export function readCustomHeaders(
  reader: SettingReader,
  globals: GlobalSettings,
  namespace: string,
): ObjectKey | undefined {
  const value = reader.guard('custom-headers');
  if (value === undefined) return undefined;
  const ref = objectRef(value, namespace);
  if (!ref) return reader.denies('custom-headers', 'it names no ConfigMap; write it as namespace/name');
  if (ref.namespace !== namespace && !globals.allowCrossNamespace) {
    return reader.denies(
      'custom-headers',
      'a ConfigMap of another namespace needs allow-cross-namespace-resources in the ConfigMap of the controller',
    );
  }
  return ref.key;
}

export type HeaderLines =
  | { readonly kind: 'lines'; readonly lines: string; readonly names: readonly string[] }
  | { readonly kind: 'bad'; readonly reason: string };

/** The lines of a ConfigMap; `allowed` in lower case, undefined when every name may be. */
export function headerLines(map: ConfigMapRecord, allowed: readonly string[] | undefined): HeaderLines {
  const lines: string[] = [];
  for (const [name, value] of map.data) {
    if (!isFieldName(name)) return { kind: 'bad', reason: `${JSON.stringify(name)} is no header name` };
    if (FRAMING.test(name)) return { kind: 'bad', reason: `${name} is written by the proxy itself` };
    if (allowed && !allowed.includes(name.toLowerCase())) {
      return { kind: 'bad', reason: `${name} is not in global-allowed-response-headers` };
    }
    if (/[^\t\u0020-\u007e]/.test(value))
      return { kind: 'bad', reason: `the value of ${name} is not one line of ASCII` };
    lines.push(`${name}: ${value}\r\n`);
  }
  return { kind: 'lines', lines: lines.join(''), names: [...map.data.keys()].map((name) => name.toLowerCase()) };
}

/** Fields that say where an answer ends. */
const FRAMING = /^(content-length|transfer-encoding|connection|keep-alive|upgrade|trailer|te)$/i;
