// Sends a packet by the hooks that the kernel has, through chains, sets and virtual servers. It is the first packet of a connection whose
// client has not been here before. Pure.

import { cidrContains, parseCidr } from '../../lib/cidr.ts';
import { isLoopback, type Ip } from '../../lib/ip.ts';
import type { TracePacket, TraceResult, TraceTarget, TraceWorld } from '../traced.ts';
import { ChainWalk, type End } from '../iptables/walk.ts';
import type { FakeIpvs } from './fake.ts';
import { placeEntry, serverKey } from './names.ts';

export function trace(kernel: FakeIpvs, packet: TracePacket, world: TraceWorld): TraceResult {
  const targets: TraceTarget[] = [];
  for (let choice = 0; ; choice++) {
    const walker = new Walker(kernel, packet, world, choice);
    const end = walker.run();
    if (end !== 'through') return { verdict: end === 'reject' ? 'REJECT' : 'DROP', targets: [] };
    const { endpoint, masquerade, choices } = walker;
    if (endpoint === undefined) return { verdict: 'none', targets: [] };
    targets.push({ endpoint, masquerade });
    if (choices <= choice + 1) return { verdict: targets.map((target) => target.endpoint), targets };
  }
}

class Walker {
  /** How many real servers there are to choose from. */
  choices = 0;
  readonly #kernel: FakeIpvs;
  readonly #packet: TracePacket;
  readonly #choice: number;
  readonly #walk: ChainWalk;
  readonly #fromNode: boolean;

  constructor(kernel: FakeIpvs, packet: TracePacket, world: TraceWorld, choice: number) {
    this.#kernel = kernel;
    this.#packet = packet;
    this.#choice = choice;
    const family = packet.destination.includes(':') ? 6 : 4;
    const local = new Set<string>([...world.localAddresses, ...(kernel.link ?? [])]);
    this.#fromNode = isLoopback(packet.source) || local.has(packet.source);
    this.#walk = new ChainWalk(kernel.iptables.tables[family], packet, {
      localAddresses: { includes: (ip: Ip) => local.has(ip) },
      choice: 0,
      isInSet: (name, by, now) => this.#isInSet(name, by, now),
    });
  }

  get endpoint(): string | undefined {
    return this.#walk.endpoint;
  }

  get masquerade(): boolean {
    return this.#walk.masquerade;
  }

  run(): End {
    const walk = this.#walk;
    if (this.#fromNode) {
      const left = walk.hooks([
        ['mangle', 'OUTPUT'],
        ['nat', 'OUTPUT'],
      ]);
      if (left !== 'through') return left;
      // IPVS comes before the table filter here, and sends the packet through OUTPUT again.
      if (this.#balance() === 'reject') return 'reject';
      const sent = walk.hooks([
        ['filter', 'OUTPUT'],
        ['nat', 'POSTROUTING'],
      ]);
      if (sent !== 'through' || !walk.isLocal(walk.destination)) return sent;
      return walk.hooks([['filter', 'INPUT']]);
    }
    const entered = walk.hooks([
      ['mangle', 'PREROUTING'],
      ['nat', 'PREROUTING'],
    ]);
    if (entered !== 'through') return entered;
    if (!walk.isLocal(walk.destination)) return this.#forward();
    const taken = walk.hooks([['filter', 'INPUT']]);
    if (taken !== 'through') return taken;
    // It comes after the table filter here. A real server on the node itself is reached at once.
    if (this.#balance() === 'reject') return 'reject';
    if (walk.endpoint === undefined || walk.isLocal(walk.destination)) return 'through';
    return walk.hooks([
      ['filter', 'OUTPUT'],
      ['nat', 'POSTROUTING'],
    ]);
  }

  #forward(): End {
    return this.#walk.hooks([
      ['filter', 'FORWARD'],
      ['nat', 'POSTROUTING'],
    ]);
  }

  #balance(): 'reject' | 'done' {
    const { protocol, port } = this.#packet;
    const server = this.#kernel.servers.get(serverKey(protocol, this.#walk.destination, port));
    if (!server) return 'done';
    const reals = [...server.reals].filter(([, { options }]) => !options.endsWith('-w 0')).map(([real]) => real);
    this.choices = reals.length;
    const chosen = reals[this.#choice];
    if (chosen === undefined) return 'reject';
    this.#walk.translate(chosen);
    return 'done';
  }

  #isInSet(name: string, by: readonly ('src' | 'dst')[], packet: TracePacket): boolean {
    const set = this.#kernel.sets.get(name);
    if (!set) throw new Error(`no set ${name}`);
    const { source, destination, protocol, port } = packet;
    const address = (side: 'src' | 'dst' | undefined): Ip => (side === 'src' ? source : destination);
    const place = placeEntry(address(by[0]), protocol, port);
    switch (set.type) {
      case 'bitmap:port':
        return protocol !== 'SCTP' && set.entries.has(String(port));
      case 'hash:ip':
        return set.entries.has(address(by[0]));
      case 'hash:ip,port':
        return set.entries.has(place);
      case 'hash:ip,port,ip':
        return set.entries.has(`${place},${address(by[2])}`);
      default:
        return [...set.entries].some((entry) => {
          if (!entry.startsWith(`${place},`)) return false;
          const text = entry.slice(place.length + 1);
          const range = parseCidr(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
          return range !== undefined && cidrContains(range, address(by[2]));
        });
    }
  }
}
