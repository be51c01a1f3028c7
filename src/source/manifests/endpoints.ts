// The older Endpoints objects, turned into EndpointSlices as a cluster's mirroring controller does.

import { ipFamily, type IpFamily } from '../../lib/ip.ts';
import type { EndpointSliceRecord, SliceEndpoint, SlicePort } from '../../model/records.ts';
import { readLabels, readMetadata } from '../parse/metadata.ts';
import { parseWith, type Field, type Parsed } from '../parse/reader.ts';
import { PROTOCOLS } from '../parse/service.ts';

const FAMILIES: readonly IpFamily[] = [4, 6];

/** A `v1` Endpoints: one slice for each subset and family. Its name is that of the Service it belongs to. */
export function parseEndpoints(object: unknown): Parsed<readonly EndpointSliceRecord[]> {
  return parseWith<readonly EndpointSliceRecord[]>(object, 'strict', (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    if (readLabels(root).get('endpointslice.kubernetes.io/skip-mirror') === 'true') return { record: [] };
    const subsets = root.get('subsets').items();
    const slices = subsets.flatMap((subset, index) => {
      const ports = subset
        .get('ports')
        .items()
        .flatMap((port) => readPort(port) ?? []);
      const endpoints = [
        ...readAddresses(subset, 'addresses', true),
        ...readAddresses(subset, 'notReadyAddresses', false),
      ];
      return FAMILIES.flatMap((family) => {
        const own = endpoints.filter((endpoint) => ipFamily(endpoint.ip) === family);
        if (own.length === 0) return [];
        const name = `${metadata.name}-endpoints-${index + 1}-ipv${family}`;
        return [{ namespace: metadata.namespace, name, serviceName: metadata.name, family, ports, endpoints: own }];
      });
    });
    return { record: slices };
  });
}

function readPort(field: Field): SlicePort | undefined {
  const number = field.get('port');
  if (!number.present) number.problem('Required value');
  const port = number.port();
  const protocolField = field.get('protocol');
  const protocol = protocolField.present ? protocolField.oneOf(PROTOCOLS) : 'TCP';
  return port === undefined || !protocol ? undefined : { name: field.get('name').text() ?? '', protocol, port };
}

function readAddresses(
  subset: Field,
  list: 'addresses' | 'notReadyAddresses',
  ready: boolean,
): readonly SliceEndpoint[] {
  return subset
    .get(list)
    .items()
    .flatMap((field) => {
      const address = field.get('ip');
      if (!address.present) address.problem('Required value');
      const ip = address.ip();
      if (!ip) return [];
      const target = field.get('targetRef');
      return [
        {
          ip,
          ready,
          serving: ready,
          terminating: false,
          nodeName: field.get('nodeName').text(),
          zone: undefined,
          hostname: field.get('hostname').text(),
          podName: target.get('kind').value === 'Pod' ? target.get('name').text() : undefined,
          zoneHints: undefined,
          nodeHints: undefined,
        },
      ];
    });
}
