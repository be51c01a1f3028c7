// What one Service puts into the sets and maps. Pure: the planner adds the contributions up, render writes them.

import { ipFamily, type Ip, type IpFamily } from '../../lib/ip.ts';
import { cidrContains, cidrFamily, cidrOfIp, type Cidr } from '../../lib/cidr.ts';
import type { Protocol } from '../../model/records.ts';
import type { Endpoint, ResolvedPort, ResolvedService } from '../../model/snapshot.ts';
import {
  carriedPorts,
  externalAction,
  frontendsOf,
  internalAction,
  shortCircuitAction,
  type Action,
  type Frontend,
} from '../intent.ts';
import { pickNumber, withoutNested, type Flavour } from './layout.ts';
import { endpointHash, servicePortNumber } from './sticky.ts';

/** `4/services/172.30.0.1 . tcp . 80`: family, set or map, key as nft writes it. */
export type ElementId = string;
/** What a map holds for the key; empty for a set. */
export type ElementValue = string;

/** `4/172.30.0.1 . tcp . 80`, or `4/tcp . 30001` for a NodePort: what only one Service can have. */
export type FrontendKey = string;

export interface Contribution {
  /** Elements that belong to this Service alone. */
  readonly elements: ReadonlyMap<ElementId, ElementValue>;
  /** Elements of sets that other Services may need too; they are counted. */
  readonly shared: ReadonlySet<ElementId>;
}

/** The endpoints of a frontend in the order of their index, as nft writes them: what the table has of them so far. */
export type FormerOrder = (id: FrontendKey, map: string) => readonly string[] | undefined;

export interface ContributionContext {
  readonly nodeIps: readonly Ip[];
  /** Whether this Service is the one that holds the frontend. */
  readonly holds: (frontend: FrontendKey) => boolean;
  readonly former: FormerOrder;
}

export function nftProtocol(protocol: Protocol): string {
  return protocol.toLowerCase();
}

function frontendText(frontend: Frontend): string {
  const rest = `${nftProtocol(frontend.protocol)} . ${frontend.port}`;
  return frontend.address === undefined ? rest : `${frontend.address} . ${rest}`;
}

export function frontendKey(frontend: Frontend): FrontendKey {
  return `${frontend.servicePort.family}/${frontendText(frontend)}`;
}

/** The frontends of the Service by key; where two of its own are the same place the later one counts, as in `packet.ts`. */
export function frontendsOfService(service: ResolvedService | undefined): ReadonlyMap<FrontendKey, Frontend> {
  const all = new Map<FrontendKey, Frontend>();
  for (const port of carriedPorts(service)) {
    for (const frontend of frontendsOf(port)) all.set(frontendKey(frontend), frontend);
  }
  return all;
}

export function contributionOf(service: ResolvedService, context: ContributionContext): Contribution {
  const builder = new Builder(context);
  for (const [key, frontend] of frontendsOfService(service)) {
    if (context.holds(key)) builder.add(frontend, key);
  }
  return { elements: builder.elements, shared: builder.shared };
}

class Builder {
  readonly elements = new Map<ElementId, ElementValue>();
  readonly shared = new Set<ElementId>();
  /** By `ServicePortKey policy`: the frontends of a ServicePort share the order of its endpoints. */
  readonly #orders = new Map<string, readonly string[]>();
  readonly #context: ContributionContext;

  constructor(context: ContributionContext) {
    this.#context = context;
  }

  add(frontend: Frontend, key: FrontendKey): void {
    const port = frontend.servicePort;
    const { family } = port;
    const text = frontendText(frontend);
    const place: Place = { key, text, family, prefix: frontend.address === undefined ? 'nodeport-' : '', port };
    if (frontend.kind === 'clusterIP') {
      this.shared.add(`${family}/cluster-ips/${frontend.address}`);
      this.#internal(place);
    } else {
      this.#external(place);
    }
    if (frontend.kind === 'loadBalancerIP') this.#firewall(place, frontend);
    if (port.affinityTimeoutSeconds !== undefined && port.hasEndpoints) {
      this.#set(place, 'sticky-ids', text, String(servicePortNumber(port.key)));
      this.#set(place, 'remember', text, `goto ${place.prefix}remember-${port.affinityTimeoutSeconds}`);
    }
  }

  #internal(place: Place): void {
    const action = internalAction(place.port);
    if (action.kind !== 'forward') {
      this.#refuse(place, action.kind);
      return;
    }
    const policy = place.port.internalTrafficPolicy === 'Local' ? 'local' : 'cluster';
    this.#put(place.family, 'services', place.text, this.#pick(place, '', policy, action.endpoints));
  }

  #external(place: Place): void {
    const { family, prefix, text, port } = place;
    const all: Action = shortCircuitAction(port);
    const outside: Action = externalAction(port);
    if (outside.kind !== 'forward') this.#refuse(place, outside.kind);
    if (all.kind === 'reject') return;
    const services = prefix === '' ? 'externals' : 'nodeports';
    if (port.externalTrafficPolicy === 'Cluster') {
      this.#put(family, services, text, `goto ${prefix}external`);
    } else {
      this.#put(family, services, text, `goto ${prefix}external-local`);
      if (outside.kind === 'forward') {
        this.#set(place, 'local-picks', text, this.#pick(place, 'local-', 'local', outside.endpoints));
      }
    }
    if (all.kind === 'forward') this.#set(place, 'picks', text, this.#pick(place, '', 'cluster', all.endpoints));
  }

  #refuse(place: Place, kind: 'reject' | 'drop'): void {
    this.#set(place, 'refusals', place.text, kind === 'reject' ? 'goto refuse' : 'drop');
  }

  /** Writes the endpoints of the place and returns the number of the chain that picks one of them. */
  #pick(place: Place, flavour: 'local-' | '', policy: 'local' | 'cluster', endpoints: readonly Endpoint[]): string {
    const { family, prefix, text, port } = place;
    const full = `${prefix}${flavour}` as Flavour;
    const order = this.#order(place, `${full}endpoints`, policy, endpoints);
    const map = `${family}/${full}endpoints/${text} . `;
    for (const [index, endpoint] of order.entries()) this.elements.set(`${map}${index}`, endpoint);
    const protocol = nftProtocol(port.protocol);
    for (const { ip, port: target, local } of endpoints) {
      if (local) this.shared.add(`${family}/hairpin/${ip} . ${ip} . ${protocol} . ${target}`);
    }
    if (port.affinityTimeoutSeconds === undefined) return String(pickNumber(false, order.length));
    for (const { ip, port: target } of endpoints) {
      const hash = endpointHash(ip, target);
      this.elements.set(`${family}/${full}sticky-endpoints/${text} . ${hash}`, `${ip} . ${target}`);
    }
    return String(pickNumber(true, order.length));
  }

  #order(place: Place, map: string, policy: 'local' | 'cluster', endpoints: readonly Endpoint[]): readonly string[] {
    const name = `${place.port.key} ${policy}`;
    const known = this.#orders.get(name);
    if (known) return known;
    const wanted = endpoints.map(({ ip, port }) => `${ip} . ${port}`);
    const order = reorder(this.#context.former(place.key, map) ?? [], wanted);
    this.#orders.set(name, order);
    return order;
  }

  /** `loadBalancerSourceRanges`; a node inside a range that dials an address bound on itself comes from that very address. */
  #firewall(place: Place, { address, servicePort }: Frontend): void {
    const ranges = servicePort.sourceRanges;
    if (!ranges || address === undefined) return;
    this.#put(place.family, 'firewall', place.text, '');
    const nodeAllowed = this.#context.nodeIps.some((ip) => ranges.some((range) => cidrContains(range, ip)));
    const allowed = ranges.filter((range) => range.includes(':') === (place.family === 6));
    for (const range of withoutNested(nodeAllowed ? [...allowed, cidrOfIp(address)] : allowed)) {
      this.#put(place.family, 'allowed-sources', `${place.text} . ${rangeText(range)}`, '');
    }
  }

  #set(place: Place, container: string, text: string, value: string): void {
    this.#put(place.family, `${place.prefix}${container}`, text, value);
  }

  #put(family: IpFamily, container: string, text: string, value: string): void {
    this.elements.set(`${family}/${container}/${text}`, value);
  }
}

interface Place {
  readonly key: FrontendKey;
  readonly text: string;
  readonly family: IpFamily;
  readonly prefix: '' | 'nodeport-';
  readonly port: ResolvedPort;
}

/**
 * The wanted endpoints in an order that moves as few as can be: a new one takes the place of one that left, and the
 * last ones move into the holes that remain.
 */
export function reorder(before: readonly string[], wanted: readonly string[]): readonly string[] {
  const missing = new Set(wanted);
  const slots: (string | undefined)[] = before.map((endpoint) => (missing.delete(endpoint) ? endpoint : undefined));
  const fresh = [...missing];
  let next = 0;
  for (let i = 0; i < slots.length && next < fresh.length; i++) slots[i] ??= fresh[next++];
  const result: string[] = [];
  let end = slots.length;
  for (let i = 0; i < end; i++) {
    let endpoint = slots[i];
    while (endpoint === undefined && end > i + 1) endpoint = slots[--end];
    if (endpoint !== undefined) result.push(endpoint);
  }
  return [...result, ...fresh.slice(next)];
}

/** As nft lists it: a range of one address without its length. */
function rangeText(range: Cidr): string {
  const bits = cidrFamily(range) === 4 ? '/32' : '/128';
  return range.endsWith(bits) ? range.slice(0, -bits.length) : range;
}

/** The ranges of the cluster's Services: what goes to an address there that no Service has is dropped, instead of leaving the node. */
export function serviceCidrElements(ranges: readonly Cidr[]): readonly ElementId[] {
  return withoutNested(ranges).map((range) => `${cidrFamily(range)}/service-cidrs/${rangeText(range)}`);
}

/** The node's own addresses as elements: where NodePorts answer with `nodePortAddresses: primary`. */
export function nodePortIpElements(nodeIps: readonly Ip[]): readonly ElementId[] {
  return nodeIps.map((ip) => `${ipFamily(ip)}/nodeport-ips/${ip}`);
}
