import type { NamespaceRecord } from '../../model/records.ts';
import { readMetadata } from './metadata.ts';
import { parseWith, type Parsed, type ParseMode } from './reader.ts';

/** A `v1` Namespace. */
export function parseNamespace(value: unknown, mode: ParseMode): Parsed<NamespaceRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'cluster');
    return metadata && { record: { name: metadata.name } };
  });
}
