// Where each kind lives in the API, and how its objects become records.

import { parseConfigMap } from '../parse/config-map.ts';
import { parseEndpointSlice } from '../parse/endpoint-slice.ts';
import { parseIngressClass } from '../parse/ingress-class.ts';
import { parseIngress } from '../parse/ingress.ts';
import { parseNamespace } from '../parse/namespace.ts';
import { parseNode } from '../parse/node.ts';
import { parsePod } from '../parse/pod.ts';
import type { Parsed } from '../parse/reader.ts';
import { parseSecret } from '../parse/secret.ts';
import { parseServiceCidr } from '../parse/service-cidr.ts';
import { parseImportedSlice, parseServiceImport } from '../parse/service-import.ts';
import { parseService } from '../parse/service.ts';
import type { Kind, RecordOfKind } from '../store.ts';

export interface Resource<K extends Kind> {
  readonly kind: K;
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  /** As in the URL. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** The record is undefined for an object that there is nothing to keep of. */
  readonly parse: (object: unknown) => Parsed<RecordOfKind[K] | undefined>;
}

export const RESOURCES: { readonly [K in Kind]: Resource<K> } = {
  services: resource('services', '', 'services', true, (object) => parseService(object, 'trusted')),
  endpointSlices: resource('endpointSlices', 'discovery.k8s.io', 'endpointslices', true, (object) =>
    parseEndpointSlice(object, 'trusted'),
  ),
  nodes: resource('nodes', '', 'nodes', false, (object) => parseNode(object, 'trusted')),
  namespaces: resource('namespaces', '', 'namespaces', false, (object) => parseNamespace(object, 'trusted')),
  pods: resource('pods', '', 'pods', true, (object) => parsePod(object, 'trusted')),
  ingresses: resource('ingresses', 'networking.k8s.io', 'ingresses', true, (object) =>
    parseIngress(object, 'trusted', 'v1'),
  ),
  ingressClasses: resource('ingressClasses', 'networking.k8s.io', 'ingressclasses', false, (object) =>
    parseIngressClass(object, 'trusted'),
  ),
  secrets: resource('secrets', '', 'secrets', true, (object) => parseSecret(object, 'trusted')),
  configMaps: resource('configMaps', '', 'configmaps', true, (object) => parseConfigMap(object, 'trusted')),
  serviceCIDRs: resource('serviceCIDRs', 'networking.k8s.io', 'servicecidrs', false, (object) =>
    parseServiceCidr(object, 'trusted'),
  ),
  serviceImports: {
    kind: 'serviceImports',
    group: 'multicluster.x-k8s.io',
    version: 'v1alpha1',
    plural: 'serviceimports',
    namespaced: true,
    parse: (object) => parseServiceImport(object, 'trusted'),
  },
  importedSlices: resource('importedSlices', 'discovery.k8s.io', 'endpointslices', true, (object) =>
    parseImportedSlice(object, 'trusted'),
  ),
};

function resource<K extends Kind>(
  kind: K,
  group: string,
  plural: string,
  namespaced: boolean,
  parse: Resource<K>['parse'],
): Resource<K> {
  return { kind, group, version: 'v1', plural, namespaced, parse };
}

/** Which objects of a resource. */
export interface Scope {
  /** Of one namespace; undefined for all. */
  readonly namespace?: string | undefined;
  /** The one object of this name. */
  readonly name?: string | undefined;
  readonly labelSelector?: string | undefined;
  /** Not together with a name. */
  readonly fieldSelector?: string | undefined;
}

/** Path and fixed query of the collection; `query` is added. */
export function collectionPath(
  resource: Pick<Resource<Kind>, 'group' | 'version' | 'plural' | 'namespaced'>,
  scope: Scope,
  query: Readonly<Record<string, string>>,
): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const namespace =
    resource.namespaced && scope.namespace !== undefined ? `/namespaces/${encodeURIComponent(scope.namespace)}` : '';
  const parameters = new URLSearchParams(query);
  const fields = scope.name === undefined ? scope.fieldSelector : `metadata.name=${scope.name}`;
  if (fields !== undefined) parameters.set('fieldSelector', fields);
  if (scope.labelSelector !== undefined) parameters.set('labelSelector', scope.labelSelector);
  return `${root}${namespace}/${resource.plural}?${parameters.toString()}`;
}

/** The rule that lets this program read the resource, as it stands in a Role or ClusterRole. */
export function accessRule(resource: Pick<Resource<Kind>, 'group' | 'plural'>): string {
  return `{apiGroups: ["${resource.group}"], resources: ["${resource.plural}"], verbs: ["get", "list", "watch"]}`;
}
