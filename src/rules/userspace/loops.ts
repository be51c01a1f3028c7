// Endpoints that are listeners of our own: a connection led there would come back to us, and go round until nothing is left. Pure.

import type { ResolvedPort, ServicePortKey } from '../../model/snapshot.ts';
import { endpointKey } from './balance.ts';
import type { ListenerKey } from './plan.ts';

export interface Loop {
  readonly servicePort: ServicePortKey;
  readonly listener: ListenerKey;
}

/** Who has each address as an endpoint, kept up with changes of Services. */
export class EndpointOwners {
  readonly #owners = new Map<ListenerKey, Set<ServicePortKey>>();

  add(port: ResolvedPort): void {
    for (const place of placesOf(port)) {
      const owners = this.#owners.get(place);
      if (owners) owners.add(port.key);
      else this.#owners.set(place, new Set([port.key]));
    }
  }

  remove(port: ResolvedPort): void {
    for (const place of placesOf(port)) {
      const owners = this.#owners.get(place);
      owners?.delete(port.key);
      if (owners?.size === 0) this.#owners.delete(place);
    }
  }

  /** Those that have one of `listeners` as an endpoint, sorted. */
  loops(listeners: Iterable<ListenerKey>): readonly Loop[] {
    const found: Loop[] = [];
    for (const listener of listeners) {
      for (const servicePort of this.#owners.get(listener) ?? []) found.push({ servicePort, listener });
    }
    return found.sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
  }
}

function placesOf({ protocol, endpoints }: ResolvedPort): readonly ListenerKey[] {
  return endpoints.map((endpoint) => `${protocol} ${endpointKey(endpoint)}`);
}

function textOf({ servicePort, listener }: Loop): string {
  return `${servicePort} ${listener}`;
}
