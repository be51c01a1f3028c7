// What a listener does with a client: the verdict of the rules for that source (packet.ts), and of the endpoints that it
// allows the one that is next.

import type { Ip } from '../../lib/ip.ts';
import type { Endpoint } from '../../model/snapshot.ts';
import type { Frontend } from '../intent.ts';
import { judgeFrontend, type NodeView } from '../packet.ts';
import { endpointKey, type Balancer, type EndpointKey } from './balance.ts';

export type Choice =
  | { readonly kind: 'endpoint'; readonly endpoint: Endpoint }
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
}

/** Lives as long as its listener; each Snapshot may give it another destination, and `undefined` closes it. */
export class Route {
  #destination: Destination | undefined;

  constructor(destination: Destination) {
    this.#destination = destination;
  }

  /** From here on no new connection goes anywhere else. */
  lead(destination: Destination | undefined): void {
    this.#destination = destination;
  }

  /** `tried`: endpoints that this connection has tried in vain. Rejected when none is left. `now` in milliseconds. */
  choose(client: Ip, tried: ReadonlySet<EndpointKey>, now: number): Choice {
    const destination = this.#destination;
    if (!destination) return REJECT;
    const verdict = judgeFrontend(destination.frontend, { source: client }, destination.view);
    if (verdict.kind === 'drop') return DROP;
    if (verdict.kind !== 'forward') return REJECT;
    const allowed = verdict.targets.map((target) => target.endpoint);
    const endpoint = destination.balancer.pick(allowed, client, tried, now);
    return endpoint ? { kind: 'endpoint', endpoint } : REJECT;
  }

  /** The endpoints that a new connection of the client could be given. */
  allowed(client: Ip): ReadonlySet<EndpointKey> {
    const destination = this.#destination;
    if (!destination) return NONE;
    const verdict = judgeFrontend(destination.frontend, { source: client }, destination.view);
    if (verdict.kind !== 'forward') return NONE;
    return new Set(verdict.targets.map((target) => endpointKey(target.endpoint)));
  }

  /** The endpoint failed the client. */
  failed(client: Ip, endpoint: EndpointKey): void {
    this.#destination?.balancer.forget(client, endpoint);
  }
}
