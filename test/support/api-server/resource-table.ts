// What this server serves.

export interface ServedResource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Has the subresource `status`. */
  readonly status: boolean;
  /** A DELETE answers the object (true) or a Status. */
  readonly deleteAnswersObject: boolean;
}

function served(group: string, plural: string, kind: string, options: Partial<ServedResource> = {}): ServedResource {
  return {
    group,
    version: 'v1',
    plural,
    kind,
    namespaced: true,
    status: false,
    deleteAnswersObject: false,
    ...options,
  };
}

export const RESOURCES: readonly ServedResource[] = [
  served('', 'services', 'Service', { status: true, deleteAnswersObject: true }),
  served('', 'pods', 'Pod', { status: true, deleteAnswersObject: true }),
  served('', 'nodes', 'Node', { namespaced: false, status: true }),
  served('', 'namespaces', 'Namespace', { namespaced: false, status: true, deleteAnswersObject: true }),
  served('', 'secrets', 'Secret'),
  served('', 'configmaps', 'ConfigMap'),
  served('', 'events', 'Event'),
  served('discovery.k8s.io', 'endpointslices', 'EndpointSlice'),
  served('networking.k8s.io', 'ingresses', 'Ingress', { status: true }),
  served('networking.k8s.io', 'ingressclasses', 'IngressClass', { namespaced: false }),
  served('networking.k8s.io', 'servicecidrs', 'ServiceCIDR', { namespaced: false, status: true }),
  served('multicluster.x-k8s.io', 'serviceimports', 'ServiceImport', { version: 'v1alpha1', status: true }),
  served('coordination.k8s.io', 'leases', 'Lease'),
  served('events.k8s.io', 'events', 'Event'),
];

export function apiVersionOf(resource: ServedResource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** `services`, `ingresses.networking.k8s.io`: as messages name a resource. */
export function qualified(resource: ServedResource): string {
  return resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`;
}

/** `Service`, `Ingress.networking.k8s.io`. */
export function qualifiedKind(resource: ServedResource): string {
  return resource.group === '' ? resource.kind : `${resource.kind}.${resource.group}`;
}

export interface Target {
  readonly resource: ServedResource;
  readonly namespace: string;
  /** Undefined for the collection. */
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

export type Routed =
  | { readonly kind: 'target'; readonly target: Target }
  | { readonly kind: 'discovery'; readonly group: string; readonly version: string }
  /** The group is served, but not this version or resource. */
  | { readonly kind: 'unknown-resource' }
  | { readonly kind: 'unknown-group' };

export function route(path: string): Routed {
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const core = parts[0] === 'api';
  if (!core && parts[0] !== 'apis') return { kind: 'unknown-group' };
  const group = core ? '' : (parts[1] ?? '');
  const version = parts[core ? 1 : 2] ?? '';
  const own = RESOURCES.filter((resource) => resource.group === group);
  if (own.length === 0) return { kind: 'unknown-group' };
  let rest = parts.slice(core ? 2 : 3);
  if (!own.some((resource) => resource.version === version)) return { kind: 'unknown-resource' };
  if (rest.length === 0) return { kind: 'discovery', group, version };
  let namespace = '';
  if (rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status') {
    namespace = rest[1] ?? '';
    rest = rest.slice(2);
  }
  const resource = own.find(({ plural }) => plural === rest[0]);
  if (!resource || rest.length > 3) return { kind: 'unknown-resource' };
  return { kind: 'target', target: { resource, namespace, name: rest[1], subresource: rest[2] } };
}
