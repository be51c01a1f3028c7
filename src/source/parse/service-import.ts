import type { ImportedSliceRecord, ServiceImportRecord } from '../../model/records.ts';
import { parseEndpointSliceOf } from './endpoint-slice.ts';
import { readLabels, readMetadata } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';
import { PROTOCOLS } from './service.ts';

/** The label of a slice that other clusters' endpoints stand in (KEP-1645). */
export const IMPORTED_SERVICE_LABEL = 'multicluster.kubernetes.io/service-name';
const CLUSTER_LABEL = 'multicluster.kubernetes.io/source-cluster';

/** A `multicluster.x-k8s.io/v1alpha1` ServiceImport. */
export function parseServiceImport(value: unknown, mode: ParseMode): Parsed<ServiceImportRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    const spec = root.get('spec');
    const ips = spec
      .get('ips')
      .items()
      .flatMap((field) => field.ip() ?? []);
    return {
      record: {
        ...metadata,
        headless: spec.get('type').oneOf(['ClusterSetIP', 'Headless']) === 'Headless',
        ips,
        ports: spec
          .get('ports')
          .items()
          .flatMap((field) => readPort(field)),
      },
    };
  });
}

function readPort(field: Field): ServiceImportRecord['ports'] {
  const port = field.get('port').port();
  const protocolField = field.get('protocol');
  const protocol = protocolField.present ? protocolField.oneOf(PROTOCOLS) : 'TCP';
  return port === undefined || protocol === undefined ? [] : [{ name: field.get('name').text() ?? '', protocol, port }];
}

/** An EndpointSlice of another cluster; undefined for one that is none. */
export function parseImportedSlice(value: unknown, mode: ParseMode): Parsed<ImportedSliceRecord | undefined> {
  let cluster = '';
  const parsed = parseEndpointSliceOf(value, mode, (root) => {
    const labels = readLabels(root);
    cluster = labels.get(CLUSTER_LABEL) ?? '';
    return labels.get(IMPORTED_SERVICE_LABEL);
  });
  if (!parsed.ok) return parsed;
  const { record } = parsed;
  return { ...parsed, record: record && { ...record, cluster: cluster.toLowerCase() } };
}
