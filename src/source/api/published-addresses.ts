// Which addresses Ingresses are reached at: those given, those of a Service, or those of the nodes that run the controller.

import { parseIp } from '../../lib/ip.ts';
import type { PublishedAddress } from '../../model/records.ts';
import type { ApiConnection } from './connection.ts';
import { answerText, fieldAt, listAt, sendObject, type ObjectAnswer } from './object.ts';
import { fieldOf, textOf } from './raw.ts';
import { sortedAddresses } from './ingress-status.ts';

/** In ingress-nginx' order: the first that is given counts. */
export type AddressSource =
  | { readonly kind: 'given'; readonly addresses: readonly string[] }
  | { readonly kind: 'service'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'nodes'; readonly pod: PodIdentity; readonly internal: boolean };

/** Our own Pod, of the variables POD_NAMESPACE and POD_NAME. */
export interface PodIdentity {
  readonly namespace: string;
  readonly name: string;
}

export type Published =
  | { readonly kind: 'addresses'; readonly addresses: readonly PublishedAddress[] }
  | { readonly kind: 'unknown'; readonly reason: string };

export async function readPublished(
  connection: ApiConnection,
  source: AddressSource,
  signal: AbortSignal,
): Promise<Published> {
  switch (source.kind) {
    case 'given':
      return { kind: 'addresses', addresses: sortedAddresses(source.addresses.map(toAddress)) };
    case 'service': {
      const path = `/api/v1/namespaces/${encodeURIComponent(source.namespace)}/services/${encodeURIComponent(source.name)}`;
      const answer = await sendObject(connection, { method: 'GET', path, signal });
      if (answer.kind !== 'object') return unknown(`Service ${source.namespace}/${source.name}`, answer);
      return { kind: 'addresses', addresses: sortedAddresses(addressesOfService(answer.object)) };
    }
    case 'nodes':
      return addressesOfNodes(connection, source, signal);
  }
}

/** How many ready Pods of the controller there are, our own included; undefined when it cannot be known. */
export async function controllerPods(
  connection: ApiConnection,
  pod: PodIdentity,
  signal: AbortSignal,
): Promise<readonly unknown[] | undefined> {
  const found = await readPods(connection, pod, signal);
  return Array.isArray(found) ? (found as readonly unknown[]) : undefined;
}

/** As ingress-nginx: a load balancer's addresses and external IPs, a ClusterIP, the name of an ExternalName. */
export function addressesOfService(service: unknown): readonly PublishedAddress[] {
  const spec = fieldOf(service, 'spec');
  const external = listAt(spec, 'externalIPs').filter(isText).map(toAddress);
  const clusterIp = textOf(spec, 'clusterIP') ?? '';
  const own = clusterIp === '' || clusterIp === 'None' ? [] : [toAddress(clusterIp)];
  switch (textOf(spec, 'type')) {
    case 'ExternalName':
      return [textOf(spec, 'externalName') ?? ''].filter((name) => name !== '').map(toAddress);
    case 'LoadBalancer': {
      const balancers = listAt(service, 'status', 'loadBalancer', 'ingress').flatMap((entry) => {
        const ip = textOf(entry, 'ip') || undefined;
        const hostname = textOf(entry, 'hostname') || undefined;
        return ip === undefined && hostname === undefined
          ? []
          : [{ ip, hostname: ip === undefined ? hostname : undefined }];
      });
      return [...balancers, ...external];
    }
    case 'NodePort':
      return external.length > 0 ? external : own;
    default:
      return own;
  }
}

function toAddress(text: string): PublishedAddress {
  return parseIp(text) ? { ip: text, hostname: undefined } : { ip: undefined, hostname: text };
}

async function addressesOfNodes(
  connection: ApiConnection,
  { pod, internal }: Extract<AddressSource, { readonly kind: 'nodes' }>,
  signal: AbortSignal,
): Promise<Published> {
  const pods = await readPods(connection, pod, signal);
  if ('kind' in pods) return pods;
  const names = new Set(
    pods.map((each) => textOf(fieldOf(each, 'spec'), 'nodeName') ?? '').filter((name) => name !== ''),
  );
  const addresses: PublishedAddress[] = [];
  for (const name of names) {
    const node = await sendObject(connection, {
      method: 'GET',
      path: `/api/v1/nodes/${encodeURIComponent(name)}`,
      signal,
    });
    if (node.kind !== 'object') return unknown(`Node ${name}`, node);
    addresses.push(...addressOfNode(node.object, internal));
  }
  return { kind: 'addresses', addresses: sortedAddresses(addresses) };
}

function addressOfNode(node: unknown, internal: boolean): readonly PublishedAddress[] {
  const all = listAt(node, 'status', 'addresses');
  const of = (type: string): string | undefined =>
    all.map((each) => (textOf(each, 'type') === type ? textOf(each, 'address') : undefined)).find(isText);
  const chosen = internal ? of('InternalIP') : (of('ExternalIP') ?? of('InternalIP'));
  return chosen === undefined ? [] : [toAddress(chosen)];
}

/** Labels that a controller of Pods gives each generation of its own. */
const OF_A_GENERATION = ['controller-revision-hash', 'pod-template-generation', 'pod-template-hash'];

async function readPods(
  connection: ApiConnection,
  { namespace, name }: PodIdentity,
  signal: AbortSignal,
): Promise<readonly unknown[] | Extract<Published, { readonly kind: 'unknown' }>> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  const own = await sendObject(connection, { method: 'GET', path: `${path}/${encodeURIComponent(name)}`, signal });
  if (own.kind !== 'object') return unknown(`Pod ${namespace}/${name}`, own);
  const labels = fieldAt(own.object, 'metadata', 'labels');
  const pairs = typeof labels === 'object' && labels !== null ? Object.entries(labels) : [];
  const selector = pairs
    .filter(([key]) => !OF_A_GENERATION.includes(key))
    .map(([key, value]) => `${key}=${String(value)}`);
  const query = new URLSearchParams({ labelSelector: selector.join(',') }).toString();
  const list = await sendObject(connection, { method: 'GET', path: `${path}?${query}`, signal });
  if (list.kind !== 'object') return unknown('the Pods of the controller', list);
  return listAt(list.object, 'items').filter(isReady);
}

function isReady(pod: unknown): boolean {
  return listAt(pod, 'status', 'conditions').some(
    (condition) => textOf(condition, 'type') === 'Ready' && textOf(condition, 'status') === 'True',
  );
}

function unknown(what: string, answer: ObjectAnswer): Extract<Published, { readonly kind: 'unknown' }> {
  return { kind: 'unknown', reason: `${what}: ${answerText(answer)}` };
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
