// Snapshots for DNS tests, from the few facts that DNS reads.

import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type {
  EndpointSliceRecord,
  NamespaceRecord,
  PodRecord,
  Protocol,
  SliceEndpoint,
  SlicePort,
} from '../../src/model/records.ts';
import type { ResolvedService, Snapshot } from '../../src/model/snapshot.ts';
import { serviceRecord } from '../support/records.ts';
import { ip, port } from '../support/values.ts';

interface PortFacts {
  readonly name?: string;
  readonly protocol?: Protocol;
  readonly port: number;
}

interface EndpointFacts {
  readonly ip: string;
  readonly ready?: boolean;
  readonly hostname?: string;
}

interface SliceFacts {
  readonly ports?: readonly PortFacts[];
  readonly endpoints: readonly EndpointFacts[];
}

export interface ServiceFacts {
  readonly namespace: string;
  readonly name: string;
  /** Empty for a headless Service. */
  readonly clusterIPs?: readonly string[];
  readonly externalName?: string;
  readonly ports?: readonly PortFacts[];
  readonly slices?: readonly SliceFacts[];
}

export interface ClusterFacts {
  readonly revision?: number;
  readonly namespaces?: readonly string[];
  readonly services?: readonly ServiceFacts[];
  readonly pods?: readonly { readonly namespace: string; readonly name: string; readonly ip: string }[];
}

export function buildSnapshot(facts: ClusterFacts): Snapshot {
  const services = (facts.services ?? []).map(buildService);
  const namespaces: NamespaceRecord[] = (facts.namespaces ?? []).map((name) => ({ name }));
  const pods: PodRecord[] = (facts.pods ?? []).map((pod) => ({ ...pod, ip: ip(pod.ip) }));
  return {
    revision: facts.revision ?? 1,
    node: { name: 'node-a', ips: [ip('192.168.0.2')], zone: 'zone-a', podCIDRs: [] },
    services: PersistentMap.from(services.map((service) => [service.key, service] as const)),
    namespaces: PersistentMap.from(namespaces.map((namespace) => [namespace.name, namespace] as const)),
    pods: PersistentMap.from(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod] as const)),
    ingresses: PersistentMap.empty(),
    ingressClasses: PersistentMap.empty(),
    secrets: PersistentMap.empty(),
    configMaps: PersistentMap.empty(),
    serviceCIDRs: [],
  };
}

export function buildService(facts: ServiceFacts): ResolvedService {
  const headless = facts.externalName === undefined && facts.clusterIPs?.length === 0;
  const slices = (facts.slices ?? []).map((slice, i) => buildSlice(facts, slice, i));
  return {
    key: `${facts.namespace}/${facts.name}`,
    record: serviceRecord({
      namespace: facts.namespace,
      name: facts.name,
      type: facts.externalName === undefined ? 'ClusterIP' : 'ExternalName',
      clusterIPs: (facts.clusterIPs ?? []).map(ip),
      headless,
      externalName: facts.externalName,
      ports: (facts.ports ?? []).map((one) => ({ ...slicePort(one), nodePort: undefined })),
    }),
    carried: headless ? { kind: 'ignored', reason: 'headless' } : { kind: 'carried' },
    ports: [],
    slices,
    members: slices.flatMap(({ family, ports, endpoints }) =>
      endpoints.map((endpoint) => ({ endpoint, family, ports })),
    ),
  };
}

function buildSlice({ namespace, name }: ServiceFacts, slice: SliceFacts, i: number): EndpointSliceRecord {
  return {
    namespace,
    name: `${name}-${i}`,
    serviceName: name,
    family: 4,
    ports: (slice.ports ?? []).map(slicePort),
    endpoints: slice.endpoints.map(buildEndpoint),
  };
}

function buildEndpoint(endpoint: EndpointFacts): SliceEndpoint {
  return {
    ip: ip(endpoint.ip),
    ready: endpoint.ready ?? true,
    serving: endpoint.ready ?? true,
    terminating: false,
    nodeName: undefined,
    zone: undefined,
    hostname: endpoint.hostname,
    podName: undefined,
    zoneHints: undefined,
    nodeHints: undefined,
  };
}

function slicePort(facts: PortFacts): SlicePort {
  return { name: facts.name ?? '', protocol: facts.protocol ?? 'TCP', port: port(facts.port) };
}
