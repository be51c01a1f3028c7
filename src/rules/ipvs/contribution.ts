// What one Service needs of IPVS: virtual servers, addresses, entries of sets. Pure: the planner puts the contributions together.

import { cidrContains, cidrFamily } from '../../lib/cidr.ts';
import { hostPort, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Protocol } from '../../model/records.ts';
import type { Endpoint, ResolvedPort, ResolvedService } from '../../model/snapshot.ts';
import type { FrontendKey } from '../claims.ts';
import {
  carriedPorts,
  externalAction,
  frontendsOf,
  internalAction,
  shortCircuitAction,
  type Action,
  type Frontend,
} from '../intent.ts';
import { placeEntry, serverKey, setName, type RealKey, type ServerKey, type SetBase, type SetEntry } from './names.ts';

export interface VirtualServer {
  readonly key: ServerKey;
  /** Seconds for which a client stays with its real server; undefined without affinity. */
  readonly persistence: number | undefined;
  /** Sorted as the endpoints are. Without any, IPVS answers that the port is unreachable. */
  readonly reals: readonly RealKey[];
  /** Every endpoint that a slice names, whatever its state, where connections to others are to be reset; undefined where none are. */
  readonly named?: readonly RealKey[];
}

export interface Contribution {
  readonly servers: readonly VirtualServer[];
  /** For the dummy link. */
  readonly addresses: readonly Ip[];
  readonly entries: readonly SetEntry[];
}

export interface ContributionContext {
  /** Those that this machine has. */
  readonly families: readonly IpFamily[];
  /** Addresses of the node that are on other links; what is there already is not put on the dummy link, but for ClusterIPs. */
  readonly local: ReadonlySet<Ip>;
  /** Nor are these: on the dummy link they would be this node's own, and the API out of its reach (kubernetes#93175). */
  readonly apiServers: ReadonlySet<Ip>;
  /** Those of them on which NodePorts answer. */
  readonly nodePortAddresses: readonly Ip[];
  /** The Node's own addresses, for source ranges. */
  readonly nodeIps: readonly Ip[];
  /** Whether TCP connections to endpoints that no slice names any more are reset. */
  readonly resets: boolean;
  /** Whether this Service is the one that holds the place. */
  readonly holds: (place: FrontendKey) => boolean;
}

/** A frontend at one address: a NodePort is one for each address of the node. */
interface Place {
  readonly key: FrontendKey;
  readonly frontend: Frontend;
  readonly address: Ip;
}

function placesOf(
  service: ResolvedService | undefined,
  { nodePortAddresses, families }: Pick<ContributionContext, 'nodePortAddresses' | 'families'>,
): readonly Place[] {
  const places = new Map<FrontendKey, Place>();
  for (const port of carriedPorts(service)) {
    if (!families.includes(port.family)) continue;
    for (const frontend of frontendsOf(port)) {
      const own = nodePortAddresses.filter((ip) => ip.includes(':') === (port.family === 6));
      for (const address of frontend.address === undefined ? own : [frontend.address]) {
        // An address that is given twice is what it is given as last: a load balancer's, with its source ranges.
        const key = serverKey(frontend.protocol, address, frontend.port);
        places.set(key, { key, frontend, address });
      }
    }
  }
  return [...places.values()];
}

/** The places that the Service would have. */
export function placeKeys(
  service: ResolvedService | undefined,
  context: Pick<ContributionContext, 'nodePortAddresses' | 'families'>,
): ReadonlySet<FrontendKey> {
  return new Set(placesOf(service, context).map(({ key }) => key));
}

export function contributionOf(service: ResolvedService, context: ContributionContext): Contribution {
  const writer = new Writer(context);
  for (const place of placesOf(service, context)) {
    if (context.holds(place.key)) writer.place(place);
  }
  for (const port of carriedPorts(service)) if (context.families.includes(port.family)) writer.healthCheck(port);
  return { servers: writer.servers, addresses: [...writer.addresses], entries: [...writer.entries] };
}

class Writer {
  readonly servers: VirtualServer[] = [];
  readonly addresses = new Set<Ip>();
  readonly entries = new Set<SetEntry>();
  readonly #context: ContributionContext;

  constructor(context: ContributionContext) {
    this.#context = context;
  }

  place({ key, frontend, address }: Place): void {
    const { servicePort: port, kind } = frontend;
    const endpoints = kind === 'clusterIP' ? this.#internal(frontend, address) : this.#external(frontend, address);
    this.servers.push({
      key,
      persistence: port.affinityTimeoutSeconds,
      reals: endpoints.map(realKey),
      ...(this.#context.resets ? { named: port.endpoints.map(realKey) } : {}),
    });
    for (const endpoint of endpoints) if (endpoint.local) this.#hairpin(port, endpoint);
    // What is the node's own stays its own (kubernetes#114815). A DNS server of the node may have taken a ClusterIP: that is a Service's all the same.
    const { local, apiServers } = this.#context;
    if (kind !== 'clusterIP' && (local.has(address) || apiServers.has(address))) return;
    this.addresses.add(address);
    this.entries.add(`${setName(port.family, 'IPVS-IPS')} ${address}`);
  }

  healthCheck({ healthCheckNodePort, family }: ResolvedPort): void {
    if (healthCheckNodePort === undefined) return;
    this.entries.add(`${setName(family, 'HEALTH-CHECK-NODE-PORT')} ${healthCheckNodePort}`);
  }

  #internal(frontend: Frontend, address: Ip): readonly Endpoint[] {
    const action = internalAction(frontend.servicePort);
    this.#put('CLUSTER-IP', frontend, address);
    if (action.kind === 'drop') this.#put('NO-LOCAL-INTERNAL', frontend, address);
    return endpointsOf(action);
  }

  #external(frontend: Frontend, address: Ip): readonly Endpoint[] {
    const { servicePort: port, kind } = frontend;
    const action = externalAction(port);
    const isLocal = port.externalTrafficPolicy === 'Local';
    if (kind === 'nodePort') this.#nodePort(frontend, address, isLocal);
    else if (kind === 'externalIP') this.#put(isLocal ? 'EXTERNAL-IP-LOCAL' : 'EXTERNAL-IP', frontend, address);
    else this.#loadBalancer(frontend, address, isLocal);
    if (action.kind !== 'drop') return endpointsOf(action);
    // Who is outside is dropped; Pods and the node itself reach what there is elsewhere.
    this.#put('NO-LOCAL-EXTERNAL', frontend, address);
    return endpointsOf(shortCircuitAction(port));
  }

  #loadBalancer(frontend: Frontend, address: Ip, isLocal: boolean): void {
    const { servicePort: port, protocol } = frontend;
    this.#put('LOAD-BALANCER', frontend, address);
    if (isLocal) this.#put('LOAD-BALANCER-LOCAL', frontend, address);
    if (port.sourceRanges === undefined) return;
    this.#put('LOAD-BALANCER-FW', frontend, address);
    const ranges = port.sourceRanges.filter((range) => cidrFamily(range) === port.family);
    const place = placeEntry(address, protocol, frontend.port);
    const source = setName(port.family, 'LOAD-BALANCER-SOURCE-CIDR');
    for (const range of ranges) this.entries.add(`${source} ${place},${range.replace(/(?<=\.\d+)\/32$|\/128$/, '')}`);
    // A node inside a range that dials an address which is bound on itself comes from that very address.
    const { nodeIps } = this.#context;
    if (!nodeIps.some((ip) => !isLoopback(ip) && ranges.some((range) => cidrContains(range, ip)))) return;
    this.entries.add(`${setName(port.family, 'LOAD-BALANCER-SOURCE-IP')} ${place},${address}`);
  }

  #nodePort(frontend: Frontend, address: Ip, isLocal: boolean): void {
    const { protocol, port, servicePort } = frontend;
    const { all, local } = NODE_PORT_SETS[protocol];
    for (const base of isLocal ? [all, local] : [all]) {
      if (protocol === 'SCTP') this.#put(base, frontend, address);
      else this.entries.add(`${setName(servicePort.family, base)} ${port}`);
    }
  }

  #hairpin({ protocol, family }: ResolvedPort, { ip, port }: Endpoint): void {
    this.entries.add(`${setName(family, 'LOOP-BACK')} ${placeEntry(ip, protocol, port)},${ip}`);
  }

  #put(base: SetBase, { protocol, port, servicePort }: Frontend, address: Ip): void {
    this.entries.add(`${setName(servicePort.family, base)} ${placeEntry(address, protocol, port)}`);
  }
}

export const NODE_PORT_SETS: Readonly<Record<Protocol, { readonly all: SetBase; readonly local: SetBase }>> = {
  TCP: { all: 'NODE-PORT-TCP', local: 'NODE-PORT-LOCAL-TCP' },
  UDP: { all: 'NODE-PORT-UDP', local: 'NODE-PORT-LOCAL-UDP' },
  SCTP: { all: 'NODE-PORT-SCTP-HASH', local: 'NODE-PORT-LOCAL-SCTP-HASH' },
};

function realKey({ ip, port }: Endpoint): RealKey {
  return hostPort(ip, port);
}

function endpointsOf(action: Action): readonly Endpoint[] {
  return action.kind === 'forward' ? action.endpoints : [];
}
