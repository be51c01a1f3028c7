// What happens to one new connection: the verdict and the masquerading that every backend has to bring about. Pure; the
// userspace backend asks it for each connection, the tests hold the other backends against it.

import { cidrContains, type Cidr } from '../lib/cidr.ts';
import { ipFamily, isLoopback, type Ip } from '../lib/ip.ts';
import type { Port } from '../lib/port.ts';
import type { Protocol } from '../model/records.ts';
import type { Endpoint, Snapshot } from '../model/snapshot.ts';
import { podRange, type DetectLocal } from './config.ts';
import {
  carriedPorts,
  externalAction,
  frontendsOf,
  internalAction,
  shortCircuitAction,
  type Action,
  type Frontend,
} from './intent.ts';

export interface Packet {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: Protocol;
  readonly port: Port;
  /** The interface that it came in on; undefined for the node's own packets, and where it is not known. */
  readonly inputInterface?: string | undefined;
}

/** Where a packet comes from. */
export type PacketSource = Pick<Packet, 'source' | 'inputInterface'>;

/** What the rules know of their node beside the Snapshot. */
export interface NodeView {
  /** Whether the address is one of the node's own, loopback included. */
  readonly isLocal: (ip: Ip) => boolean;
  /** Whether NodePorts answer on this address of the node. */
  readonly isNodePortAddress: (ip: Ip) => boolean;
  /** First address of each family. */
  readonly nodeIps: readonly Ip[];
  /** What counts as a local pod. */
  readonly detectLocal: DetectLocal;
  readonly masqueradeAll: boolean;
  /** Where an address that no Service has is dropped (the cluster's ServiceCIDRs, by rules that know them). */
  readonly unallocated?: readonly Cidr[];
}

export interface Target {
  readonly endpoint: Endpoint;
  /** The endpoint sees the node's address in place of the client's. */
  readonly masquerade: boolean;
}

export type Verdict =
  | { readonly kind: 'forward'; readonly frontend: Frontend; readonly targets: readonly Target[] }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' }
  /** No rule speaks of it. */
  | { readonly kind: 'untouched' };

/**
 * The frontends of a Snapshot by address (or family, for a NodePort), protocol and port. Of two Services that claim one the
 * first by name has it; of two of one Service, the later.
 */
export class FrontendIndex {
  readonly #frontends = new Map<string, Frontend>();
  readonly #clusterIPs = new Set<Ip>();

  constructor(snapshot: Snapshot) {
    const services = [...snapshot.services.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const service of services) {
      const own = new Map<string, Frontend>();
      for (const port of carriedPorts(service)) {
        for (const frontend of frontendsOf(port)) own.set(placeOf(frontend), frontend);
      }
      for (const [place, frontend] of own) {
        if (this.#frontends.has(place)) continue;
        this.#frontends.set(place, frontend);
        if (frontend.kind === 'clusterIP' && frontend.address !== undefined) this.#clusterIPs.add(frontend.address);
      }
    }
  }

  find({ destination, protocol, port }: Packet, view: NodeView): Frontend | undefined {
    const byAddress = this.#frontends.get(`${destination} ${protocol} ${port}`);
    if (byAddress || !view.isNodePortAddress(destination)) return byAddress;
    return this.#frontends.get(`${ipFamily(destination)} ${protocol} ${port}`);
  }

  isClusterIP(ip: Ip): boolean {
    return this.#clusterIPs.has(ip);
  }
}

function placeOf({ address, servicePort, protocol, port }: Frontend): string {
  return `${address ?? servicePort.family} ${protocol} ${port}`;
}

/** The verdict for the first packet of a connection. */
export function judge(packet: Packet, index: FrontendIndex, view: NodeView): Verdict {
  const frontend = index.find(packet, view);
  if (frontend) return judgeFrontend(frontend, packet, view);
  // Another port of a ClusterIP that is in use: nobody else can answer there.
  if (index.isClusterIP(packet.destination)) return { kind: 'reject' };
  return isUnallocated(packet.destination, view) ? { kind: 'drop' } : { kind: 'untouched' };
}

/** Whether no Service has the address although it is one for Services. The node's own addresses are its own, whatever range they are in. */
export function isUnallocated(destination: Ip, view: NodeView): boolean {
  const inRange = view.unallocated?.some((range) => cidrContains(range, destination)) ?? false;
  return inRange && !view.isLocal(destination);
}

/** The verdict for a connection from there to a known frontend. */
export function judgeFrontend(frontend: Frontend, from: PacketSource, view: NodeView): Verdict {
  const { servicePort } = frontend;
  const { source } = from;
  if (frontend.kind === 'clusterIP') {
    const masquerade = view.masqueradeAll || isKnownNonPod(from, view);
    return toVerdict(frontend, internalAction(servicePort), source, masquerade);
  }
  if (!passesSourceRanges(frontend, source, view)) return { kind: 'drop' };
  if (servicePort.externalTrafficPolicy === 'Cluster') {
    return toVerdict(frontend, externalAction(servicePort), source, true);
  }
  if (isPod(from, view)) return toVerdict(frontend, shortCircuitAction(servicePort), source, false);
  if (view.isLocal(source)) return toVerdict(frontend, shortCircuitAction(servicePort), source, true);
  return toVerdict(frontend, externalAction(servicePort), source, false);
}

export function toVerdict(frontend: Frontend, action: Action, source: Ip, masquerade: boolean): Verdict {
  if (action.kind !== 'forward') return action;
  const targets = action.endpoints.map((endpoint) => ({
    endpoint,
    // A pod that reaches itself through its Service would see its own address as the client's and drop the packet.
    masquerade: masquerade || (endpoint.local && endpoint.ip === source),
  }));
  return { kind: 'forward', frontend, targets };
}

export function isPod({ source, inputInterface }: PacketSource, { detectLocal }: NodeView): boolean {
  switch (detectLocal.kind) {
    case 'none':
      return false;
    case 'cidrs': {
      const range = podRange(detectLocal, ipFamily(source));
      return range !== undefined && cidrContains(range, source);
    }
    case 'bridge':
      return inputInterface === detectLocal.interface;
    case 'interface-prefix':
      return inputInterface?.startsWith(detectLocal.prefix) ?? false;
  }
}

/** Only a detector can tell that a source is no pod; without one of the family nothing is masqueraded on that ground. */
export function isKnownNonPod(from: PacketSource, view: NodeView): boolean {
  const { detectLocal } = view;
  if (detectLocal.kind === 'none') return false;
  if (detectLocal.kind === 'cidrs' && podRange(detectLocal, ipFamily(from.source)) === undefined) return false;
  return !isPod(from, view);
}

/**
 * `loadBalancerSourceRanges` hold for the load balancer addresses only. A node that is inside a range and dials an address bound on itself has that
 * address as its source, so that source is let through too.
 */
export function passesSourceRanges(frontend: Frontend, source: Ip, view: NodeView): boolean {
  const ranges = frontend.servicePort.sourceRanges;
  if (frontend.kind !== 'loadBalancerIP' || !ranges) return true;
  const allowed = (ip: Ip): boolean => ranges.some((range) => cidrContains(range, ip));
  if (allowed(source)) return true;
  return source === frontend.address && view.nodeIps.some((ip) => !isLoopback(ip) && allowed(ip));
}
