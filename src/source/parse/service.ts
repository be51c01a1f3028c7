import type { Ip } from '../../lib/ip.ts';
import type { LoadBalancerIp, Protocol, ServicePortRecord, ServiceRecord } from '../../model/records.ts';
import { isLabel, isSubdomain, LABEL_RULE, readLabels, readMetadata, SUBDOMAIN_RULE } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';

const TYPES = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] as const;
const POLICIES = ['Cluster', 'Local'] as const;
export const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];

/** The API's default for `sessionAffinityConfig.clientIP.timeoutSeconds`, and the most that it allows. */
const AFFINITY_DEFAULT_SECONDS = 10_800;
const AFFINITY_MAX_SECONDS = 86_400;

const SPEC_FIELDS = [
  'allocateLoadBalancerNodePorts',
  'clusterIP',
  'clusterIPs',
  'externalIPs',
  'externalName',
  'externalTrafficPolicy',
  'healthCheckNodePort',
  'internalTrafficPolicy',
  'ipFamilies',
  'ipFamilyPolicy',
  'loadBalancerClass',
  'loadBalancerIP',
  'loadBalancerSourceRanges',
  'ports',
  'publishNotReadyAddresses',
  'selector',
  'sessionAffinity',
  'sessionAffinityConfig',
  'trafficDistribution',
  'type',
];
const PORT_FIELDS = ['appProtocol', 'name', 'nodePort', 'port', 'protocol', 'targetPort'];

/** A `v1` Service. Addresses and node ports are those that the object names; nothing is allocated here. */
export function parseService(value: unknown, mode: ParseMode): Parsed<ServiceRecord> {
  return parseWith(value, mode, (root) => {
    const record = readService(root);
    return record && { record };
  });
}

export function readService(root: Field): ServiceRecord | undefined {
  const metadata = readMetadata(root, 'namespaced');
  if (!metadata) return undefined;
  if (root.strict && !isLabel(metadata.name)) root.get('metadata').get('name').invalid(LABEL_RULE);
  const spec = root.get('spec');
  spec.noticeUnknown(SPEC_FIELDS);
  const type = spec.get('type').oneOf(TYPES) ?? 'ClusterIP';
  const headless = type !== 'ExternalName' && isHeadless(spec);
  const externalTrafficPolicy = spec.get('externalTrafficPolicy').oneOf(POLICIES) ?? 'Cluster';
  const hostnames = type === 'LoadBalancer' ? readLoadBalancerHostnames(root.get('status')) : [];
  return {
    ...metadata,
    type,
    clusterIPs: type === 'ExternalName' || headless ? [] : readClusterIPs(spec),
    headless,
    externalName: type === 'ExternalName' ? readExternalName(spec.get('externalName')) : undefined,
    externalIPs: readIps(spec.get('externalIPs')),
    loadBalancerIPs: type === 'LoadBalancer' ? readLoadBalancerIPs(root.get('status')) : [],
    ...(hostnames.length > 0 ? { loadBalancerHostnames: hostnames } : {}),
    sourceRanges:
      type === 'LoadBalancer'
        ? spec
            .get('loadBalancerSourceRanges')
            .items()
            .flatMap((range) => range.cidr() ?? [])
        : [],
    ports: readPorts(spec, type, headless),
    affinityTimeoutSeconds: readAffinity(spec),
    internalTrafficPolicy: spec.get('internalTrafficPolicy').oneOf(POLICIES) ?? 'Cluster',
    externalTrafficPolicy,
    healthCheckNodePort:
      type === 'LoadBalancer' && externalTrafficPolicy === 'Local'
        ? optionalPort(spec.get('healthCheckNodePort'))
        : undefined,
    proxyName: readLabels(root).get('service.kubernetes.io/service-proxy-name'),
  };
}

export function isHeadless(spec: Field): boolean {
  const first = spec.get('clusterIPs').items()[0];
  return spec.get('clusterIP').value === 'None' || first?.value === 'None';
}

/** `clusterIPs`, or the older `clusterIP` when that list is empty. An empty string asks for an allocation. */
function readClusterIPs(spec: Field): readonly Ip[] {
  const single = spec.get('clusterIP');
  const list = spec.get('clusterIPs').items();
  const fields = list.length > 0 ? list : [single];
  const ips = fields.flatMap((field) => (field.value === '' ? [] : (field.ip() ?? [])));
  if (spec.strict && list.length > 0 && single.present && single.value !== '' && single.value !== list[0]?.value) {
    single.invalid('must be the same as spec.clusterIPs[0]');
  }
  if (spec.strict && list.length > 2) spec.get('clusterIPs').invalid('may only hold up to 2 values');
  return ips;
}

function readIps(list: Field): readonly Ip[] {
  return [...new Set(list.items().flatMap((field) => field.ip() ?? []))];
}

/** Entries with only a hostname are nothing that a node can carry; `ipMode` unset means VIP (KEP-1860). */
function readLoadBalancerIPs(status: Field): readonly LoadBalancerIp[] {
  return status
    .get('loadBalancer')
    .get('ingress')
    .items()
    .flatMap((entry) => {
      const address = entry.get('ip');
      const ip = address.value === '' ? undefined : address.ip();
      return ip ? [{ ip, vip: entry.get('ipMode').oneOf(['VIP', 'Proxy']) !== 'Proxy' }] : [];
    });
}

/** Some clouds give names. */
function readLoadBalancerHostnames(status: Field): readonly string[] {
  return status
    .get('loadBalancer')
    .get('ingress')
    .items()
    .flatMap((entry) => {
      const name = entry.get('hostname').text();
      return name && !entry.get('ip').present ? [name] : [];
    });
}

function readPorts(spec: Field, type: ServiceRecord['type'], headless: boolean): readonly ServicePortRecord[] {
  const fields = spec.get('ports').items();
  if (spec.strict && fields.length === 0 && type !== 'ExternalName' && !headless) {
    spec.get('ports').problem('Required value: a Service needs a port unless it is headless or an ExternalName');
  }
  const names = new Set<string>();
  const numbers = new Set<string>();
  const hasNodePorts = type === 'NodePort' || type === 'LoadBalancer';
  return fields.flatMap((field) => {
    const port = readPort(field, hasNodePorts);
    if (!port) return [];
    if (field.strict) {
      checkPort(field, port, fields.length, hasNodePorts, names, numbers);
    }
    return [port];
  });
}

function readPort(field: Field, hasNodePorts: boolean): ServicePortRecord | undefined {
  field.noticeUnknown(PORT_FIELDS);
  const portField = field.get('port');
  if (!portField.present) portField.problem('Required value');
  const port = portField.port();
  const protocolField = field.get('protocol');
  const protocol = protocolField.present ? protocolField.oneOf(PROTOCOLS) : 'TCP';
  const nodePort = hasNodePorts ? optionalPort(field.get('nodePort')) : undefined;
  if (port === undefined || protocol === undefined) return undefined;
  return { name: field.get('name').text() ?? '', protocol, port, nodePort };
}

function checkPort(
  field: Field,
  port: ServicePortRecord,
  count: number,
  hasNodePorts: boolean,
  names: Set<string>,
  numbers: Set<string>,
): void {
  const nameField = field.get('name');
  if (port.name === '' && count > 1) nameField.problem('Required value: each of several ports needs a name');
  if (port.name !== '') {
    if (!isLabel(port.name)) nameField.invalid(LABEL_RULE);
    if (names.has(port.name)) nameField.problem(`Duplicate value: ${JSON.stringify(port.name)}`);
    names.add(port.name);
  }
  const number = `${port.port}/${port.protocol}`;
  if (numbers.has(number)) {
    field.problem(`Duplicate value: ${JSON.stringify({ protocol: port.protocol, port: port.port })}`);
  }
  numbers.add(number);
  const nodePort = field.get('nodePort');
  if (!hasNodePorts && nodePort.present && nodePort.value !== 0) {
    nodePort.problem("Forbidden: may not be used when 'type' is not NodePort or LoadBalancer");
  }
}

/** Zero asks for an allocation, as absence does. */
function optionalPort(field: Field): ServicePortRecord['nodePort'] {
  return field.value === 0 ? undefined : field.port();
}

function readAffinity(spec: Field): number | undefined {
  if (spec.get('sessionAffinity').oneOf(['None', 'ClientIP']) !== 'ClientIP') return undefined;
  const field = spec.get('sessionAffinityConfig').get('clientIP').get('timeoutSeconds');
  const seconds = field.integer();
  if (seconds === undefined) return AFFINITY_DEFAULT_SECONDS;
  if (seconds < 1 || seconds > AFFINITY_MAX_SECONDS) {
    field.invalid(`must be greater than 0 and less than or equal to ${AFFINITY_MAX_SECONDS}`);
    return AFFINITY_DEFAULT_SECONDS;
  }
  return seconds;
}

function readExternalName(field: Field): string | undefined {
  const name = field.requiredText('an ExternalName Service needs the name that it stands for');
  // A trailing dot is allowed, and means nothing here.
  const trimmed = name?.replace(/\.$/, '');
  if (trimmed !== undefined && field.strict && !isSubdomain(trimmed.toLowerCase())) field.invalid(SUBDOMAIN_RULE);
  return trimmed;
}
