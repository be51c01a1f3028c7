import type { Ip } from '../../lib/ip.ts';
import type { PodRecord } from '../../model/records.ts';
import { readMetadata } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';

/** A `v1` Pod. The record is undefined while the Pod has no address, and once it has ended, is being deleted, or nothing is known of it. */
export function parsePod(value: unknown, mode: ParseMode): Parsed<PodRecord | undefined> {
  return parseWith<PodRecord | undefined>(value, mode, (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    // One that is being deleted may have lost its address to another already.
    const unknown = root.get('status').get('phase').value === 'Unknown';
    const gone = podEnded(root) || unknown || root.get('metadata').get('deletionTimestamp').present;
    const ip = gone ? undefined : readPodIPs(root)[0];
    return { record: ip && { ...metadata, ip } };
  });
}

export function podEnded(root: Field): boolean {
  const phase = root.get('status').get('phase').value;
  return phase === 'Succeeded' || phase === 'Failed';
}

/** `status.podIPs`, or the older `status.podIP`. */
export function readPodIPs(root: Field): readonly Ip[] {
  const status = root.get('status');
  const list = status
    .get('podIPs')
    .items()
    .map((item) => item.get('ip'));
  const fields = list.length > 0 ? list : [status.get('podIP')];
  return [...new Set(fields.flatMap((field) => (field.value === '' ? [] : (field.ip() ?? []))))];
}
