// The listeners that a Snapshot wants. Pure: what this machine can bind is for apply.ts to find out.

import { cidrContains, cidrFamily } from '../../lib/cidr.ts';
import { hostPort, ipFamily, isLoopback, type Ip } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { ResolvedService, ServicePortKey, Snapshot } from '../../model/snapshot.ts';
import type { NodePortAddresses } from '../config.ts';
import {
  carriedPorts,
  externalAction,
  frontendsOf,
  internalAction,
  shortCircuitAction,
  type Frontend,
} from '../intent.ts';

/** `TCP 127.96.0.10:80`. */
export type ListenerKey = string;

/** One socket that has to listen, and whose traffic it takes. */
export interface Listener {
  readonly key: ListenerKey;
  readonly protocol: 'TCP' | 'UDP';
  readonly address: Ip;
  readonly port: Port;
  readonly frontend: Frontend;
}

/**
 * The addresses on which NodePorts answer, of those in `own` (this machine's). Beside what the configuration says, and unlike in
 * the kernel modes, loopback counts: a relay needs no route_localnet, and on a laptop it is the address that people use.
 * `primary`, the default, is the node's own addresses and loopback.
 */
export function nodePortAddresses(
  config: NodePortAddresses,
  nodeIps: readonly Ip[],
  own: readonly Ip[],
): readonly Ip[] {
  switch (config.kind) {
    case 'all':
      return own;
    case 'primary':
      return own.filter((ip) => isLoopback(ip) || nodeIps.includes(ip));
    case 'cidrs':
      return own.filter((ip) => {
        const ranges = config.cidrs.filter((range) => cidrFamily(range) === ipFamily(ip));
        return ranges.length === 0 || ranges.some((range) => cidrContains(range, ip));
      });
  }
}

/** The listeners of one Service. SCTP has none: Node cannot speak it. */
export function listenersOf(service: ResolvedService | undefined, nodePortIps: readonly Ip[]): readonly Listener[] {
  const listeners: Listener[] = [];
  for (const servicePort of carriedPorts(service)) {
    if (!servicePort.hasEndpoints) continue;
    for (const frontend of frontendsOf(servicePort)) {
      const { protocol, port } = frontend;
      if (protocol === 'SCTP' || !isAnswered(frontend)) continue;
      const addresses =
        frontend.address === undefined
          ? nodePortIps.filter((ip) => ipFamily(ip) === servicePort.family)
          : [frontend.address];
      for (const address of addresses) {
        listeners.push({ key: `${protocol} ${hostPort(address, port)}`, protocol, address, port, frontend });
      }
    }
  }
  return listeners;
}

/**
 * Whether anything listens at the frontend. REJECT is the kernel's own answer where nothing listens. DROP of every source: a UDP
 * socket that says nothing is just that; for TCP there is no silence (a listener would accept), so nothing listens and
 * the client is refused.
 */
function isAnswered({ kind, protocol, servicePort }: Frontend): boolean {
  const actions =
    kind === 'clusterIP'
      ? [internalAction(servicePort)]
      : [externalAction(servicePort), shortCircuitAction(servicePort)];
  return actions.some((action) => action.kind === 'forward' || (action.kind === 'drop' && protocol === 'UDP'));
}

/** The ServicePorts that userspace cannot carry, sorted. */
export function sctpPortsOf(service: ResolvedService | undefined): readonly ServicePortKey[] {
  return carriedPorts(service)
    .filter((port) => port.protocol === 'SCTP')
    .map((port) => port.key);
}

/**
 * Two frontends may claim one address, protocol and port (external IPs are not checked by the API). An address of a Service goes
 * before a NodePort, as the packet's path in the kernel has it; then the first by ServicePort key.
 */
function precedes(a: Listener, b: Listener): number {
  const rank = (listener: Listener): number => (listener.frontend.kind === 'nodePort' ? 1 : 0);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  const [left, right] = [a.frontend.servicePort.key, b.frontend.servicePort.key];
  return left < right ? -1 : Number(left > right);
}

/** Every listener of the Snapshot, sorted by key. */
export function planListeners(snapshot: Snapshot, nodePortIps: readonly Ip[]): ReadonlyMap<ListenerKey, Listener> {
  const winners = new Map<ListenerKey, Listener>();
  for (const service of snapshot.services.values()) {
    for (const listener of listenersOf(service, nodePortIps)) {
      const other = winners.get(listener.key);
      if (!other || precedes(listener, other) < 0) winners.set(listener.key, listener);
    }
  }
  return new Map([...winners].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What has to happen to get from one set of listeners to another. */
export interface ListenerChanges {
  readonly open: readonly Listener[];
  /** Stay as they are, with another frontend behind them. */
  readonly change: readonly Listener[];
  readonly close: readonly ListenerKey[];
}

export function diffListeners(
  before: ReadonlyMap<ListenerKey, Listener>,
  after: ReadonlyMap<ListenerKey, Listener>,
): ListenerChanges {
  const open: Listener[] = [];
  const change: Listener[] = [];
  for (const [key, listener] of after) {
    const old = before.get(key);
    if (!old) open.push(listener);
    else if (old !== listener) change.push(listener);
  }
  return { open, change, close: [...before.keys()].filter((key) => !after.has(key)) };
}

/** What changes of one Service: what it was and what it is. */
export interface ServiceChange {
  readonly before: ResolvedService | undefined;
  readonly after: ResolvedService | undefined;
}

/**
 * The listeners in force, kept up with changes of Services, so that a change costs as much as the Service has ports, however
 * many others there are. Equal to `planListeners` of the newest Snapshot at every step.
 */
export class ListenerTable {
  readonly #claims = new Map<ListenerKey, readonly Listener[]>();

  change(changes: Iterable<ServiceChange>, nodePortIps: readonly Ip[]): ListenerChanges {
    const touched = new Set<ListenerKey>();
    const before = new Map<ListenerKey, Listener>();
    const edit = (key: ListenerKey, claims: readonly Listener[]): void => {
      const [winner] = this.#claims.get(key) ?? [];
      if (winner && !touched.has(key)) before.set(key, winner);
      touched.add(key);
      if (claims.length === 0) this.#claims.delete(key);
      else this.#claims.set(key, claims);
    };
    for (const change of changes) {
      const gone = new Set<ServicePortKey>((change.before?.ports ?? []).map((port) => port.key));
      for (const { key } of listenersOf(change.before, nodePortIps)) {
        const claims = this.#claims.get(key) ?? [];
        edit(
          key,
          claims.filter((claim) => !gone.has(claim.frontend.servicePort.key)),
        );
      }
      for (const listener of listenersOf(change.after, nodePortIps)) {
        edit(listener.key, [...(this.#claims.get(listener.key) ?? []), listener].sort(precedes));
      }
    }
    return diffListeners(before, this.#winners(touched));
  }

  /** The listeners in force now. */
  listeners(): ReadonlyMap<ListenerKey, Listener> {
    return this.#winners(this.#claims.keys());
  }

  #winners(keys: Iterable<ListenerKey>): ReadonlyMap<ListenerKey, Listener> {
    const winners = new Map<ListenerKey, Listener>();
    for (const key of keys) {
      const [first] = this.#claims.get(key) ?? [];
      if (first) winners.set(key, first);
    }
    return winners;
  }
}
