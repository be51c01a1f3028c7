// Brings a set of listeners about on this machine: opens and closes sockets, leads those that stay elsewhere, and keeps account
// of those that cannot be had.

import { backoffDelay } from '../../lib/backoff.ts';
import { ipFamily, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { Clock } from '../../system/clock.ts';
import type { Tcp } from '../../system/tcp.ts';
import type { Udp } from '../../system/udp.ts';
import type { CaughtAddress } from './catch-rules.ts';
import type { Unbound } from './notice.ts';
import type { Listener, ListenerChanges, ListenerKey } from './plan.ts';
import type { TcpRelay } from './relay-tcp.ts';
import type { UdpClients, UdpRelay } from './relay-udp.ts';
import { Route, type Destination } from './route.ts';

export interface BindingsOptions {
  readonly tcp: Tcp;
  readonly udp: Udp;
  readonly clock: Clock;
  readonly random: () => number;
  readonly tcpRelay: TcpRelay;
  readonly udpRelay: UdpRelay;
  /**
   * The address of this machine on which a relay stands in for a Service address of the family that is not this machine's, as rules in the
   * kernel lead there; undefined where there are none.
   */
  readonly standIn: (family: IpFamily) => Ip | undefined;
}

export type LeadTo = (listener: Listener) => Destination;

/** A listener as `state` shows it. */
export interface BoundListener {
  readonly listener: Listener;
  /** TCP connections, or UDP flows, that have not ended. */
  readonly clients: number;
}

interface Bound {
  readonly close: () => void;
  /** One for each socket; none for TCP. */
  readonly udp: readonly UdpClients[];
  /** Where it listens in place of its own address, or beside it. */
  readonly standIn: { readonly ip: Ip; readonly port: number } | undefined;
}

interface Failed {
  readonly code: string;
  readonly failures: number;
  readonly retryAt: number;
}

interface Slot {
  listener: Listener;
  readonly route: Route;
  bound: Bound | undefined;
  /** Of the last attempt to bind. */
  failed: Failed | undefined;
  opening: boolean;
}

/** A port in use may come free, an address may be added: soon at first, then every half minute. */
const RETRY = { initial: 500, max: 30_000 } as const;
/** Listeners opened at a time. */
const BATCH = 64;

export class Bindings {
  readonly #options: BindingsOptions;
  readonly #slots = new Map<ListenerKey, Slot>();
  readonly #unbound = new Set<Slot>();
  /** Sockets that stand in for nobody any more, open until the kernel no longer leads to them: their ports must not become another's before. */
  readonly #retired: (() => void)[] = [];

  constructor(options: BindingsOptions) {
    this.#options = options;
  }

  /**
   * Routes lead where they should, and listeners to be closed are closed, when this returns; the promise is for those to be
   * opened. A listener that cannot be opened is kept among the unbound.
   */
  apply(changes: ListenerChanges, leadTo: LeadTo): Promise<void> {
    for (const key of changes.close) this.#close(key);
    for (const listener of changes.change) {
      const slot = this.#slots.get(listener.key);
      if (!slot) continue;
      slot.listener = listener;
      slot.route.lead(leadTo(listener));
      this.#recheck(slot);
    }
    const opened = changes.open.map((listener) => {
      const slot: Slot = {
        listener,
        route: new Route(leadTo(listener)),
        bound: undefined,
        failed: undefined,
        opening: false,
      };
      this.#slots.set(listener.key, slot);
      return slot;
    });
    return this.#openAll(opened);
  }

  /** Tries again those whose time has come, or all. */
  retry(which: 'due' | 'all'): Promise<void> {
    const now = this.#options.clock.monotonic();
    const slots = [...this.#unbound].filter(({ failed }) => which === 'all' || (failed && failed.retryAt <= now));
    return this.#openAll(slots);
  }

  /** Milliseconds until the next unbound listener is due; undefined when all are bound. */
  retryIn(): number | undefined {
    let earliest: number | undefined;
    for (const { failed } of this.#unbound) {
      if (failed) earliest = Math.min(earliest ?? Infinity, failed.retryAt);
    }
    return earliest === undefined ? undefined : Math.max(0, earliest - this.#options.clock.monotonic());
  }

  /** What the kernel has to lead to the relays, sorted. */
  caught(): readonly CaughtAddress[] {
    const found: CaughtAddress[] = [];
    for (const { listener, bound } of this.#slots.values()) {
      if (!bound?.standIn) continue;
      const { protocol, address, port } = listener;
      found.push({ protocol, address, port, relay: bound.standIn });
    }
    return found.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  /** The kernel leads nothing but `caught` now. */
  closeRetired(): void {
    for (const close of this.#retired.splice(0)) close();
  }

  /** Stand-ins on an address that is no longer right move to the one that is. */
  restand(): Promise<void> {
    const moved = [...this.#slots.values()].filter(
      ({ bound }) => bound?.standIn && this.#options.standIn(ipFamily(bound.standIn.ip)) !== bound.standIn.ip,
    );
    for (const slot of moved) {
      slot.bound?.close();
      slot.bound = undefined;
    }
    return this.#openAll(moved);
  }

  /** Closes every listener; connections go on. Returns how many were bound. */
  closeAll(): number {
    const bound = this.boundCount;
    for (const key of this.#slots.keys()) this.#close(key);
    return bound;
  }

  get boundCount(): number {
    return this.#slots.size - this.#unbound.size;
  }

  /** Whether something of ours listens there. */
  isBound(key: ListenerKey): boolean {
    return this.#slots.get(key)?.bound !== undefined;
  }

  *boundKeys(): Iterable<ListenerKey> {
    for (const [key, { bound }] of this.#slots) if (bound) yield key;
  }

  /** Sorted by key. */
  bound(): readonly BoundListener[] {
    const { tcpRelay, udpRelay } = this.#options;
    const found: BoundListener[] = [];
    for (const { listener, route, bound } of this.#slots.values()) {
      if (!bound) continue;
      const clients =
        listener.protocol === 'TCP'
          ? tcpRelay.connectionsOf(route)
          : bound.udp.reduce((sum, each) => sum + udpRelay.flowsOf(each), 0);
      found.push({ listener, clients });
    }
    return found.sort((a, b) => (a.listener.key < b.listener.key ? -1 : 1));
  }

  /** Sorted by key. */
  unbound(): readonly Unbound[] {
    const found: Unbound[] = [];
    for (const { listener, failed } of this.#unbound) {
      if (failed) found.push({ listener, code: failed.code });
    }
    return found.sort((a, b) => (a.listener.key < b.listener.key ? -1 : 1));
  }

  async #openAll(slots: readonly Slot[]): Promise<void> {
    for (let i = 0; i < slots.length; i += BATCH) {
      await Promise.all(slots.slice(i, i + BATCH).map((slot) => this.#open(slot)));
    }
  }

  async #open(slot: Slot): Promise<void> {
    const wanted = (): boolean => this.#slots.get(slot.listener.key) === slot;
    if (slot.opening || !wanted()) return;
    slot.opening = true;
    const result = await this.#openWhereItCan(slot);
    slot.opening = false;
    if (!wanted()) {
      // The Service went while its socket was being made.
      if (result.kind === 'bound') result.close();
      return;
    }
    if (result.kind === 'bound') {
      slot.bound = result;
      slot.failed = undefined;
      this.#unbound.delete(slot);
      return;
    }
    const failures = (slot.failed?.failures ?? 0) + 1;
    const retryAt = this.#options.clock.monotonic() + backoffDelay(RETRY, failures, this.#options.random());
    slot.failed = { code: result.code, failures, retryAt };
    this.#unbound.add(slot);
  }

  async #openWhereItCan(slot: Slot): Promise<Opened> {
    const { address, port, protocol, frontend } = slot.listener;
    const open = (place: Place): Promise<Opened> =>
      protocol === 'TCP' ? this.#openTcp(slot, place) : this.#openUdp(slot, place);
    const standIn = isLoopback(address) ? undefined : this.#options.standIn(ipFamily(address));
    if (standIn === undefined) return open({ address, port });
    const instead = await open({ address: standIn, port: 0 });
    if (instead.kind === 'failed') return instead;
    const led = { ...instead, standIn: { ip: standIn, port: instead.port } };
    // Any other address may be this machine's by the link of IPVS mode alone, and go with it.
    if (frontend.kind !== 'nodePort') return led;
    // The port is held as well, from others and for who is not led. It would not do alone: while IPVS gives way, its virtual server there goes before
    // any socket.
    const own = await open({ address, port });
    if (own.kind === 'failed') {
      led.close();
      return own;
    }
    const close = (): void => {
      led.close();
      own.close();
    };
    return { ...led, close, udp: [...led.udp, ...own.udp] };
  }

  async #openTcp({ route }: Slot, place: Place): Promise<Opened> {
    const { tcp, tcpRelay } = this.#options;
    const result = await tcp.listen({
      ...place,
      onConnection: (socket) => tcpRelay.accept(socket, route),
    });
    if (result.kind === 'failed') return result;
    const { port } = result.listener;
    return { kind: 'bound', port, close: () => result.listener.close(), udp: [], standIn: undefined };
  }

  async #openUdp({ route }: Slot, place: Place): Promise<Opened> {
    const { udp, udpRelay } = this.#options;
    let clients: UdpClients | undefined;
    const result = await udp.listen({
      ...place,
      onMessage: (data, port, address) => {
        if (clients) udpRelay.receive(clients, data, port, address);
      },
    });
    if (result.kind === 'failed') return result;
    const udpClients: UdpClients = { route, listener: result.listener };
    clients = udpClients;
    const close = (): void => {
      clients = undefined;
      udpRelay.forget(udpClients);
      result.listener.close();
    };
    return { kind: 'bound', port: result.listener.port, close, udp: [udpClients], standIn: undefined };
  }

  #recheck({ route, bound }: Slot): void {
    this.#options.tcpRelay.recheck(route);
    for (const clients of bound?.udp ?? []) this.#options.udpRelay.recheck(clients);
  }

  #close(key: ListenerKey): void {
    const slot = this.#slots.get(key);
    if (!slot) return;
    this.#slots.delete(key);
    this.#unbound.delete(slot);
    slot.route.lead(undefined);
    const { bound } = slot;
    if (bound?.standIn) this.#retired.push(bound.close);
    else bound?.close();
    this.#options.tcpRelay.recheck(slot.route);
  }
}

interface Place {
  readonly address: Ip;
  readonly port: Port | 0;
}

function keyOf({ protocol, address, port }: CaughtAddress): string {
  return `${protocol} ${address} ${port}`;
}

type Opened =
  | (Bound & { readonly kind: 'bound'; /** Where it listens. */ readonly port: number })
  | { readonly kind: 'failed'; readonly code: string };
