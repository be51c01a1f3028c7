// `status.loadBalancer` of an Ingress: where it is reached from outside.

import type { IngressRecord, PublishedAddress } from '../../model/records.ts';
import type { ApiConnection } from './connection.ts';
import { fieldAt, listAt, sendObject, type ObjectAnswer } from './object.ts';
import { textOf } from './raw.ts';

export type StatusWrite = 'written' | 'same' | Exclude<ObjectAnswer, { readonly kind: 'object' }>;

const TRIES = 3;

/**
 * Reads the Ingress and replaces its status (the right `update` on `ingresses/status` is enough, as ingress-nginx' role has it). Addresses that are
 * there already cost no write. When the object changes meanwhile it is read again.
 */
export async function writeIngressStatus(
  connection: ApiConnection,
  ingress: Pick<IngressRecord, 'namespace' | 'name'>,
  addresses: readonly PublishedAddress[],
  signal: AbortSignal,
): Promise<StatusWrite> {
  const path = `/apis/networking.k8s.io/v1/namespaces/${encodeURIComponent(ingress.namespace)}/ingresses/${encodeURIComponent(ingress.name)}`;
  for (let tried = 1; ; tried++) {
    const read = await sendObject(connection, { method: 'GET', path, signal });
    if (read.kind !== 'object') return read;
    const now = publishedOf(read.object);
    if (sameAddresses(now, addresses)) return 'same';
    const object = {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'Ingress',
      metadata: fieldAt(read.object, 'metadata'),
      spec: fieldAt(read.object, 'spec'),
      status: { loadBalancer: addresses.length === 0 ? {} : { ingress: addresses.map(toJson) } },
    };
    const written = await sendObject(connection, { method: 'PUT', path: `${path}/status`, object, signal });
    if (written.kind === 'object') return 'written';
    if (written.kind !== 'conflict' || tried >= TRIES) return written;
  }
}

/** Sorted, so that the same addresses are the same list; hostnames behind addresses. */
export function sortedAddresses(addresses: readonly PublishedAddress[]): readonly PublishedAddress[] {
  const unique = new Map(addresses.map((address) => [keyOf(address), address]));
  return [...unique].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, address]) => address);
}

export function sameAddresses(a: readonly PublishedAddress[], b: readonly PublishedAddress[]): boolean {
  // As they were written: of thousands of Ingresses all but those that changed.
  if (a.length === b.length && a.every(({ ip, hostname }, i) => ip === b[i]?.ip && hostname === b[i]?.hostname))
    return true;
  const text = (list: readonly PublishedAddress[]): string => sortedAddresses(list).map(keyOf).join(' ');
  return text(a) === text(b);
}

function publishedOf(ingress: unknown): readonly PublishedAddress[] {
  return listAt(ingress, 'status', 'loadBalancer', 'ingress').map((entry) => ({
    ip: textOf(entry, 'ip') || undefined,
    hostname: textOf(entry, 'hostname') || undefined,
  }));
}

function keyOf({ ip, hostname }: PublishedAddress): string {
  return `${ip === undefined ? 1 : 0}${ip ?? ''}|${hostname ?? ''}`;
}

function toJson({ ip, hostname }: PublishedAddress): unknown {
  return { ...(ip === undefined ? {} : { ip }), ...(hostname === undefined ? {} : { hostname }) };
}
