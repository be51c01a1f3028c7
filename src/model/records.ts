// The slim records behind the edge: what `source/parse` makes of Kubernetes JSON, once. Types only.
// A field stands here because a plane reads it; addresses and ports are parsed, defaults are filled in.

import type { Cidr } from '../lib/cidr.ts';
import type { Ip, IpFamily } from '../lib/ip.ts';
import type { PersistentMap } from '../lib/persistent-map.ts';
import type { Port } from '../lib/port.ts';

/** `namespace/name`, or `name` for kinds without a namespace: the key of a record in its map. */
export type ObjectKey = string;

export type Protocol = 'TCP' | 'UDP' | 'SCTP';

export type TrafficPolicy = 'Cluster' | 'Local';

export interface ServicePortRecord {
  /** Empty for the only port of a Service that gives it no name. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: Port;
  readonly nodePort: Port | undefined;
}

export interface LoadBalancerIp {
  readonly ip: Ip;
  /** False for `ipMode: Proxy` (KEP-1860): that address gets no rules. */
  readonly vip: boolean;
}

export interface ServiceRecord {
  readonly namespace: string;
  readonly name: string;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  /** Empty for a headless Service, an ExternalName, and one that has no address yet. */
  readonly clusterIPs: readonly Ip[];
  /** `clusterIP: None`. */
  readonly headless: boolean;
  readonly externalName: string | undefined;
  readonly externalIPs: readonly Ip[];
  readonly loadBalancerIPs: readonly LoadBalancerIp[];
  /** `status.loadBalancer.ingress[].hostname` of entries without an address. */
  readonly loadBalancerHostnames?: readonly string[];
  /** `loadBalancerSourceRanges`, both families; empty means that no source is refused. */
  readonly sourceRanges: readonly Cidr[];
  readonly ports: readonly ServicePortRecord[];
  /** Seconds of `sessionAffinity: ClientIP`; undefined without affinity. */
  readonly affinityTimeoutSeconds: number | undefined;
  readonly internalTrafficPolicy: TrafficPolicy;
  readonly externalTrafficPolicy: TrafficPolicy;
  readonly healthCheckNodePort: Port | undefined;
  /** Value of the label `service.kubernetes.io/service-proxy-name`; whoever it names carries the Service, we do not. */
  readonly proxyName: string | undefined;
}

export interface SlicePort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: Port;
}

export interface SliceEndpoint {
  /** `addresses[0]`; the API gives the others no meaning. */
  readonly ip: Ip;
  /** nil is true. */
  readonly ready: boolean;
  /** nil is true. */
  readonly serving: boolean;
  /** nil is false. */
  readonly terminating: boolean;
  readonly nodeName: string | undefined;
  readonly zone: string | undefined;
  readonly hostname: string | undefined;
  /** `targetRef.name` when it is a Pod. */
  readonly podName: string | undefined;
  /** `hints.forZones[].name`; undefined without hints. */
  readonly zoneHints: readonly string[] | undefined;
  /** `hints.forNodes[].name`; undefined without hints. */
  readonly nodeHints: readonly string[] | undefined;
}

export interface EndpointSliceRecord {
  readonly namespace: string;
  readonly name: string;
  /** Label `kubernetes.io/service-name`. */
  readonly serviceName: string;
  readonly family: IpFamily;
  readonly ports: readonly SlicePort[];
  readonly endpoints: readonly SliceEndpoint[];
  /** Annotation `endpoints.kubernetes.io/last-change-trigger-time`: when the Pod or Service changed that made the controller write, in milliseconds since 1970. */
  readonly lastChangeTriggerTime?: number | undefined;
}

/** A Service of other clusters (KEP-1645): a ServiceImport. */
export interface ServiceImportRecord {
  readonly namespace: string;
  readonly name: string;
  readonly headless: boolean;
  readonly ips: readonly Ip[];
  readonly ports: readonly SlicePort[];
}

/** Endpoints in another cluster of the set, of a Service that is imported. */
export interface ImportedSliceRecord extends EndpointSliceRecord {
  /** That cluster's id, lower case. */
  readonly cluster: string;
}

export interface NodeRecord {
  readonly name: string;
  /** InternalIPs, then ExternalIPs. */
  readonly ips: readonly Ip[];
  /** Label `topology.kubernetes.io/zone`. */
  readonly zone: string | undefined;
  readonly podCIDRs: readonly Cidr[];
  /** Being deleted, or tainted `ToBeDeletedByClusterAutoscaler` (KEP-3836). */
  readonly leaving: boolean;
}

/** A range from which the cluster takes ClusterIPs. */
export interface ServiceCidrRecord {
  readonly name: string;
  /** One, or one of each family. */
  readonly cidrs: readonly Cidr[];
}

export interface NamespaceRecord {
  readonly name: string;
}

export interface PodRecord {
  readonly namespace: string;
  readonly name: string;
  readonly ip: Ip;
}

export type IngressPortRef =
  | { readonly kind: 'number'; readonly number: Port }
  | { readonly kind: 'name'; readonly name: string };

export type IngressBackend =
  | { readonly kind: 'service'; readonly service: string; readonly port: IngressPortRef }
  | { readonly kind: 'resource'; readonly apiGroup: string; readonly resourceKind: string; readonly name: string };

export type PathType = 'Exact' | 'Prefix' | 'ImplementationSpecific';

export interface IngressPath {
  /** `/` when the object gives none (allowed for ImplementationSpecific). */
  readonly path: string;
  readonly pathType: PathType;
  readonly backend: IngressBackend;
}

export interface IngressRule {
  /** Lower case; undefined matches every host. */
  readonly host: string | undefined;
  readonly paths: readonly IngressPath[];
}

export interface IngressTls {
  readonly hosts: readonly string[];
  readonly secretName: string | undefined;
}

/** Where an Ingress is reached from outside: one of the two is given. */
export interface PublishedAddress {
  readonly ip: string | undefined;
  readonly hostname: string | undefined;
}

export interface IngressRecord {
  readonly namespace: string;
  readonly name: string;
  /** Empty when the object has none; Events name it. */
  readonly uid: string;
  /** Milliseconds since 1970; the older Ingress wins a conflict. 0 when the object does not say. */
  readonly createdAt: number;
  readonly className: string | undefined;
  /** Annotation `kubernetes.io/ingress.class`. */
  readonly classAnnotation: string | undefined;
  /** The annotations that may be settings of a proxy, by full name: those that Kubernetes' own tools write are left out. */
  readonly annotations: ReadonlyMap<string, string>;
  readonly defaultBackend: IngressBackend | undefined;
  readonly rules: readonly IngressRule[];
  readonly tls: readonly IngressTls[];
  /** `status.loadBalancer.ingress`. */
  readonly published: readonly PublishedAddress[];
}

export interface IngressClassRecord {
  readonly name: string;
  readonly controller: string;
  readonly isDefault: boolean;
}

export interface SecretRecord {
  readonly namespace: string;
  readonly name: string;
  readonly type: string;
  /** Decoded values, as text (PEM, htpasswd). */
  readonly data: ReadonlyMap<string, string>;
}

export interface ConfigMapRecord {
  readonly namespace: string;
  readonly name: string;
  readonly data: ReadonlyMap<string, string>;
}

/** Everything that the source knows at one moment. A value: the store makes the next one, nothing changes this one. */
export interface Records {
  readonly services: PersistentMap<ServiceRecord>;
  /** By the key of the Service that the slices belong to, in order of slice name. */
  readonly endpointSlices: PersistentMap<readonly EndpointSliceRecord[]>;
  readonly nodes: PersistentMap<NodeRecord>;
  readonly namespaces: PersistentMap<NamespaceRecord>;
  readonly pods: PersistentMap<PodRecord>;
  readonly ingresses: PersistentMap<IngressRecord>;
  readonly ingressClasses: PersistentMap<IngressClassRecord>;
  readonly secrets: PersistentMap<SecretRecord>;
  readonly configMaps: PersistentMap<ConfigMapRecord>;
  readonly serviceCIDRs: PersistentMap<ServiceCidrRecord>;
  readonly serviceImports: PersistentMap<ServiceImportRecord>;
  readonly importedSlices: PersistentMap<ImportedSliceRecord>;
}
