// Walks a packet through the rendered text as the kernel would: hooks in order of priority, chains, verdict maps. It is the
// first packet of a connection whose client has not been here before. Pure.

import { cidrContains, parseCidr } from '../../lib/cidr.ts';
import { hostPort, isLoopback, parseIp } from '../../lib/ip.ts';
import type { TracePacket, TraceResult, TraceTarget, TraceWorld } from '../traced.ts';
import { applyText, type FakeRuleset, type FakeTable } from './fake.ts';
import type { Field, Rule, Statement } from './grammar.ts';

export interface NftTraceResult extends TraceResult {
  /** Whether the source is rewritten, whichever endpoint is chosen. */
  readonly masquerade: boolean;
}

/** Reads rendered text into tables, on top of those that are there. Throws NftTextError for whatever is not ours to write. */
export function loadRuleset(text: string, before: FakeRuleset = new Map()): FakeRuleset {
  return applyText(before, text);
}

export function trace(ruleset: FakeRuleset, packet: TracePacket, world: TraceWorld): NftTraceResult {
  const first = walk(ruleset, packet, world, 0);
  const walks = [first];
  for (let choice = 1; choice < first.choices; choice++) walks.push(walk(ruleset, packet, world, choice));
  const targets: TraceTarget[] = [];
  for (const { end, endpoint, masquerade } of walks) {
    if (end !== first.end) throw new Error(`one endpoint gives ${end}, another ${first.end}`);
    if (endpoint !== undefined) targets.push({ endpoint, masquerade });
  }
  if (first.end !== 'through') {
    return { verdict: first.end === 'reject' ? 'REJECT' : 'DROP', masquerade: false, targets: [] };
  }
  if (targets.length === 0) {
    if (first.choices > 1) throw new Error('the packet is to be sent to an endpoint that does not exist');
    return { verdict: 'none', masquerade: first.masquerade, targets };
  }
  if (targets.length !== walks.length) throw new Error('a number that can be drawn has no endpoint');
  const verdict = targets.map(({ endpoint }) => endpoint);
  return { verdict, masquerade: targets.every(({ masquerade }) => masquerade), targets };
}

type End = 'through' | 'reject' | 'drop';

interface Walk {
  readonly end: End;
  readonly endpoint: string | undefined;
  readonly masquerade: boolean;
  /** How many numbers could have been drawn; 1 when none was. */
  readonly choices: number;
}

function walk(ruleset: FakeRuleset, packet: TracePacket, world: TraceWorld, choice: number): Walk {
  const table = ruleset.get(packet.destination.includes(':') ? 'ip6' : 'ip');
  const walker = new Walker(table, packet, world, choice);
  const end = walker.run();
  return { end, endpoint: walker.endpoint, masquerade: walker.masquerade, choices: walker.choices };
}

/** What a chain or a rule leaves behind. `next` goes on, `return` leaves the chain; the others end the hook. */
type Effect = 'next' | 'return' | 'accept' | 'reject' | 'drop';

class Walker {
  masquerade = false;
  choices = 1;
  endpoint: string | undefined;
  readonly #table: FakeTable | undefined;
  readonly #packet: TracePacket;
  readonly #world: TraceWorld;
  readonly #choice: number;
  #destination: string;
  #port: number;
  #mark = 0;
  #priority = '0';

  constructor(table: FakeTable | undefined, packet: TracePacket, world: TraceWorld, choice: number) {
    this.#table = table;
    this.#packet = packet;
    this.#world = world;
    this.#choice = choice;
    this.#destination = packet.destination;
    this.#port = packet.port;
  }

  run(): End {
    if (this.#isLocal(this.#packet.source)) {
      const left = this.#hooks(['output', 'postrouting']);
      // What the node sends to itself comes in again on loopback; its addresses are not translated a second time.
      if (left !== 'through' || !this.#isLocal(this.#destination)) return left;
      return this.#hooks(['prerouting', 'input'], false);
    }
    const entered = this.#hooks(['prerouting']);
    if (entered !== 'through') return entered;
    return this.#hooks(this.#isLocal(this.#destination) ? ['input'] : ['forward', 'postrouting']);
  }

  #hooks(names: readonly string[], nat = true): End {
    for (const name of names) {
      const chains = [...(this.#table?.chains ?? [])].flatMap(([chain, { hook }]) =>
        hook?.name === name && (nat || hook.type !== 'nat') ? [{ chain, priority: hook.priority }] : [],
      );
      for (const { chain } of chains.sort((a, b) => a.priority - b.priority)) {
        const effect = this.#chain(chain);
        if (effect === 'reject' || effect === 'drop') return effect;
      }
    }
    return 'through';
  }

  #chain(name: string): Effect {
    const chain = this.#table?.chains.get(name);
    if (!chain) throw new Error(`no chain ${name}`);
    for (const rule of chain.rules) {
      const effect = this.#rule(rule);
      if (effect !== 'next') return effect;
    }
    return 'return';
  }

  #rule(rule: Rule): Effect {
    for (const statement of rule) {
      const effect = this.#statement(statement);
      if (effect === 'break') return 'next';
      if (effect !== 'next') return effect;
    }
    return 'next';
  }

  #statement(statement: Statement): Effect | 'break' {
    switch (statement.kind) {
      case 'state-new':
        return 'next';
      case 'status-dnat':
        return this.endpoint === undefined ? 'break' : 'next';
      case 'local':
        return this.#isLocal(this.#field(statement.field)) ? 'next' : 'break';
      case 'mark':
        return (this.#mark & statement.bits) === 0 ? 'break' : 'next';
      case 'in-set':
        return this.#isIn(statement.set, this.#key(statement.key)) === statement.negated ? 'break' : 'next';
      case 'one-of': {
        const value = this.#field(statement.field);
        return statement.values.some((each) => matches(each, value)) === statement.negated ? 'break' : 'next';
      }
      case 'set-mark':
        this.#mark = statement.operation === 'or' ? this.#mark | statement.bits : this.#mark ^ statement.bits;
        return 'next';
      case 'set-priority':
        return this.#setPriority(statement);
      case 'jump': {
        const effect = this.#chain(statement.chain);
        return effect === 'return' ? 'next' : effect;
      }
      case 'goto':
        return this.#chain(statement.chain);
      case 'vmap': {
        const verdict = this.#look(statement.map, this.#key(statement.key));
        if (verdict === undefined) return 'break';
        return verdict === 'drop' ? 'drop' : this.#chain(verdict.slice('goto '.length));
      }
      case 'dnat':
        return this.#dnat(this.#look(statement.map, this.#key(statement.key)));
      case 'masquerade':
        this.masquerade = true;
        return 'accept';
      case 'drop':
      case 'accept':
      case 'return':
        return statement.kind;
      case 'reject':
        return statement.withReset && this.#packet.protocol !== 'TCP' ? 'break' : 'reject';
      case 'remember':
      case 'forget':
        return 'next';
    }
  }

  #setPriority({ source }: Extract<Statement, { kind: 'set-priority' }>): 'next' | 'break' {
    switch (source.kind) {
      case 'zero':
        this.#priority = '0';
        return 'next';
      case 'numgen':
        this.choices = source.modulus;
        this.#priority = String(this.#choice);
        return 'next';
      case 'jhash':
        // Nobody has been here before, so no map holds it.
        this.#priority = 'hash';
        return 'next';
      case 'map': {
        const value = this.#look(source.map, this.#key(source.key));
        if (value === undefined) return 'break';
        this.#priority = value;
        return 'next';
      }
    }
  }

  #dnat(target: string | undefined): 'break' | 'accept' {
    if (target === undefined) return 'break';
    const [address = '', port = ''] = target.split(' . ');
    this.#destination = address;
    this.#port = Number(port);
    this.endpoint = hostPort(address, this.#port);
    return 'accept';
  }

  #look(map: string, key: string): string | undefined {
    return this.#table?.containers.get(map)?.elements.get(key);
  }

  #isIn(set: string, key: string): boolean {
    const container = this.#table?.containers.get(set);
    if (!container?.interval) return container?.elements.has(key) ?? false;
    const cut = key.lastIndexOf(' . ');
    const prefix = cut < 0 ? '' : key.slice(0, cut + 3);
    const value = key.slice(prefix.length);
    return [...container.elements.keys()].some(
      (each) => each.startsWith(prefix) && matches(each.slice(prefix.length), value),
    );
  }

  #key(fields: readonly Field[]): string {
    return fields.map((field) => this.#field(field)).join(' . ');
  }

  #field(field: Field): string {
    switch (field) {
      case 'daddr':
        return this.#destination;
      case 'saddr':
      case 'original-saddr':
        return this.#packet.source;
      case 'l4proto':
        return this.#packet.protocol.toLowerCase();
      case 'dport':
        return String(this.#port);
      case 'priority':
        return this.#priority;
      case 'original-daddr':
        return this.#packet.destination;
      case 'original-dport':
        return String(this.#packet.port);
      case 'iifname':
        return `"${this.#packet.inputInterface ?? ''}"`;
    }
  }

  #isLocal(address: string): boolean {
    const ip = parseIp(address);
    return ip !== undefined && (isLoopback(ip) || this.#world.localAddresses.includes(ip));
  }
}

/** A value of a rule or an interval set against the packet's: a range holds the addresses inside it, `"veth*"` the names that begin so. */
function matches(pattern: string, value: string): boolean {
  if (pattern.endsWith('*"')) return value.startsWith(pattern.slice(0, -2));
  const range = parseCidr(pattern);
  const ip = parseIp(value);
  return range && ip ? cidrContains(range, ip) : pattern === value;
}
