// The Snapshot: what the resolver says of the cluster, seen from one node. The planes read it, or the changes
// between two of them, and never each other.

import type { Cidr } from '../lib/cidr.ts';
import type { Ip, IpFamily } from '../lib/ip.ts';
import type { PersistentMap } from '../lib/persistent-map.ts';
import type { Port } from '../lib/port.ts';
import type {
  ConfigMapRecord,
  EndpointSliceRecord,
  ImportedSliceRecord,
  IngressClassRecord,
  IngressRecord,
  LoadBalancerIp,
  NamespaceRecord,
  ObjectKey,
  PodRecord,
  Protocol,
  SecretRecord,
  ServiceImportRecord,
  ServiceRecord,
  SliceEndpoint,
  SlicePort,
  TrafficPolicy,
} from './records.ts';

declare const servicePortKeyBrand: unique symbol;

/**
 * `ns/name:port/PROTO/IPvN` (without `:port` when the port has no name): one port of one Service in one family.
 * kube-proxy's ServicePortName is the part before the first `/PROTO`.
 */
export type ServicePortKey = string & { readonly [servicePortKeyBrand]: 'ServicePortKey' };

/** The node that the Snapshot was resolved for. */
export interface NodeIdentity {
  readonly name: string;
  /** First address of each family, primary family first. Empty until known. */
  readonly ips: readonly Ip[];
  readonly zone: string | undefined;
  readonly podCIDRs: readonly Cidr[];
}

/** One address and port that can carry a ServicePort's traffic. */
export interface Endpoint {
  readonly ip: Ip;
  readonly port: Port;
  /** On the node that the Snapshot was resolved for. */
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly nodeName: string | undefined;
  readonly zone: string | undefined;
  readonly podName: string | undefined;
}

/** Why an endpoint is not in a set. */
export type LeftOutReason =
  | 'not-ready'
  | 'not-serving'
  | 'terminating-not-needed'
  | 'not-local'
  | 'other-zone'
  | 'other-node';

export interface LeftOut {
  readonly endpoint: Endpoint;
  readonly reason: LeftOutReason;
}

/** The endpoints of one policy. `unused`: no traffic of this ServicePort goes by that policy. */
export type EndpointSet =
  | { readonly kind: 'unused' }
  | {
      readonly kind: 'used';
      /** In the order of `ResolvedPort.endpoints`. May be empty. */
      readonly endpoints: readonly Endpoint[];
      readonly leftOut: readonly LeftOut[];
      /** True when no endpoint was ready and terminating ones that still serve stand in (KEP-1669). */
      readonly terminatingFallback: boolean;
    };

export type TopologyMode = 'none' | 'same-zone' | 'same-node';

/** One port of a Service in one address family. */
export interface ResolvedPort {
  readonly key: ServicePortKey;
  readonly name: string;
  readonly protocol: Protocol;
  readonly family: IpFamily;
  readonly port: Port;
  readonly nodePort: Port | undefined;
  /** Undefined for a headless Service. */
  readonly clusterIP: Ip | undefined;
  readonly externalIPs: readonly Ip[];
  /** The load balancer addresses that get rules (ipMode VIP or unset), and those that do not (ipMode Proxy). */
  readonly loadBalancerIPs: readonly LoadBalancerIp[];
  /** Sources that may use the load balancer addresses; undefined when all may (no ranges, or a /0 among them). */
  readonly sourceRanges: readonly Cidr[] | undefined;
  readonly affinityTimeoutSeconds: number | undefined;
  readonly internalTrafficPolicy: TrafficPolicy;
  readonly externalTrafficPolicy: TrafficPolicy;
  readonly healthCheckNodePort: Port | undefined;
  /** NodePort, an external IP or a load balancer VIP. */
  readonly externallyReachable: boolean;
  readonly topology: TopologyMode;
  /**
   * Every endpoint of the port, whatever its state, each address and port once, sorted by `ip:port` text. Ingress takes the
   * ready ones of these: traffic policies and topology are rules for Service addresses.
   */
  readonly endpoints: readonly Endpoint[];
  /** For traffic under policy Cluster. */
  readonly cluster: EndpointSet;
  /** For traffic under policy Local. */
  readonly local: EndpointSet;
  /** Anything usable anywhere: ready, or serving while terminating. Without it every address is refused. */
  readonly hasEndpoints: boolean;
}

/** Whether the rules plane carries a Service, and if not why not. */
export type Carried =
  | { readonly kind: 'carried' }
  | {
      readonly kind: 'ignored';
      readonly reason: 'headless' | 'external-name' | 'no-cluster-ip' | 'service-proxy-name';
    };

/** An endpoint as DNS sees it, with the ports of its slice. */
export interface SliceMember {
  readonly endpoint: SliceEndpoint;
  readonly family: IpFamily;
  readonly ports: readonly SlicePort[];
  /** For an endpoint of another cluster: that cluster's id. */
  readonly cluster?: string;
}

export interface ResolvedService {
  readonly key: ObjectKey;
  readonly record: ServiceRecord;
  readonly carried: Carried;
  /** One for each port and family. Empty for an ExternalName. Ports of an ignored Service still name their endpoints (Ingress reads them). */
  readonly ports: readonly ResolvedPort[];
  /** The slices themselves, in order of name. */
  readonly slices: readonly EndpointSliceRecord[];
  /** Every endpoint of every slice, in slice order, ready or not: what DNS answers from. */
  readonly members: readonly SliceMember[];
}

export interface Snapshot {
  /** Grows by one with each Snapshot that differs from the one before. */
  readonly revision: number;
  readonly node: NodeIdentity;
  readonly services: PersistentMap<ResolvedService>;
  readonly namespaces: PersistentMap<NamespaceRecord>;
  readonly pods: PersistentMap<PodRecord>;
  readonly ingresses: PersistentMap<IngressRecord>;
  readonly ingressClasses: PersistentMap<IngressClassRecord>;
  readonly secrets: PersistentMap<SecretRecord>;
  readonly configMaps: PersistentMap<ConfigMapRecord>;
  /** The ranges of the cluster's ServiceCIDR objects, each once, sorted. Empty where the server has none, or we may not read them. */
  readonly serviceCIDRs: readonly Cidr[];
  /** Services of other clusters, and their endpoints; only where they are asked for. */
  readonly serviceImports?: PersistentMap<ServiceImportRecord>;
  readonly importedSlices?: PersistentMap<ImportedSliceRecord>;
}
