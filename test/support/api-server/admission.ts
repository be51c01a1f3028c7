// What the server makes of an object before it keeps it: metadata, defaults, allocations, validation.

import { parseServiceTemplate } from '../../../src/source/manifests/service-template.ts';
import { parseEndpointSlice } from '../../../src/source/parse/endpoint-slice.ts';
import { parseIngressClass } from '../../../src/source/parse/ingress-class.ts';
import { parseIngress } from '../../../src/source/parse/ingress.ts';
import type { Parsed } from '../../../src/source/parse/reader.ts';
import { child, ensure, isJson, list, text, type Json } from './json.ts';
import { apiVersionOf, type ServedResource } from './resource-table.ts';
import { badRequest, invalid, type Cause, type Refusal } from './status.ts';
import type { Storage } from './storage.ts';

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

const NAME_RULE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

export interface Writing {
  readonly resource: ServedResource;
  readonly storage: Storage;
  readonly now: Date;
  /** Counts up, for names and uids that the server makes. */
  readonly next: () => number;
}

/** Fills in a new object, in place; a refusal when it cannot be kept. */
export function admitNew(object: Json, namespace: string, writing: Writing): Refusal | undefined {
  const { resource, now } = writing;
  const metadata = ensure(object, 'metadata');
  const causes: Cause[] = [];
  const generate = text(metadata, 'generateName');
  if (!text(metadata, 'name') && generate) {
    metadata['name'] = `${generate}${writing.next().toString(36).padStart(5, 'x')}`;
    // A trailing dash is allowed there, since more follows.
    if (!SUBDOMAIN.test(generate.replace(/-$/, 'a'))) {
      causes.push({
        field: 'metadata.generateName',
        message: `Invalid value: ${JSON.stringify(generate)}: ${NAME_RULE}`,
      });
    }
  }
  const name = text(metadata, 'name') ?? '';
  if (name === '') causes.push({ field: 'metadata.name', message: 'Required value: name or generateName is required' });
  else if (!SUBDOMAIN.test(name))
    causes.push({ field: 'metadata.name', message: `Invalid value: ${JSON.stringify(name)}: ${NAME_RULE}` });
  Object.assign(object, { kind: resource.kind, apiVersion: apiVersionOf(resource) });
  if (resource.namespaced) metadata['namespace'] = namespace;
  const number = writing.next().toString(16).padStart(12, '0');
  metadata['uid'] = `00000000-0000-4000-8000-${number}`;
  metadata['creationTimestamp'] = now.toISOString().replace(/\.\d+Z$/, 'Z');
  return admit(object, writing, causes);
}

/** Defaults and validates an object that is to replace another, in place. */
export function admit(object: Json, writing: Writing, causes: Cause[] = []): Refusal | undefined {
  const { resource, storage } = writing;
  const late = microTimeError(object, resource);
  if (late) return late;
  if (resource.plural === 'services') defaultService(object);
  causes.push(...validate(object, resource));
  const name = text(child(object, 'metadata'), 'name') ?? '';
  if (causes.length === 0 && resource.plural === 'services') causes.push(...allocateService(object, storage, resource));
  return causes.length > 0 ? invalid(resource, name, causes) : undefined;
}

function validate(object: Json, resource: ServedResource): readonly Cause[] {
  const parsed = parserOf(resource)?.(object);
  const causes = parsed && !parsed.ok ? parsed.errors.map(({ path, message }) => ({ field: path, message })) : [];
  if (resource.kind === 'Event' && resource.group === 'events.k8s.io' && object['eventTime'] === undefined) {
    return [...causes, { field: 'eventTime', message: 'Required value' }];
  }
  return causes;
}

/** Our own strict parsers speak in the API server's words. */
function parserOf(resource: ServedResource): ((object: unknown) => Parsed<unknown>) | undefined {
  switch (resource.plural) {
    case 'services':
      return parseServiceTemplate;
    case 'endpointslices':
      return (object) => parseEndpointSlice(object, 'strict');
    case 'ingresses':
      return (object) => parseIngress(object, 'strict', 'v1');
    case 'ingressclasses':
      return (object) => parseIngressClass(object, 'strict');
    default:
      return undefined;
  }
}

function defaultService(object: Json): void {
  const spec = ensure(object, 'spec');
  spec['type'] ??= 'ClusterIP';
  spec['sessionAffinity'] ??= 'None';
  const external = spec['type'] === 'NodePort' || spec['type'] === 'LoadBalancer';
  for (const port of list(spec, 'ports')) {
    if (!isJson(port)) continue;
    port['protocol'] ??= 'TCP';
    port['targetPort'] ??= port['port'];
  }
  if (spec['sessionAffinity'] === 'ClientIP') {
    ensure(ensure(spec, 'sessionAffinityConfig'), 'clientIP')['timeoutSeconds'] ??= 10_800;
  }
  if (spec['type'] !== 'ExternalName') spec['internalTrafficPolicy'] ??= 'Cluster';
  if (external) spec['externalTrafficPolicy'] ??= 'Cluster';
  if (spec['type'] === 'LoadBalancer') spec['allocateLoadBalancerNodePorts'] ??= true;
  const balancer = ensure(ensure(object, 'status'), 'loadBalancer');
  for (const ingress of list(balancer, 'ingress'))
    if (isJson(ingress) && ingress['ip'] !== undefined) ingress['ipMode'] ??= 'VIP';
}

/** One IPv4 family, 10.96.0.0/16; the tests that need more give addresses themselves. */
function allocateService(object: Json, storage: Storage, resource: ServedResource): readonly Cause[] {
  const spec = child(object, 'spec');
  if (spec['type'] === 'ExternalName') return [];
  const own = text(child(object, 'metadata'), 'uid');
  const others = [...storage.current(resource).values()].filter(
    (other) => text(child(other, 'metadata'), 'uid') !== own,
  );
  const taken = new Set(others.flatMap((other) => list(child(other, 'spec'), 'clusterIPs')));
  const wanted = list(spec, 'clusterIPs')[0] ?? (spec['clusterIP'] === '' ? undefined : spec['clusterIP']);
  if (wanted !== undefined && wanted !== 'None' && taken.has(wanted)) {
    const message = `Invalid value: ${JSON.stringify([wanted])}: failed to allocate IP ${JSON.stringify(wanted).replaceAll('"', '')}: provided IP is already allocated`;
    return [{ field: 'spec.clusterIPs', message }];
  }
  let number = 10;
  while (taken.has(`10.96.${number >> 8}.${number & 255}`)) number++;
  const ip = wanted ?? `10.96.${number >> 8}.${number & 255}`;
  spec['clusterIP'] = ip;
  spec['clusterIPs'] ??= [ip];
  spec['ipFamilies'] ??= ['IPv4'];
  spec['ipFamilyPolicy'] ??= 'SingleStack';
  allocateNodePorts(spec, others);
  return [];
}

function allocateNodePorts(spec: Json, others: readonly Json[]): void {
  if (spec['type'] !== 'NodePort' && spec['type'] !== 'LoadBalancer') return;
  const ports = list(spec, 'ports').filter(isJson);
  const taken = new Set(
    others.flatMap((other) => [
      child(other, 'spec')['healthCheckNodePort'],
      ...list(child(other, 'spec'), 'ports')
        .filter(isJson)
        .map((port) => port['nodePort']),
    ]),
  );
  for (const port of ports) taken.add(port['nodePort']);
  const free = (): number => {
    let port = 30_000;
    while (taken.has(port)) port++;
    taken.add(port);
    return port;
  };
  for (const port of ports) port['nodePort'] ??= free();
  if (spec['type'] === 'LoadBalancer' && spec['externalTrafficPolicy'] === 'Local')
    spec['healthCheckNodePort'] ??= free();
}

const MICRO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$/;

/** Times of Leases and Events carry six decimals; anything else is refused while the body is read. */
function microTimeError(object: Json, resource: ServedResource): Refusal | undefined {
  const spec = child(object, 'spec');
  const times =
    resource.kind === 'Lease'
      ? [spec['acquireTime'], spec['renewTime']]
      : resource.kind === 'Event'
        ? [object['eventTime']]
        : [];
  for (const time of times) {
    if (time === undefined || time === null || (typeof time === 'string' && MICRO_TIME.test(time))) continue;
    const rest = typeof time === 'string' ? time.slice('2026-01-01T00:00:00'.length) : '';
    return badRequest(
      `${resource.kind} in version "${resource.version}" cannot be handled as a ${resource.kind}: parsing time ${JSON.stringify(time)} as "2006-01-02T15:04:05.000000Z07:00": cannot parse ${JSON.stringify(rest)} as ".000000"`,
    );
  }
  return undefined;
}
