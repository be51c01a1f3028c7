// Which documents matter here: by apiVersion and kind, with lists taken apart.

import { messageAt, type ManifestMessage, type SourceDocument } from './document.ts';

export type ManifestKind =
  | 'Service'
  | 'EndpointSlice'
  | 'Endpoints'
  | 'Node'
  | 'Namespace'
  | 'Pod'
  | 'Ingress'
  | 'IngressClass'
  | 'Secret'
  | 'ConfigMap'
  | 'ServiceCIDR'
  | 'ServiceImport';

export interface ClassifiedDocument extends SourceDocument {
  readonly kind: ManifestKind;
}

export interface Classified {
  readonly documents: readonly ClassifiedDocument[];
  readonly errors: readonly ManifestMessage[];
  /** Objects of kinds that nothing here reads, such as a Deployment. */
  readonly ignored: readonly ManifestMessage[];
}

interface Known {
  readonly kind: ManifestKind;
  readonly group: string;
  readonly versions: readonly string[];
}

const KNOWN: readonly Known[] = [
  { kind: 'Service', group: '', versions: ['v1'] },
  { kind: 'Endpoints', group: '', versions: ['v1'] },
  { kind: 'Node', group: '', versions: ['v1'] },
  { kind: 'Namespace', group: '', versions: ['v1'] },
  { kind: 'Pod', group: '', versions: ['v1'] },
  { kind: 'Secret', group: '', versions: ['v1'] },
  { kind: 'ConfigMap', group: '', versions: ['v1'] },
  { kind: 'ServiceCIDR', group: 'networking.k8s.io', versions: ['v1', 'v1beta1'] },
  { kind: 'ServiceImport', group: 'multicluster.x-k8s.io', versions: ['v1alpha1'] },
  { kind: 'EndpointSlice', group: 'discovery.k8s.io', versions: ['v1'] },
  { kind: 'Ingress', group: 'networking.k8s.io', versions: ['v1', 'v1beta1'] },
  { kind: 'Ingress', group: 'extensions', versions: ['v1beta1'] },
  { kind: 'IngressClass', group: 'networking.k8s.io', versions: ['v1', 'v1beta1'] },
];

export function classify(documents: readonly SourceDocument[]): Classified {
  const found: ClassifiedDocument[] = [];
  const errors: ManifestMessage[] = [];
  const ignored: ManifestMessage[] = [];
  const visit = (document: SourceDocument): void => {
    const { object } = document;
    if (!isRecord(object)) {
      errors.push(
        messageAt(document, [], 'not a Kubernetes object: a document must be a map with apiVersion and kind'),
      );
      return;
    }
    const apiVersion = object['apiVersion'];
    const kind = object['kind'];
    if (typeof apiVersion !== 'string' || apiVersion === '' || typeof kind !== 'string' || kind === '') {
      const missing = typeof kind !== 'string' || kind === '' ? 'kind' : 'apiVersion';
      errors.push(messageAt(document, [missing], `not a Kubernetes object: ${missing} is missing`));
      return;
    }
    const items = object['items'];
    if (kind.endsWith('List') && Array.isArray(items)) {
      for (const item of listItems(document, apiVersion, kind, items)) visit(item);
      return;
    }
    const slash = apiVersion.indexOf('/');
    const group = slash < 0 ? '' : apiVersion.slice(0, slash);
    const version = apiVersion.slice(slash + 1);
    const known = KNOWN.find((entry) => entry.kind === kind && entry.group === group);
    if (!known) {
      ignored.push(messageAt(document, ['kind'], `${kind} of ${apiVersion} is not read: nothing here needs it`));
    } else if (!known.versions.includes(version)) {
      const wanted = known.versions.map((name) => (group === '' ? name : `${group}/${name}`)).join(' or ');
      errors.push(
        messageAt(document, ['apiVersion'], `${kind}: apiVersion ${apiVersion} is not known here: write ${wanted}`),
      );
    } else {
      found.push({ ...document, kind: known.kind });
    }
  };
  for (const document of documents) visit(document);
  return { documents: found, errors, ignored };
}

/** Items of a `List`, or of a `ServiceList` as the API server answers it, whose items name no kind. */
function listItems(
  document: SourceDocument,
  apiVersion: string,
  kind: string,
  items: readonly unknown[],
): readonly SourceDocument[] {
  const itemKind = kind.slice(0, -'List'.length);
  return items.map((item, index) => {
    const { lineOf } = document;
    const prefix = ['items', index];
    return {
      file: document.file,
      line: lineOf?.(prefix) ?? document.line,
      object: isRecord(item) && itemKind !== '' ? { apiVersion, kind: itemKind, ...item } : item,
      ...(lineOf && { lineOf: (keys) => lineOf([...prefix, ...keys]) }),
    };
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
