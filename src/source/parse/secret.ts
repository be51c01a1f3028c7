import { Buffer } from 'node:buffer';
import type { SecretRecord } from '../../model/records.ts';
import { readMetadata } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** A `v1` Secret. `stringData`, which only stands in manifests, wins over `data`. No value ever appears in a message. */
export function parseSecret(value: unknown, mode: ParseMode): Parsed<SecretRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    const data = new Map<string, string>();
    for (const [key, field] of root.get('data').fields()) {
      const text = readBase64(field);
      if (text !== undefined) data.set(key, text);
    }
    for (const [key, field] of root.get('stringData').fields()) {
      if (typeof field.value === 'string') data.set(key, field.value);
      else field.problem('Invalid value: must be a string');
    }
    return { record: { ...metadata, type: root.get('type').text() ?? 'Opaque', data } };
  });
}

function readBase64(field: Field): string | undefined {
  if (!field.present) return '';
  const compact = typeof field.value === 'string' ? field.value.replaceAll(/\s/g, '') : undefined;
  if (compact === undefined || compact.length % 4 !== 0 || !BASE64.test(compact)) {
    field.problem('Invalid value: must be base64; plain text belongs under stringData');
    return undefined;
  }
  return Buffer.from(compact, 'base64').toString('utf8');
}
