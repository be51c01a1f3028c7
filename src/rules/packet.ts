// What happens to one new connection: the verdict and the masquerading that every backend has to bring about. Pure; the
// userspace backend asks it for each connection, the tests hold the other backends against it.

import { cidrContains, cidrFamily, type Cidr } from '../lib/cidr.ts';
import { isLoopback, type Ip } from '../lib/ip.ts';
import type { Port } from '../lib/port.ts';
import type { Protocol } from '../model/records.ts';
import type { Endpoint, ResolvedPort, Snapshot } from '../model/snapshot.ts';
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
}

/** What the rules know of their node beside the Snapshot. */
export interface NodeView {
  /** Whether the address is one of the node's own, loopback included. */
  readonly isLocal: (ip: Ip) => boolean;
  /** Whether NodePorts answer on this address of the node. */
  readonly isNodePortAddress: (ip: Ip) => boolean;
  /** First address of each family. */
  readonly nodeIps: readonly Ip[];
  /** Sources that count as local pods (detect-local mode ClusterCIDR); without one of a family nothing is known to be a pod. */
  readonly clusterCIDRs: readonly Cidr[];
  readonly masqueradeAll: boolean;
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

/** The frontends of a Snapshot by address, protocol and port. */
export class FrontendIndex {
  readonly #byAddress = new Map<string, Frontend>();
  readonly #byNodePort = new Map<string, Frontend>();
  readonly #clusterIPs = new Set<Ip>();

  constructor(snapshot: Snapshot) {
    for (const service of snapshot.services.values()) {
      for (const port of carriedPorts(service)) this.#add(port);
    }
  }

  #add(port: ResolvedPort): void {
    if (port.clusterIP !== undefined) this.#clusterIPs.add(port.clusterIP);
    for (const frontend of frontendsOf(port)) {
      if (frontend.address === undefined) {
        this.#byNodePort.set(`${port.family} ${frontend.protocol} ${frontend.port}`, frontend);
      } else {
        this.#byAddress.set(`${frontend.address} ${frontend.protocol} ${frontend.port}`, frontend);
      }
    }
  }

  find(packet: Packet, view: NodeView): Frontend | undefined {
    const { destination, protocol, port } = packet;
    const byAddress = this.#byAddress.get(`${destination} ${protocol} ${port}`);
    if (byAddress || !view.isNodePortAddress(destination)) return byAddress;
    const family = destination.includes(':') ? 6 : 4;
    return this.#byNodePort.get(`${family} ${protocol} ${port}`);
  }

  isClusterIP(ip: Ip): boolean {
    return this.#clusterIPs.has(ip);
  }
}

/** The verdict for the first packet of a connection. */
export function judge(packet: Packet, index: FrontendIndex, view: NodeView): Verdict {
  const frontend = index.find(packet, view);
  if (frontend) return judgeFrontend(frontend, packet.source, view);
  // Another port of a ClusterIP that is in use: nobody else can answer there.
  return index.isClusterIP(packet.destination) ? { kind: 'reject' } : { kind: 'untouched' };
}

/** The verdict for a connection from `source` to a known frontend. */
export function judgeFrontend(frontend: Frontend, source: Ip, view: NodeView): Verdict {
  const { servicePort } = frontend;
  if (frontend.kind === 'clusterIP') {
    const masquerade = view.masqueradeAll || isKnownNonPod(source, servicePort, view);
    return toVerdict(frontend, internalAction(servicePort), source, masquerade);
  }
  if (!passesSourceRanges(frontend, source, view)) return { kind: 'drop' };
  if (servicePort.externalTrafficPolicy === 'Cluster') {
    return toVerdict(frontend, externalAction(servicePort), source, true);
  }
  if (isPod(source, view)) return toVerdict(frontend, shortCircuitAction(servicePort), source, false);
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

export function isPod(source: Ip, view: NodeView): boolean {
  return view.clusterCIDRs.some((range) => cidrContains(range, source));
}

/** Only a detector can tell that a source is no pod; without one of the family nothing is masqueraded on that ground. */
export function isKnownNonPod(source: Ip, port: ResolvedPort, view: NodeView): boolean {
  return view.clusterCIDRs.some((range) => cidrFamily(range) === port.family) && !isPod(source, view);
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
