// Which endpoint the next connection of a ServicePort takes: round robin, or the one that the client had before
// (`sessionAffinity: ClientIP`). One Balancer serves all addresses of its ServicePort, as kube-proxy has it.

import { hostPort, type Ip } from '../../lib/ip.ts';
import type { Endpoint } from '../../model/snapshot.ts';

/** `ip:port`, by which an endpoint is the same in the next Snapshot. */
export type EndpointKey = string;

export function endpointKey(endpoint: Endpoint): EndpointKey {
  return hostPort(endpoint.ip, endpoint.port);
}

/** Clients remembered for one ServicePort: a scan over many source addresses must not take the memory. The oldest goes. */
const CLIENTS_KEPT = 16_384;

interface Sticky {
  readonly endpoint: EndpointKey;
  readonly ip: Ip;
  readonly port: number;
  readonly chosenAt: number;
}

export class Balancer {
  #next: number;
  #affinityMs: number | undefined;
  /** In order of choice, oldest first. */
  readonly #clients = new Map<Ip, Sticky>();

  /** `random` in [0, 1) places the start, so that many nodes do not all begin with the first endpoint. */
  constructor(random: number) {
    this.#next = Math.floor(random * 0x1_0000);
  }

  /** Takes over what a new Snapshot says: the timeout (undefined: no affinity), and which endpoints there are at all. */
  update(affinityTimeoutSeconds: number | undefined, endpoints: ReadonlySet<EndpointKey>): void {
    this.#affinityMs = affinityTimeoutSeconds === undefined ? undefined : affinityTimeoutSeconds * 1000;
    if (this.#affinityMs === undefined) {
      this.#clients.clear();
      return;
    }
    for (const [client, { endpoint }] of this.#clients) if (!endpoints.has(endpoint)) this.#clients.delete(client);
  }

  /** The endpoint for a new connection, or undefined when each was tried. `now` in milliseconds. */
  pick(endpoints: readonly Endpoint[], client: Ip, tried: ReadonlySet<EndpointKey>, now: number): Endpoint | undefined {
    const endpoint = this.#sticky(endpoints, client, tried, now) ?? this.#roundRobin(endpoints, tried);
    if (endpoint) this.keep(client, endpoint, now);
    return endpoint;
  }

  /** With affinity, this is the client's endpoint from now on. Each new connection starts the timeout anew, as the kernel backends do. */
  keep(client: Ip, endpoint: Endpoint, now: number): void {
    if (this.#affinityMs === undefined) return;
    this.#clients.delete(client);
    const { ip, port } = endpoint;
    this.#clients.set(client, { endpoint: endpointKey(endpoint), ip, port, chosenAt: now });
    if (this.#clients.size <= CLIENTS_KEPT) return;
    for (const oldest of this.#clients.keys()) {
      this.#clients.delete(oldest);
      return;
    }
  }

  /** The endpoint failed the client: the next connection may go elsewhere. */
  forget(client: Ip, endpoint: EndpointKey): void {
    if (this.#clients.get(client)?.endpoint === endpoint) this.#clients.delete(client);
  }

  /** How many clients are remembered. */
  get clients(): number {
    return this.#clients.size;
  }

  #sticky(
    endpoints: readonly Endpoint[],
    client: Ip,
    tried: ReadonlySet<EndpointKey>,
    now: number,
  ): Endpoint | undefined {
    const sticky = this.#clients.get(client);
    if (!sticky || this.#affinityMs === undefined) return undefined;
    if (now - sticky.chosenAt >= this.#affinityMs || tried.has(sticky.endpoint)) return undefined;
    return endpoints.find(({ ip, port }) => ip === sticky.ip && port === sticky.port);
  }

  #roundRobin(endpoints: readonly Endpoint[], tried: ReadonlySet<EndpointKey>): Endpoint | undefined {
    // A second choice for the same connection takes nobody's turn: of two endpoints the first of each connection would be the same for ever.
    const start = tried.size === 0 ? this.#next++ : this.#next;
    for (let i = 0; i < endpoints.length; i++) {
      const endpoint = endpoints[(start + i) % endpoints.length];
      if (endpoint && !tried.has(endpointKey(endpoint))) return endpoint;
    }
    return undefined;
  }
}
