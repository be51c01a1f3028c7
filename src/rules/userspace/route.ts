// What a listener does with a client: the verdict of the rules for that source (packet.ts), and of the endpoints that it
// allows the one that is next.

import type { Ip } from '../../lib/ip.ts';
import type { Endpoint } from '../../model/snapshot.ts';
import type { Frontend } from '../intent.ts';
import { frontendAction, type NodeView } from '../packet.ts';
import { endpointKey, type Balancer, type EndpointKey } from './balance.ts';
import type { Tally } from './traffic.ts';

export type Choice =
  | { readonly kind: 'endpoint'; readonly endpoint: Endpoint; readonly tally: Tally }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' };

const REJECT: Choice = { kind: 'reject' };
const DROP: Choice = { kind: 'drop' };
const NONE: ReadonlySet<EndpointKey> = new Set();

/** What a route leads to now. */
export interface Destination {
  readonly frontend: Frontend;
  readonly balancer: Balancer;
  readonly view: NodeView;
  /** Where clients find it. */
  readonly at: { readonly ip: Ip; readonly port: number };
  /** The client's address is told to the endpoint by PROXY protocol. */
  readonly proxyProtocol: boolean;
  readonly tally: Tally;
  /** Whether the endpoint is a listener of our own, from which a connection would come back to us. */
  readonly isOwn: (endpoint: Endpoint) => boolean;
}

/** Lives as long as its listener; each Snapshot may give it another destination, and `undefined` closes it. */
export class Route {
  #destination: Destination | undefined;

  constructor(destination: Destination) {
    this.#destination = destination;
  }

  /** Undefined when it is closed. */
  get destination(): Destination | undefined {
    return this.#destination;
  }

  /** From here on no new connection goes anywhere else. */
  lead(destination: Destination | undefined): void {
    this.#destination = destination;
  }

  /** `tried`: endpoints that this connection has tried in vain. Rejected when none is left. `now` in milliseconds. */
  choose(client: Ip, tried: ReadonlySet<EndpointKey>, now: number): Choice {
    const destination = this.#destination;
    if (!destination) return REJECT;
    const { frontend, view, balancer, isOwn, tally } = destination;
    const { action } = frontendAction(frontend, { source: client }, view);
    if (action.kind === 'drop') return DROP;
    if (action.kind === 'reject') return REJECT;
    for (let passed = tried; ;) {
      const endpoint = balancer.pick(action.endpoints, client, passed, now);
      if (!endpoint) return REJECT;
      if (!isOwn(endpoint)) return { kind: 'endpoint', endpoint, tally };
      passed = new Set([...passed, endpointKey(endpoint)]);
    }
  }

  /** The endpoints that a new connection of the client could be given. */
  allowed(client: Ip): ReadonlySet<EndpointKey> {
    const destination = this.#destination;
    if (!destination) return NONE;
    const { frontend, view, isOwn } = destination;
    const { action } = frontendAction(frontend, { source: client }, view);
    if (action.kind !== 'forward') return NONE;
    return new Set(action.endpoints.filter((endpoint) => !isOwn(endpoint)).map(endpointKey));
  }

  /** A client keeps the endpoint that it had before. */
  get hasAffinity(): boolean {
    return this.#destination?.frontend.servicePort.affinityTimeoutSeconds !== undefined;
  }

  /** Of several endpoints that the client was given, this is the one that it has. `now` in milliseconds. */
  reached(client: Ip, endpoint: Endpoint, now: number): void {
    this.#destination?.balancer.keep(client, endpoint, now);
  }

  /** The endpoint failed the client. */
  failed(client: Ip, endpoint: EndpointKey): void {
    this.#destination?.balancer.forget(client, endpoint);
  }
}
