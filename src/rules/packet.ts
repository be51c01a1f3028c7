// What happens to one new connection: the verdict and the masquerading that every backend has to bring about. Pure; the
// userspace backend asks it for each connection, the tests hold the other backends against it.

import { cidrContains, type Cidr } from '../lib/cidr.ts';
import { ipFamily, isLoopback, type Ip } from '../lib/ip.ts';
import type { Port } from '../lib/port.ts';
import type { Protocol } from '../model/records.ts';
import type { RulesMode } from './backend.ts';
import type { Endpoint, ResolvedPort, Snapshot } from '../model/snapshot.ts';
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
  /**
   * `iptables`: as that mode has it, which refuses no other port of a ClusterIP, asks for source ranges only where there are
   * endpoints, and refuses NodePorts on every local address. `ipvs`: as that mode has it, which refuses every other port of an address of
   * a Service, and has one set of endpoints for an address, whoever asks. Otherwise as the others have it.
   */
  readonly mode?: RulesMode;
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
  readonly #addresses = new Set<Ip>();
  readonly #healthCheckPorts = new Set<string>();

  constructor(snapshot: Snapshot) {
    const services = [...snapshot.services.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const service of services) {
      const own = new Map<string, Frontend>();
      for (const port of carriedPorts(service)) {
        for (const frontend of frontendsOf(port)) own.set(placeOf(frontend), frontend);
        if (port.healthCheckNodePort !== undefined) {
          this.#healthCheckPorts.add(`${port.family} ${port.healthCheckNodePort}`);
        }
      }
      for (const [place, frontend] of own) {
        if (this.#frontends.has(place)) continue;
        this.#frontends.set(place, frontend);
        if (frontend.address !== undefined) this.#addresses.add(frontend.address);
        if (frontend.kind === 'clusterIP' && frontend.address !== undefined) this.#clusterIPs.add(frontend.address);
      }
    }
  }

  find(packet: Packet, view: NodeView): Frontend | undefined {
    const { destination, protocol, port } = packet;
    const byAddress = this.#frontends.get(`${destination} ${protocol} ${port}`);
    if (byAddress || !view.isNodePortAddress(destination)) return byAddress;
    return this.findNodePort(packet);
  }

  /** The NodePort, whatever address of the node it is asked at. */
  findNodePort({ destination, protocol, port }: Packet): Frontend | undefined {
    return this.#frontends.get(`${ipFamily(destination)} ${protocol} ${port}`);
  }

  /** Who has the place of this frontend, among those that claim it. */
  holderOf(frontend: Frontend): Frontend | undefined {
    return this.#frontends.get(placeOf(frontend));
  }

  /** Whether this address of a Service takes packets of ports that it does not have, and refuses them. */
  refusesOtherPorts({ destination, port }: Packet, view: NodeView): boolean {
    if (view.mode === 'iptables') return false;
    if (view.mode !== 'ipvs') return this.#clusterIPs.has(destination);
    // Health checks of load balancers go to the address of the Service, and to the node's own listener.
    const isCheck = this.#healthCheckPorts.has(`${ipFamily(destination)} ${port}`);
    return this.#addresses.has(destination) && !view.isLocal(destination) && !isCheck;
  }
}

function placeOf({ address, servicePort, protocol, port }: Frontend): string {
  return `${address ?? servicePort.family} ${protocol} ${port}`;
}

/** The verdict for the first packet of a connection. */
export function judge(packet: Packet, index: FrontendIndex, view: NodeView): Verdict {
  const frontend = index.find(packet, view);
  if (frontend) return judgeFrontend(frontend, packet, view);
  if (view.mode === 'iptables' && view.isLocal(packet.destination)) {
    const nodePort = index.findNodePort(packet);
    const refused = nodePort && externalAction(nodePort.servicePort);
    if (refused && refused.kind !== 'forward') return refused;
  }
  if (view.mode === 'iptables') return { kind: 'untouched' };
  // Another port of a ClusterIP that is in use: nobody else can answer there.
  if (index.refusesOtherPorts(packet, view)) return { kind: 'reject' };
  return isUnallocated(packet.destination, view) ? { kind: 'drop' } : { kind: 'untouched' };
}

/** Whether no Service has the address although it is one for Services. The node's own addresses are its own, whatever range they are in. */
export function isUnallocated(destination: Ip, view: NodeView): boolean {
  const inRange = view.unallocated?.some((range) => cidrContains(range, destination)) ?? false;
  return inRange && !view.isLocal(destination);
}

/** The verdict for a connection from there to a known frontend. */
export function judgeFrontend(frontend: Frontend, from: PacketSource, view: NodeView): Verdict {
  const { action, masquerade } = frontendAction(frontend, from, view);
  return toVerdict(frontend, action, from.source, masquerade);
}

/** The same, without a look at each endpoint: `masquerade` is of all, but for one that is the source itself. */
export function frontendAction(
  frontend: Frontend,
  from: PacketSource,
  view: NodeView,
): { readonly action: Action; readonly masquerade: boolean } {
  const { servicePort } = frontend;
  const { source } = from;
  if (frontend.kind === 'clusterIP') {
    const masquerade = view.masqueradeAll || isKnownNonPod(from, view);
    return { action: internalAction(servicePort), masquerade };
  }
  if (!passesSourceRanges(frontend, source, view)) return { action: { kind: 'drop' }, masquerade: false };
  if (servicePort.externalTrafficPolicy === 'Cluster') return { action: externalAction(servicePort), masquerade: true };
  if (isPod(from, view)) return { action: insideAction(servicePort, view), masquerade: false };
  if (view.isLocal(source)) return { action: insideAction(servicePort, view), masquerade: true };
  return { action: externalAction(servicePort), masquerade: false };
}

/**
 * What Pods and the node itself get of an external address under policy Local: every endpoint. A virtual server of IPVS has one set for all
 * who ask: the local ones, as long as there are some.
 */
export function insideAction(port: ResolvedPort, view: NodeView): Action {
  const outside = externalAction(port);
  return view.mode === 'ipvs' && outside.kind === 'forward' ? outside : shortCircuitAction(port);
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
 * address as its source, so that source is let through too; in iptables mode, whose chain is that of the ServicePort, also to its other addresses.
 */
export function passesSourceRanges(frontend: Frontend, source: Ip, view: NodeView): boolean {
  const ranges = frontend.servicePort.sourceRanges;
  if (frontend.kind !== 'loadBalancerIP' || !ranges) return true;
  if (view.mode === 'iptables' && !frontend.servicePort.hasEndpoints) return true;
  const allowed = (ip: Ip): boolean => ranges.some((range) => cidrContains(range, ip));
  if (allowed(source)) return true;
  const { loadBalancerIPs } = frontend.servicePort;
  const isBoundHere =
    view.mode === 'iptables'
      ? loadBalancerIPs.some(({ ip, vip }) => vip && ip === source)
      : source === frontend.address;
  return isBoundHere && view.nodeIps.some((ip) => !isLoopback(ip) && allowed(ip));
}
