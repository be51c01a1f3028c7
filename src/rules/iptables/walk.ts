// Walks a packet through chains as the kernel would: matches, targets, jumps. Which hooks it comes by, and in which order, is the tracer's. Pure.

import { cidrContains, parseCidr } from '../../lib/cidr.ts';
import { isLoopback, parseIp, type Ip } from '../../lib/ip.ts';
import type { TracePacket } from '../traced.ts';
import type { FakeTables } from './fake.ts';
import type { Match, Rule } from './grammar.ts';
import type { ChainName, Table } from './names.ts';

export type End = 'through' | 'reject' | 'drop';
/** What a chain or a rule leaves behind. `next` goes on, `return` leaves the chain; the others end the table. */
type Effect = 'next' | 'return' | 'accept' | 'reject' | 'drop';

export interface WalkOptions {
  /** The node's own addresses; loopback ones always are. */
  readonly localAddresses: { readonly includes: (ip: Ip) => boolean };
  /** That draw is a hit, those before are not. */
  readonly choice: number;
  /** Whether the set has the packet's entry; none has without it. */
  readonly isInSet?: (name: string, by: readonly ('src' | 'dst')[], packet: TracePacket) => boolean;
}

export class ChainWalk {
  masquerade = false;
  endpoint: string | undefined;
  /** How many rules could have been drawn so far. */
  draws = 0;
  readonly #tables: FakeTables;
  readonly #packet: TracePacket;
  readonly #options: WalkOptions;
  #destination: Ip;
  #port: number;
  #mark = 0;

  constructor(tables: FakeTables, packet: TracePacket, options: WalkOptions) {
    this.#tables = tables;
    this.#packet = packet;
    this.#options = options;
    this.#destination = packet.destination;
    this.#port = packet.port;
  }

  get destination(): Ip {
    return this.#destination;
  }

  isLocal(ip: Ip): boolean {
    return isLoopback(ip) || this.#options.localAddresses.includes(ip);
  }

  /** Gives the packet another destination. `to`: `10.0.0.1:8080`, `[fd00::1]:8080`. */
  translate(to: string): void {
    const match = /^(?:\[(.+)\]|([^:]+)):([0-9]+)$/.exec(to);
    const ip = parseIp(match?.[1] ?? match?.[2] ?? '');
    if (ip === undefined) throw new Error(`translated to ${to}`);
    this.#destination = ip;
    this.#port = Number(match?.[3]);
    this.endpoint = to;
  }

  /** The chains one after the other, until one ends the packet. */
  hooks(hooks: readonly (readonly [Table, ChainName])[]): End {
    for (const [table, chain] of hooks) {
      const effect = this.#chain(table, chain);
      if (effect === 'reject' || effect === 'drop') return effect;
    }
    return 'through';
  }

  #chain(table: Table, name: ChainName): Effect {
    const rules = this.#tables[table].get(name);
    if (!rules) throw new Error(`no chain ${name}`);
    for (const { rule } of rules) {
      const effect = this.#rule(table, rule);
      if (effect !== 'next') return effect;
    }
    return 'return';
  }

  #rule(table: Table, rule: Rule): Effect {
    if (!rule.matches.every((match) => this.#matches(match))) return 'next';
    const { target } = rule;
    if (target === undefined) return 'next';
    switch (target.kind) {
      case 'chain': {
        const effect = this.#chain(table, target.name);
        return effect === 'return' ? 'next' : effect;
      }
      case 'mark':
        this.#mark = (this.#mark & ~target.mask) ^ target.value;
        return 'next';
      case 'masquerade':
        this.masquerade = true;
        return 'accept';
      case 'dnat':
        this.translate(target.to);
        return 'accept';
      default:
        return target.kind;
    }
  }

  #matches(match: Match): boolean {
    switch (match.kind) {
      case 'comment':
      case 'count':
      case 'remember':
        return true;
      case 'source':
        return holds(match.range, this.#packet.source) !== match.negated;
      case 'destination':
        return holds(match.range, this.#destination) !== match.negated;
      case 'input':
        return this.#comesInOn(match.name) !== match.negated;
      case 'protocol':
        return match.name === this.#packet.protocol.toLowerCase();
      case 'dport':
        return match.port === this.#port;
      case 'state': {
        const states = ['NEW', ...(this.endpoint === undefined ? [] : ['DNAT'])];
        return states.some((state) => match.states.includes(state)) !== match.negated;
      }
      case 'mark':
        return ((this.#mark & match.mask) >>> 0 === match.value) !== match.negated;
      case 'local':
        return this.isLocal(match.side === 'source' ? this.#packet.source : this.#destination);
      case 'seen':
        return false;
      case 'set':
        return (
          this.#options.isInSet?.(match.name, match.by, {
            ...this.#packet,
            destination: this.#destination,
            port: this.#port,
          }) ?? false
        );
      case 'random':
        return this.draws++ === this.#options.choice;
    }
  }

  #comesInOn(name: string): boolean {
    const { inputInterface } = this.#packet;
    if (inputInterface === undefined) return false;
    return name.endsWith('+') ? inputInterface.startsWith(name.slice(0, -1)) : inputInterface === name;
  }
}

function holds(text: string, ip: Ip): boolean {
  const range = parseCidr(text);
  return range !== undefined && cidrContains(range, ip);
}
