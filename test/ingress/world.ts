// A small builder of Snapshots as the resolver makes them, for tests of the Ingress plane.

import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type {
  ConfigMapRecord,
  IngressBackend,
  IngressClassRecord,
  IngressRecord,
  IngressTls,
  PathType,
  SecretRecord,
} from '../../src/model/records.ts';
import type { ResolvedPort, ResolvedService, ServicePortKey, Snapshot } from '../../src/model/snapshot.ts';
import { endpoint, port } from '../support/values.ts';
import { serviceRecord } from '../support/records.ts';

export interface ServiceSpec {
  readonly name: string;
  readonly namespace?: string;
  readonly portNumber?: number;
  readonly portName?: string;
  readonly protocol?: 'TCP' | 'UDP';
  readonly externalName?: string;
  /** `address:port` each. */
  readonly endpoints?: readonly string[];
}

export function service(spec: ServiceSpec): ResolvedService {
  const namespace = spec.namespace ?? 'default';
  const number = port(spec.portNumber ?? 80);
  const name = spec.portName ?? '';
  const protocol = spec.protocol ?? 'TCP';
  const record = serviceRecord({
    namespace,
    name: spec.name,
    type: spec.externalName === undefined ? 'ClusterIP' : 'ExternalName',
    clusterIPs: [],
    externalName: spec.externalName,
    ports: [{ name, protocol, port: number, nodePort: undefined }],
  });
  const endpoints = (spec.endpoints ?? []).map(endpoint);
  const resolved: ResolvedPort = {
    key: `${namespace}/${spec.name}/TCP/IPv4` as ServicePortKey,
    name,
    protocol,
    family: 4,
    port: number,
    nodePort: undefined,
    clusterIP: undefined,
    externalIPs: [],
    loadBalancerIPs: [],
    sourceRanges: undefined,
    affinityTimeoutSeconds: undefined,
    internalTrafficPolicy: 'Cluster',
    externalTrafficPolicy: 'Cluster',
    healthCheckNodePort: undefined,
    externallyReachable: false,
    topology: 'none',
    endpoints,
    cluster: { kind: 'used', endpoints, leftOut: [], terminatingFallback: false },
    local: { kind: 'unused' },
    hasEndpoints: endpoints.length > 0,
  };
  return {
    key: `${namespace}/${spec.name}`,
    record,
    carried: { kind: 'carried' },
    ports: spec.externalName === undefined ? [resolved] : [],
    slices: [],
    members: [],
  };
}

export interface PathSpec {
  readonly path?: string;
  readonly pathType?: PathType;
  readonly service: string;
  /** A number or a name. */
  readonly port?: number | string;
}

export interface IngressSpec {
  readonly name: string;
  readonly namespace?: string;
  readonly createdAt?: number;
  readonly className?: string;
  readonly classAnnotation?: string;
  readonly defaultBackend?: PathSpec;
  readonly rules?: readonly { readonly host?: string; readonly paths: readonly PathSpec[] }[];
  readonly tls?: readonly IngressTls[];
  /** Without the prefix `nginx.ingress.kubernetes.io/`. */
  readonly annotations?: Readonly<Record<string, string>>;
}

export function ingress(spec: IngressSpec): IngressRecord {
  return {
    namespace: spec.namespace ?? 'default',
    name: spec.name,
    uid: '',
    createdAt: spec.createdAt ?? 0,
    className: spec.className,
    classAnnotation: spec.classAnnotation,
    annotations: new Map(
      Object.entries(spec.annotations ?? {}).map(([name, value]) => [`nginx.ingress.kubernetes.io/${name}`, value]),
    ),
    defaultBackend: spec.defaultBackend && backend(spec.defaultBackend),
    rules: (spec.rules ?? []).map((rule) => ({
      host: rule.host,
      paths: rule.paths.map((path) => ({
        path: path.path ?? '/',
        pathType: path.pathType ?? 'Prefix',
        backend: backend(path),
      })),
    })),
    tls: spec.tls ?? [],
    published: [],
  };
}

/** The Ingress `cafe`: at cafe.example each of these Services has the path of its name. */
export function cafe(services: readonly string[], tls: readonly IngressTls[] = []): IngressRecord {
  const paths = services.map((name) => ({ path: `/${name}`, service: name }));
  return ingress({ name: 'cafe', rules: [{ host: 'cafe.example', paths }], tls });
}

export function tlsSecret(name: string, cert: string, key: string): SecretRecord {
  const data = new Map([
    ['tls.crt', cert],
    ['tls.key', key],
  ]);
  return { namespace: 'default', name, type: 'kubernetes.io/tls', data };
}

export interface World {
  readonly ingresses?: readonly IngressRecord[];
  readonly services?: readonly ResolvedService[];
  readonly secrets?: readonly SecretRecord[];
  readonly configMaps?: readonly ConfigMapRecord[];
  readonly classes?: readonly IngressClassRecord[];
}

/** A Snapshot of the world; of `before` only what differs by reference is replaced. */
export function snapshot(world: World, before?: Snapshot): Snapshot {
  const map = <V>(old: PersistentMap<V> | undefined, list: readonly V[] | undefined, key: (value: V) => string) => {
    if (list === undefined) return old ?? PersistentMap.empty<V>();
    const next = new Map<string, V | undefined>();
    for (const name of old?.keys() ?? []) next.set(name, undefined);
    for (const value of list) next.set(key(value), value);
    return (old ?? PersistentMap.empty<V>()).with(next);
  };
  const named = (value: { readonly namespace: string; readonly name: string }) => `${value.namespace}/${value.name}`;
  return {
    revision: (before?.revision ?? 0) + 1,
    node: { name: 'node-a', ips: [], zone: undefined, podCIDRs: [] },
    services: map(before?.services, world.services, (value) => value.key),
    namespaces: PersistentMap.empty(),
    pods: PersistentMap.empty(),
    ingresses: map(before?.ingresses, world.ingresses, named),
    ingressClasses: map(before?.ingressClasses, world.classes, (value) => value.name),
    secrets: map(before?.secrets, world.secrets, named),
    configMaps: map(before?.configMaps, world.configMaps, named),
    serviceCIDRs: [],
  };
}

function backend(spec: PathSpec): IngressBackend {
  const given = spec.port ?? 80;
  return {
    kind: 'service',
    service: spec.service,
    port: typeof given === 'number' ? { kind: 'number', number: port(given) } : { kind: 'name', name: given },
  };
}
