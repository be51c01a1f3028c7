// Walks a packet through the tables as the kernel would: hooks, chains, matches. It is the first packet of a connection
// whose client has not been here before. Pure.

import { cidrContains, parseCidr } from '../../lib/cidr.ts';
import { isLoopback, parseIp, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { TracePacket, TraceResult, TraceTarget, TraceWorld } from '../traced.ts';
import type { FakeTables } from './fake.ts';
import type { Match, Rule } from './grammar.ts';
import type { ChainName, Table } from './names.ts';

export function trace(
  tables: Readonly<Record<IpFamily, FakeTables>>,
  packet: TracePacket,
  world: TraceWorld,
): TraceResult {
  const targets: TraceTarget[] = [];
  const family = packet.destination.includes(':') ? 6 : 4;
  for (let choice = 0; ; choice++) {
    const walker = new Walker(tables[family], packet, world, choice);
    const end = walker.run();
    if (end !== 'through') return { verdict: end === 'reject' ? 'REJECT' : 'DROP', targets: [] };
    if (walker.endpoint !== undefined) targets.push({ endpoint: walker.endpoint, masquerade: walker.masquerade });
    if (walker.draws <= choice) break;
  }
  const verdict = targets.length === 0 ? 'none' : targets.map(({ endpoint }) => endpoint);
  return { verdict, targets };
}

type End = 'through' | 'reject' | 'drop';
/** What a chain or a rule leaves behind. `next` goes on, `return` leaves the chain; the others end the table. */
type Effect = 'next' | 'return' | 'accept' | 'reject' | 'drop';

class Walker {
  masquerade = false;
  endpoint: string | undefined;
  /** How many rules could have been drawn so far. */
  draws = 0;
  readonly #tables: FakeTables;
  readonly #packet: TracePacket;
  readonly #world: TraceWorld;
  /** That draw is a hit, those before are not. */
  readonly #choice: number;
  #destination: Ip;
  #port: number;
  #mark = 0;

  constructor(tables: FakeTables, packet: TracePacket, world: TraceWorld, choice: number) {
    this.#tables = tables;
    this.#packet = packet;
    this.#world = world;
    this.#choice = choice;
    this.#destination = packet.destination;
    this.#port = packet.port;
  }

  run(): End {
    if (this.#isLocal(this.#packet.source)) {
      const left = this.#hooks([
        ['nat', 'OUTPUT'],
        ['filter', 'OUTPUT'],
        ['nat', 'POSTROUTING'],
      ]);
      // What the node sends to itself comes in again on loopback; its addresses are not translated a second time.
      if (left !== 'through' || !this.#isLocal(this.#destination)) return left;
      return this.#hooks([['filter', 'INPUT']]);
    }
    const entered = this.#hooks([['nat', 'PREROUTING']]);
    if (entered !== 'through') return entered;
    return this.#hooks(
      this.#isLocal(this.#destination)
        ? [['filter', 'INPUT']]
        : [
            ['filter', 'FORWARD'],
            ['nat', 'POSTROUTING'],
          ],
    );
  }

  #hooks(hooks: readonly (readonly [Table, ChainName])[]): End {
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
        this.#dnat(target.to);
        return 'accept';
      default:
        return target.kind;
    }
  }

  #dnat(to: string): void {
    const match = /^(?:\[(.+)\]|([^:]+)):([0-9]+)$/.exec(to);
    const ip = parseIp(match?.[1] ?? match?.[2] ?? '');
    if (ip === undefined) throw new Error(`DNAT to ${to}`);
    this.#destination = ip;
    this.#port = Number(match?.[3]);
    this.endpoint = to;
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
        return this.#isLocal(match.side === 'source' ? this.#packet.source : this.#destination);
      case 'seen':
        return false;
      case 'random':
        return this.draws++ === this.#choice;
    }
  }

  #comesInOn(name: string): boolean {
    const { inputInterface } = this.#packet;
    if (inputInterface === undefined) return false;
    return name.endsWith('+') ? inputInterface.startsWith(name.slice(0, -1)) : inputInterface === name;
  }

  #isLocal(ip: Ip): boolean {
    return isLoopback(ip) || this.#world.localAddresses.includes(ip);
  }
}

function holds(text: string, ip: Ip): boolean {
  const range = parseCidr(text);
  return range !== undefined && cidrContains(range, ip);
}
