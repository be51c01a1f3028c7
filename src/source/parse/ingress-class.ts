import type { IngressClassRecord } from '../../model/records.ts';
import { readAnnotation, readMetadata } from './metadata.ts';
import { parseWith, type Parsed, type ParseMode } from './reader.ts';

/** A `networking.k8s.io/v1` IngressClass. */
export function parseIngressClass(value: unknown, mode: ParseMode): Parsed<IngressClassRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'cluster');
    const controller = root.get('spec').get('controller').requiredText('the controller that carries this class');
    return (
      metadata && {
        record: {
          name: metadata.name,
          controller: controller ?? '',
          isDefault: readAnnotation(root, 'ingressclass.kubernetes.io/is-default-class') === 'true',
        },
      }
    );
  });
}
