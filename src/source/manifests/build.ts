// Documents to records: what an API server and a cluster's controllers would have made of these manifests. Pure.

import type { EndpointSliceRecord, NodeRecord, ServiceRecord } from '../../model/records.ts';
import { parseConfigMap } from '../parse/config-map.ts';
import { parseEndpointSlice } from '../parse/endpoint-slice.ts';
import { parseIngressClass } from '../parse/ingress-class.ts';
import { parseIngress } from '../parse/ingress.ts';
import { selects } from '../../lib/label-selector.ts';
import { objectKey } from '../parse/metadata.ts';
import { parseNamespace } from '../parse/namespace.ts';
import { parseNode } from '../parse/node.ts';
import type { Parsed } from '../parse/reader.ts';
import { parseSecret } from '../parse/secret.ts';
import { parseServiceCidr } from '../parse/service-cidr.ts';
import { parseImportedSlice, parseServiceImport } from '../parse/service-import.ts';
import type { RecordEntries, RecordOfKind } from '../store.ts';
import { allocate, type AllocatedService, type PlacedService } from './allocate.ts';
import { classify, type ClassifiedDocument, type ManifestKind } from './classify.ts';
import { deriveSlices, indexPods } from './derive-slices.ts';
import {
  DEFAULT_MANIFEST_OPTIONS,
  messageAt,
  type ManifestMessage,
  type ManifestOptions,
  type SourceDocument,
} from './document.ts';
import { parseEndpoints } from './endpoints.ts';
import { parsePodTemplate, type PodTemplate } from './pod-template.ts';
import { parseServiceTemplate, type ServiceTemplate } from './service-template.ts';

/** Services that are named one by one in notices of the same kind. */
const MOST_NAMED = 3;

export interface BuiltRecords {
  readonly entries: RecordEntries;
  /** What is wrong, where. The objects that have errors do not count; all others do. */
  readonly errors: readonly ManifestMessage[];
  /** What was converted or left aside, and is worth telling. */
  readonly notices: readonly ManifestMessage[];
  /** Objects of kinds that nothing here reads. */
  readonly ignored: readonly ManifestMessage[];
  /** The documents that count, by `Kind namespace/name`: the next build falls back to them. */
  readonly accepted: ReadonlyMap<string, SourceDocument>;
}

/** The object of each kind, parsed but not yet completed. */
interface ParsedKinds {
  readonly Service: ServiceTemplate;
  readonly EndpointSlice: EndpointSliceRecord | undefined;
  readonly Endpoints: readonly EndpointSliceRecord[];
  readonly Node: NodeRecord;
  readonly Namespace: RecordOfKind['namespaces'];
  readonly Pod: PodTemplate;
  readonly Ingress: RecordOfKind['ingresses'];
  readonly IngressClass: RecordOfKind['ingressClasses'];
  readonly Secret: RecordOfKind['secrets'];
  readonly ConfigMap: RecordOfKind['configMaps'];
  readonly ServiceCIDR: RecordOfKind['serviceCIDRs'];
  readonly ServiceImport: RecordOfKind['serviceImports'];
}

const PARSERS: { readonly [K in ManifestKind]: (object: unknown) => Parsed<ParsedKinds[K]> } = {
  Service: parseServiceTemplate,
  EndpointSlice: (object) => parseEndpointSlice(object, 'strict'),
  Endpoints: parseEndpoints,
  Node: (object) => parseNode(object, 'strict'),
  Namespace: (object) => parseNamespace(object, 'strict'),
  Pod: parsePodTemplate,
  Ingress: (object) => parseIngress(object, 'strict'),
  IngressClass: (object) => parseIngressClass(object, 'strict'),
  Secret: (object) => parseSecret(object, 'strict'),
  ConfigMap: (object) => parseConfigMap(object, 'strict'),
  ServiceCIDR: (object) => parseServiceCidr(object, 'strict'),
  ServiceImport: (object) => parseServiceImport(object, 'strict'),
};

interface Placed<T> {
  readonly document: SourceDocument;
  readonly value: T;
}

type ParsedObjects = { readonly [K in ManifestKind]: Map<string, Placed<ParsedKinds[K]>> };

/**
 * Builds the records of a set of documents, in the order in which they were read. Given `previous`, an object that was
 * good before and is not now stays as it was (its error is told all the same), as an API server that refuses an
 * update goes on with what it has.
 */
export function buildRecords(
  documents: readonly SourceDocument[],
  options: Partial<ManifestOptions> = {},
  previous: ReadonlyMap<string, SourceDocument> = new Map(),
): BuiltRecords {
  const full = { ...DEFAULT_MANIFEST_OPTIONS, ...options };
  const classified = classify(documents);
  const reading = new Reading();
  for (const document of classified.documents) if (isSelected(document, full.selectors)) reading.add(document);
  reading.fallBack(previous);
  const { objects } = reading;
  const services: PlacedService[] = [...objects.Service].map(([key, { value, document }]) => ({
    key,
    document,
    template: value,
  }));
  const allocation = allocate(services, full);
  const nodes = withOwnNode(objects, full);
  const slices = sliceEntries(objects, allocation.services, nodes);
  const kept: Omit<RecordEntries, 'namespaces'> = {
    services: new Map(allocation.services.map(({ key, record }): readonly [string, ServiceRecord] => [key, record])),
    endpointSlices: slices.entries,
    nodes,
    pods: new Map(
      [...objects.Pod].flatMap(([key, { value }]) => {
        const { Pod: selector } = full.selectors;
        const counts = !value.terminating && (!selector || selects(selector, value.labels));
        const ip = counts ? value.ips[0] : undefined;
        return ip ? [[key, { namespace: value.namespace, name: value.name, ip }]] : [];
      }),
    ),
    ingresses: valuesOf(objects.Ingress),
    ingressClasses: valuesOf(objects.IngressClass),
    secrets: valuesOf(objects.Secret),
    configMaps: valuesOf(objects.ConfigMap),
    serviceCIDRs: valuesOf(objects.ServiceCIDR),
    serviceImports: valuesOf(objects.ServiceImport),
    importedSlices: importedSlices(objects),
  };
  return {
    entries: { ...kept, namespaces: namespacesOf(objects, full.selectors) },
    errors: [...classified.errors, ...reading.errors, ...allocation.errors],
    notices: [...reading.notices, ...slices.notices],
    ignored: classified.ignored,
    accepted: reading.accepted,
  };
}

class Reading {
  readonly objects: ParsedObjects = {
    Service: new Map(),
    EndpointSlice: new Map(),
    Endpoints: new Map(),
    Node: new Map(),
    Namespace: new Map(),
    Pod: new Map(),
    Ingress: new Map(),
    IngressClass: new Map(),
    Secret: new Map(),
    ConfigMap: new Map(),
    ServiceCIDR: new Map(),
    ServiceImport: new Map(),
  };
  readonly errors: ManifestMessage[] = [];
  readonly notices: ManifestMessage[] = [];
  readonly accepted = new Map<string, SourceDocument>();
  readonly #refused = new Set<string>();

  add(document: ClassifiedDocument): void {
    this.#addOf(document.kind, this.objects[document.kind], document);
  }

  #addOf<K extends ManifestKind>(kind: K, objects: ParsedObjects[K], document: SourceDocument): void {
    const parsed = PARSERS[kind](document.object);
    const { key, title } = identify(kind, document.object);
    const identity = `${kind} ${key}`;
    if (!parsed.ok) {
      for (const { path, keys, message } of parsed.errors) {
        this.errors.push(messageAt(document, keys, `${title}: ${path === '' ? '' : `${path}: `}${message}`));
      }
      this.#refused.add(identity);
      return;
    }
    const first = objects.get(key);
    if (first) {
      const place = `${first.document.file}:${first.document.line}`;
      this.errors.push(messageAt(document, [], `${title} stands at ${place} already, and that one counts: remove one`));
      return;
    }
    for (const notice of parsed.notices) this.notices.push(messageAt(document, [], `${title}: ${notice}`));
    objects.set(key, { document, value: parsed.record });
    this.accepted.set(identity, document);
  }

  fallBack(previous: ReadonlyMap<string, SourceDocument>): void {
    for (const identity of this.#refused) {
      const document = previous.get(identity);
      if (!document || this.accepted.has(identity)) continue;
      for (const classified of classify([document]).documents) this.add(classified);
    }
  }
}

/** Whether the labels of an object are among those that are read. */
function isSelected({ kind, object }: ClassifiedDocument, selectors: ManifestOptions['selectors']): boolean {
  const selector = selectors[kind];
  // Every Pod may stand behind a Service.
  if (!selector || kind === 'Pod') return true;
  const labels = Object.entries(fieldOf(fieldOf(object, 'metadata'), 'labels') ?? {});
  return selects(selector, new Map(labels.map(([label, value]) => [label, String(value)])));
}

const CLUSTER_KINDS: readonly ManifestKind[] = ['Node', 'Namespace', 'IngressClass', 'ServiceCIDR'];

/** Key and title of an object that may be broken. */
function identify(kind: ManifestKind, object: unknown): { readonly key: string; readonly title: string } {
  const metadata = fieldOf(object, 'metadata');
  const name = fieldOf(metadata, 'name');
  const namespace = fieldOf(metadata, 'namespace');
  const scope = CLUSTER_KINDS.includes(kind) ? '' : typeof namespace === 'string' ? namespace : 'default';
  if (typeof name !== 'string' || name === '') return { key: '', title: kind };
  const key = objectKey(scope, name);
  return { key, title: `${kind} ${key}` };
}

function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  const entry = Object.entries(value).find(([key]) => key === name);
  return entry?.[1];
}

function valuesOf<T>(objects: ReadonlyMap<string, Placed<T>>): ReadonlyMap<string, T> {
  return new Map([...objects].map(([key, { value }]) => [key, value]));
}

function withOwnNode(objects: ParsedObjects, options: ManifestOptions): ReadonlyMap<string, NodeRecord> {
  const nodes = new Map(valuesOf(objects.Node));
  const name = options.nodeName;
  if (name !== undefined && !nodes.has(name)) {
    nodes.set(name, { name, ips: options.nodeIPs, zone: undefined, podCIDRs: [], leaving: false });
  }
  return nodes;
}

/**
 * Slices that stand as objects, those of Endpoints objects, and those derived from Pods: for one Service the first of
 * these three that there is, so that a dump of a cluster, which holds all of them, is taken as it stands.
 */
function sliceEntries(
  objects: ParsedObjects,
  services: readonly AllocatedService[],
  nodes: ReadonlyMap<string, NodeRecord>,
): { readonly entries: ReadonlyMap<string, EndpointSliceRecord>; readonly notices: readonly ManifestMessage[] } {
  const entries = new Map<string, EndpointSliceRecord>();
  const notices: ManifestMessage[] = [];
  const put = (slice: EndpointSliceRecord): void => void entries.set(objectKey(slice.namespace, slice.name), slice);
  const standing = new Map<string, SourceDocument>();
  for (const { value, document } of objects.EndpointSlice.values()) {
    if (!value) continue;
    put(value);
    standing.set(objectKey(value.namespace, value.serviceName), document);
  }
  const selecting = new Set(services.filter(({ template }) => template.selector).map(({ key }) => key));
  for (const [key, { value }] of objects.Endpoints) {
    if (!standing.has(key) && !selecting.has(key)) for (const slice of value) put(slice);
  }
  const index = indexPods([...objects.Pod.values()].map(({ value }) => value));
  const overruled: AllocatedService[] = [];
  for (const service of services) {
    const slice = standing.get(service.key);
    if (slice && service.template.selector) {
      overruled.push(service);
    } else if (!slice) {
      for (const derived of deriveSlices(service, index, nodes)) put(unnamesake(derived, entries));
    }
  }
  notices.push(...overruledNotices(overruled, standing));
  return { entries, notices };
}

/** One line each for a few, and one for all of the thousand that the dump of a cluster has. */
function overruledNotices(
  overruled: readonly AllocatedService[],
  standing: ReadonlyMap<string, SourceDocument>,
): readonly ManifestMessage[] {
  const [first] = overruled;
  if (first && overruled.length > MOST_NAMED) {
    const others = `it and ${overruled.length - 1} other Services have EndpointSlice objects: these stand, and no selector of theirs is used`;
    return [messageAt(first.document, [], `Service ${first.key}: ${others}`)];
  }
  return overruled.flatMap((service) => {
    const slice = standing.get(service.key);
    if (!slice) return [];
    const message = `Service ${service.key}: its EndpointSlice objects (${slice.file}:${slice.line}) stand; its selector is not used`;
    return [messageAt(service.document, [], message)];
  });
}

/** Slices that lead to a ServiceImport. */
function importedSlices(objects: ParsedObjects): RecordEntries['importedSlices'] {
  const entries = [...objects.EndpointSlice].flatMap(([key, { document }]) => {
    const parsed = parseImportedSlice(document.object, 'strict');
    return parsed.ok && parsed.record ? [[key, parsed.record] as const] : [];
  });
  return new Map(entries);
}

/** A derived slice under a name that no object of the folder has. */
function unnamesake(
  slice: EndpointSliceRecord,
  entries: ReadonlyMap<string, EndpointSliceRecord>,
): EndpointSliceRecord {
  const taken = entries.has(objectKey(slice.namespace, slice.name));
  return taken ? unnamesake({ ...slice, name: `${slice.name}-derived` }, entries) : slice;
}

/** Those that objects describe, and those that any object is in. */
function namespacesOf(objects: ParsedObjects, selectors: ManifestOptions['selectors']): RecordEntries['namespaces'] {
  const names = new Set(selectors.Namespace ? objects.Namespace.keys() : ['default', ...objects.Namespace.keys()]);
  for (const [kind, map] of Object.entries(objects)) {
    if (selectors.Namespace || CLUSTER_KINDS.some((other) => other === kind)) continue;
    for (const key of map.keys()) names.add(key.slice(0, key.indexOf('/')));
  }
  return new Map([...names].sort().map((name) => [name, { name }]));
}
