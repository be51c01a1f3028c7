import type { ConfigMapRecord } from '../../model/records.ts';
import { readMetadata } from './metadata.ts';
import { parseWith, type Parsed, type ParseMode } from './reader.ts';

/** A `v1` ConfigMap; `binaryData` is left out, nothing here reads it. */
export function parseConfigMap(value: unknown, mode: ParseMode): Parsed<ConfigMapRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'namespaced');
    return metadata && { record: { ...metadata, data: root.get('data').textMap() } };
  });
}
