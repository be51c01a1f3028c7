import type { Cidr } from '../../lib/cidr.ts';
import type { NodeRecord } from '../../model/records.ts';
import { readLabels, readMetadata } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';

/** The taint of the cluster autoscaler that takes a node out of load balancers (KEP-3836). */
const LEAVING_TAINT = 'ToBeDeletedByClusterAutoscaler';

/** A `v1` Node. */
export function parseNode(value: unknown, mode: ParseMode): Parsed<NodeRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'cluster');
    if (!metadata) return undefined;
    const spec = root.get('spec');
    const addresses = root.get('status').get('addresses').items();
    // Addresses of type Hostname and DNS are names; only the others are parsed.
    const ofType = (type: string) =>
      addresses.filter((item) => item.get('type').value === type).flatMap((item) => item.get('address').ip() ?? []);
    const tainted = spec
      .get('taints')
      .items()
      .some((taint) => taint.get('key').value === LEAVING_TAINT);
    return {
      record: {
        name: metadata.name,
        ips: [...ofType('InternalIP'), ...ofType('ExternalIP')],
        zone: readLabels(root).get('topology.kubernetes.io/zone'),
        podCIDRs: readPodCIDRs(spec),
        leaving: tainted || root.get('metadata').get('deletionTimestamp').present,
      },
    };
  });
}

function readPodCIDRs(spec: Field): readonly Cidr[] {
  const list = spec.get('podCIDRs').items();
  const fields = list.length > 0 ? list : [spec.get('podCIDR')];
  return fields.flatMap((field) => field.cidr() ?? []);
}
