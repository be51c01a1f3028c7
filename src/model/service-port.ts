// The ports of a Service: one for each port and address family.

import { cidrFamily, prefixLength, type Cidr } from '../lib/cidr.ts';
import { ipFamily, type Ip, type IpFamily } from '../lib/ip.ts';
import { mergeEndpoints } from './endpoint.ts';
import { categorize } from './policy.ts';
import type { EndpointSliceRecord, Protocol, ServicePortRecord, ServiceRecord } from './records.ts';
import type { Carried, NodeIdentity, ResolvedPort, ServicePortKey } from './snapshot.ts';

/** `ns/name:port/PROTO/IPvN`, without `:port` for a port that has no name. */
export function servicePortKey(
  service: { readonly namespace: string; readonly name: string },
  portName: string,
  protocol: Protocol,
  family: IpFamily,
): ServicePortKey {
  const name = portName === '' ? '' : `:${portName}`;
  return `${service.namespace}/${service.name}${name}/${protocol}/IPv${family}` as ServicePortKey;
}

/** Whether the rules plane carries the Service. ExternalName counts before a ClusterIP that was left in the object. */
export function carriedBy(service: ServiceRecord): Carried {
  if (service.proxyName !== undefined) return { kind: 'ignored', reason: 'service-proxy-name' };
  if (service.type === 'ExternalName') return { kind: 'ignored', reason: 'external-name' };
  if (service.headless) return { kind: 'ignored', reason: 'headless' };
  if (service.clusterIPs.length === 0) return { kind: 'ignored', reason: 'no-cluster-ip' };
  return { kind: 'carried' };
}

export function resolvePorts(
  service: ServiceRecord,
  slices: readonly EndpointSliceRecord[],
  node: NodeIdentity,
): readonly ResolvedPort[] {
  if (service.type === 'ExternalName') return [];
  return families(service, slices).flatMap(({ family, clusterIP }) =>
    service.ports.map((port) => resolvePort(service, port, family, clusterIP, slices, node)),
  );
}

interface Family {
  readonly family: IpFamily;
  readonly clusterIP: Ip | undefined;
}

/** The families of the ClusterIPs; those of the slices for a Service that has none. */
function families(service: ServiceRecord, slices: readonly EndpointSliceRecord[]): readonly Family[] {
  if (service.clusterIPs.length > 0) {
    const first = ([4, 6] as const).map((family) => ({
      family,
      clusterIP: service.clusterIPs.find((ip) => ipFamily(ip) === family),
    }));
    return first.filter(({ clusterIP }) => clusterIP !== undefined);
  }
  return ([4, 6] as const)
    .filter((family) => slices.some((slice) => slice.family === family))
    .map((family) => ({ family, clusterIP: undefined }));
}

function resolvePort(
  service: ServiceRecord,
  port: ServicePortRecord,
  family: IpFamily,
  clusterIP: Ip | undefined,
  slices: readonly EndpointSliceRecord[],
  node: NodeIdentity,
): ResolvedPort {
  const externalIPs = service.externalIPs.filter((ip) => ipFamily(ip) === family);
  const loadBalancerIPs = service.loadBalancerIPs.filter(({ ip }) => ipFamily(ip) === family);
  const externallyReachable =
    port.nodePort !== undefined || externalIPs.length > 0 || loadBalancerIPs.some(({ vip }) => vip);
  const candidates = mergeEndpoints(slices, { name: port.name, protocol: port.protocol, family }, node.name);
  const endpoints = candidates.map(({ endpoint }) => endpoint);
  const { internalTrafficPolicy, externalTrafficPolicy } = service;
  return {
    key: servicePortKey(service, port.name, port.protocol, family),
    name: port.name,
    protocol: port.protocol,
    family,
    port: port.port,
    nodePort: port.nodePort,
    clusterIP,
    externalIPs,
    loadBalancerIPs,
    sourceRanges: effectiveRanges(service.sourceRanges, family),
    affinityTimeoutSeconds: service.affinityTimeoutSeconds,
    internalTrafficPolicy,
    externalTrafficPolicy,
    healthCheckNodePort: service.healthCheckNodePort,
    externallyReachable,
    endpoints,
    ...categorize(candidates, endpoints, { internalTrafficPolicy, externalTrafficPolicy, externallyReachable }, node),
  };
}

/** The ranges of the family; none when the family has no range, or one that holds every address. */
function effectiveRanges(ranges: readonly Cidr[], family: IpFamily): readonly Cidr[] | undefined {
  const own = ranges.filter((range) => cidrFamily(range) === family);
  if (own.length === 0 || own.some((range) => prefixLength(range) === 0)) return undefined;
  return own;
}
