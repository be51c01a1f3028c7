import type { ServiceCidrRecord } from '../../model/records.ts';
import { readMetadata } from './metadata.ts';
import { parseWith, type Parsed, type ParseMode } from './reader.ts';

/** A `networking.k8s.io/v1` ServiceCIDR (KEP-1880). */
export function parseServiceCidr(value: unknown, mode: ParseMode): Parsed<ServiceCidrRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'cluster');
    const cidrs = root
      .get('spec')
      .get('cidrs')
      .items()
      .flatMap((field) => field.cidr() ?? []);
    return metadata && { record: { name: metadata.name, cidrs } };
  });
}
