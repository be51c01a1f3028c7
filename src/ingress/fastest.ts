// load-balance: ewma, as ingress-nginx has it: of two endpoints taken at random the one that answered sooner lately.

import type { RoundRobin, Targets } from './balance.ts';
import { DECAY_MS, decayed } from './http/latency.ts';
import type { EndpointPool } from './http/upstream.ts';

export class Fastest implements Targets<EndpointPool> {
  readonly #turn: RoundRobin<EndpointPool>;
  readonly #random: () => number;
  readonly #now: () => number;

  constructor(turn: RoundRobin<EndpointPool>, random: () => number, now: () => number) {
    this.#turn = turn;
    this.#random = random;
    this.#now = now;
  }

  get targets(): readonly EndpointPool[] {
    return this.#turn.targets;
  }

  has(target: EndpointPool): boolean {
    return this.#turn.has(target);
  }

  pick(tried: readonly EndpointPool[] = []): EndpointPool | undefined {
    const usable = this.#turn.targets.filter((target) => !target.ejected && !tried.includes(target));
    if (usable.length < 2) return usable[0] ?? this.#turn.pick(tried);
    const first = Math.floor(this.#random() * usable.length);
    const step = 1 + Math.floor(this.#random() * (usable.length - 1));
    const [one, two] = [usable[first], usable[(first + step) % usable.length]];
    return one && two && this.#score(two) < this.#score(one) ? two : one;
  }

  /** Whoever is new starts as an average one would, so that not everything goes there at once. */
  answered(target: EndpointPool, ms: number): void {
    const now = this.#now();
    const before = target.latency ?? { ms: this.#average(), at: now - DECAY_MS };
    target.latency = { ms: decayed(before, now, ms), at: now };
  }

  #score(target: EndpointPool): number {
    return target.latency ? decayed(target.latency, this.#now()) : this.#average();
  }

  #average(): number {
    const now = this.#now();
    const known = this.#turn.targets.flatMap(({ latency }) => (latency ? [decayed(latency, now)] : []));
    return known.length === 0 ? 0 : known.reduce((sum, ms) => sum + ms, 0) / known.length;
  }
}
