import { ipFamily, type IpFamily } from '../../lib/ip.ts';
import type { EndpointSliceRecord, SliceEndpoint, SlicePort } from '../../model/records.ts';
import { readAnnotation, readLabels, readMetadata } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';
import { PROTOCOLS } from './service.ts';

/**
 * A `discovery.k8s.io/v1` EndpointSlice. The record is undefined for a slice that no Service leads to: of type FQDN,
 * or without the label `kubernetes.io/service-name`.
 */
export function parseEndpointSlice(value: unknown, mode: ParseMode): Parsed<EndpointSliceRecord | undefined> {
  return parseEndpointSliceOf(value, mode, (root) => readLabels(root).get('kubernetes.io/service-name'));
}

/** The same for slices that another label leads to; `serviceOf` gives the Service's name. */
export function parseEndpointSliceOf(
  value: unknown,
  mode: ParseMode,
  serviceOf: (root: Field) => string | undefined,
): Parsed<EndpointSliceRecord | undefined> {
  return parseWith<EndpointSliceRecord | undefined>(value, mode, (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    const typeField = root.get('addressType');
    if (!typeField.present) typeField.problem('Required value: supported values: "FQDN", "IPv4", "IPv6"');
    const type = typeField.oneOf(['IPv4', 'IPv6', 'FQDN']);
    const serviceName = serviceOf(root);
    if (!type || type === 'FQDN' || !serviceName) return { record: undefined };
    const family: IpFamily = type === 'IPv4' ? 4 : 6;
    return {
      record: {
        ...metadata,
        serviceName,
        family,
        ports: root
          .get('ports')
          .items()
          .flatMap((port) => readSlicePort(port) ?? []),
        endpoints: root
          .get('endpoints')
          .items()
          .flatMap((endpoint) => readEndpoint(endpoint, family) ?? []),
        lastChangeTriggerTime: readTriggerTime(root),
      },
    };
  });
}

/** A time that cannot be read counts as none: it is only measured with. */
function readTriggerTime(root: Field): number | undefined {
  const text = readAnnotation(root, 'endpoints.kubernetes.io/last-change-trigger-time');
  const at = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(at) ? undefined : at;
}

/** A port without a number means every port, which is nothing to connect to, and is left out without a word. */
function readSlicePort(field: Field): SlicePort | undefined {
  const nameField = field.get('name');
  // The API server always fills in the name; what stands in a file without one gets the empty name as it would.
  if (!nameField.present && !field.strict) return undefined;
  const portField = field.get('port');
  if (!portField.present || portField.value === 0) return undefined;
  const port = portField.port();
  const protocolField = field.get('protocol');
  const protocol = protocolField.present ? protocolField.oneOf(PROTOCOLS) : 'TCP';
  if (port === undefined || protocol === undefined) return undefined;
  return { name: nameField.text() ?? '', protocol, port };
}

function readEndpoint(field: Field, family: IpFamily): SliceEndpoint | undefined {
  const address = field.get('addresses').items()[0];
  if (!address) {
    field.get('addresses').problem('Required value: must contain at least 1 address');
    return undefined;
  }
  const ip = address.ip();
  if (!ip) return undefined;
  if (ipFamily(ip) !== family) {
    address.invalid(`must be an IPv${family} address, as addressType says`);
    return undefined;
  }
  const conditions = field.get('conditions');
  const target = field.get('targetRef');
  return {
    ip,
    ready: conditions.get('ready').boolean() ?? true,
    serving: conditions.get('serving').boolean() ?? true,
    terminating: conditions.get('terminating').boolean() ?? false,
    nodeName: field.get('nodeName').text(),
    zone: field.get('zone').text(),
    hostname: field.get('hostname').text(),
    podName: target.get('kind').value === 'Pod' ? target.get('name').text() : undefined,
    zoneHints: readHints(field.get('hints').get('forZones')),
    nodeHints: readHints(field.get('hints').get('forNodes')),
  };
}

function readHints(list: Field): readonly string[] | undefined {
  const names = list.items().flatMap((item) => item.get('name').text() ?? []);
  return names.length > 0 ? names : undefined;
}
