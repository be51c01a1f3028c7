import { isOfThisMachine, parseIp, type Ip } from '../lib/ip.ts';
import type { PersistentMap } from '../lib/persistent-map.ts';
import type { IngressBackend, IngressPortRef } from '../model/records.ts';
import { wayOf, type UpstreamSettings } from './annotations/upstream.ts';
import type { Endpoint, ResolvedPort, ResolvedService } from '../model/snapshot.ts';

/** `namespace/service:port`, or the description of a resource: what locations share when they share a backend. */
export type BackendKey = string;

/** A backend as an Ingress names it. */
export interface BackendRef {
  readonly key: BackendKey;
  readonly namespace: string;
  readonly backend: IngressBackend;
  readonly upstream: UpstreamSettings;
  /** `--default-backend-service` names no port: the first of the Service. */
  readonly firstPort?: true;
}

const PLAIN_UPSTREAM: UpstreamSettings = { protocol: 'http', serviceAddress: false, byClient: false };

export type UnavailableReason =
  | 'resource'
  | 'no-service'
  | 'external-name'
  | 'no-port'
  | 'no-endpoints'
  | 'no-cluster-ip';

/** Where a backend's requests go now. */
export type BackendTarget =
  | { readonly kind: 'endpoints'; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'unavailable'; readonly reason: UnavailableReason };

export interface Backend {
  readonly ref: BackendRef;
  readonly target: BackendTarget;
}

export function backendRef(
  namespace: string,
  backend: IngressBackend,
  upstream: UpstreamSettings = PLAIN_UPSTREAM,
): BackendRef {
  const key =
    backend.kind === 'service'
      ? `${namespace}/${backend.service}:${portText(backend.port)}`
      : `${namespace}/${backend.resourceKind}.${backend.apiGroup}/${backend.name}`;
  // Endpoints reached in another way are another backend.
  const way = wayOf(upstream);
  const address = upstream.serviceAddress ? ' by its address' : '';
  return { key: `${key}${way === '' ? '' : ` by ${way}`}${address}`, namespace, backend, upstream };
}

export function portText(port: IngressPortRef): string {
  return port.kind === 'number' ? String(port.number) : port.name;
}

/** The Service that a change of would change this backend; undefined for a resource. */
export function serviceKeyOf(ref: BackendRef): string | undefined {
  return ref.backend.kind === 'service' ? `${ref.namespace}/${ref.backend.service}` : undefined;
}

/** `externalNames`: whether ExternalName Services are forwarded to. */
export function resolveBackend(
  ref: BackendRef,
  services: PersistentMap<ResolvedService>,
  externalNames = true,
): Backend {
  return { ref, target: targetOf(ref, services, externalNames) };
}

/** What the log says of a backend that cannot be used, with the mend. */
export function unavailableText(ref: BackendRef, reason: UnavailableReason): string {
  const port = ref.backend.kind === 'service' ? portText(ref.backend.port) : '';
  switch (reason) {
    case 'resource':
      return 'a resource backend is not supported; name a Service';
    case 'no-service':
      return 'the Service does not exist; create it or correct the name in the Ingress';
    case 'external-name':
      return 'the Service is an ExternalName that is not forwarded to: --disable-svc-external-name is given, the name is of this machine, the port is missing, or the backend speaks gRPC';
    case 'no-port':
      return `the Service has no TCP port ${port}; correct the port in the Ingress or add it to the Service`;
    case 'no-cluster-ip':
      return 'service-upstream is set and the Service has no ClusterIP; give it one or take the annotation away';
    case 'no-endpoints':
      return 'the Service has no ready endpoint; look at its selector and its Pods';
  }
}

function targetOf(ref: BackendRef, services: PersistentMap<ResolvedService>, externalNames: boolean): BackendTarget {
  const { backend } = ref;
  if (backend.kind === 'resource') return { kind: 'unavailable', reason: 'resource' };
  const service = services.get(`${ref.namespace}/${backend.service}`);
  if (!service) return { kind: 'unavailable', reason: 'no-service' };
  if (service.record.type === 'ExternalName') {
    const endpoint = externalNames ? externalEndpoint(ref, service.record) : undefined;
    return endpoint ? { kind: 'endpoints', endpoints: [endpoint] } : { kind: 'unavailable', reason: 'external-name' };
  }
  const first = service.record.ports.find(({ protocol }) => protocol === 'TCP');
  const wanted: IngressPortRef = ref.firstPort && first ? { kind: 'number', number: first.port } : backend.port;
  const ports = service.ports.filter((port) => port.protocol === 'TCP' && isNamed(port, wanted));
  if (ports.length === 0) {
    const declared = service.record.ports.some((port) => port.protocol === 'TCP' && isNamed(port, wanted));
    return { kind: 'unavailable', reason: declared ? 'no-endpoints' : 'no-port' };
  }
  if (ref.upstream.serviceAddress) {
    const addresses = ports.flatMap(addressOf);
    return addresses.length > 0
      ? { kind: 'endpoints', endpoints: addresses }
      : { kind: 'unavailable', reason: 'no-cluster-ip' };
  }
  const endpoints = ports.flatMap(endpointsOf);
  return endpoints.length > 0 ? { kind: 'endpoints', endpoints } : { kind: 'unavailable', reason: 'no-endpoints' };
}

/**
 * The name in the place of an address: it is asked for at each connection (`http/name-lookup.ts`, which refuses what leads to this machine).
 * The port is that of the Service, or the backend's number where the Service has none.
 */
function externalEndpoint(
  ref: BackendRef,
  { externalName = '', ports }: ResolvedService['record'],
): Endpoint | undefined {
  const { backend, upstream } = ref;
  if (backend.kind !== 'service' || upstream.protocol === 'grpc' || upstream.protocol === 'grpcs') return undefined;
  const wanted = backend.port;
  const declared =
    ports.find((each) => each.protocol === 'TCP' && isNamed(each, wanted)) ?? (ref.firstPort && ports[0]);
  const port = declared ? declared.port : wanted.kind === 'number' ? wanted.number : undefined;
  const name = externalName.replace(/\.$/, '').toLowerCase();
  if (port === undefined || !mayBeAsked(name)) return undefined;
  const state = { local: false, ready: true, serving: true, terminating: false };
  return { ip: name as Ip, port, ...state, nodeName: undefined, zone: undefined, podName: undefined };
}

function mayBeAsked(name: string): boolean {
  if (name === '' || /(^|\.)localhost$/.test(name)) return false;
  const ip = parseIp(name);
  return ip === undefined || !isOfThisMachine(ip);
}

function isNamed(port: { readonly name: string; readonly port: number }, ref: IngressPortRef): boolean {
  return ref.kind === 'number' ? port.port === ref.number : port.name === ref.name;
}

/** Where connections and datagrams to a port of a Service go that is passed on as it is. */
export function streamEndpoints(
  service: ResolvedService | undefined,
  protocol: 'TCP' | 'UDP',
  ref: IngressPortRef,
): readonly Endpoint[] {
  return (service?.ports ?? [])
    .filter((port) => port.protocol === protocol && isNamed(port, ref))
    .flatMap((port) => endpointsOf(port));
}

/**
 * An Ingress is not traffic of this node: `internalTrafficPolicy: Local` does not bind it (ingress-nginx ignores the
 * policy too), so where no traffic goes by the cluster set every ready endpoint counts.
 */
function endpointsOf(port: ResolvedPort): readonly Endpoint[] {
  return port.cluster.kind === 'used' ? port.cluster.endpoints : port.endpoints.filter((endpoint) => endpoint.ready);
}

/** The Service address in the place of an endpoint. */
function addressOf({ clusterIP, port, hasEndpoints }: ResolvedPort): readonly Endpoint[] {
  if (clusterIP === undefined || !hasEndpoints) return [];
  const state = { local: false, ready: true, serving: true, terminating: false };
  return [{ ip: clusterIP, port, ...state, nodeName: undefined, zone: undefined, podName: undefined }];
}
