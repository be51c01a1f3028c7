// Carries datagrams from Service addresses to endpoints: a flow for each client address and port, which keeps one endpoint and
// brings its answers back from the Service's own address. All listeners of the backend share one relay.

import { parseIp, type Ip } from '../../lib/ip.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Udp, UdpFlow, UdpListener } from '../../system/udp.ts';
import { endpointKey, type EndpointKey } from './balance.ts';
import type { Route } from './route.ts';
import type { Tally } from './traffic.ts';

export interface UdpRelayOptions {
  readonly udp: Udp;
  readonly clock: Clock;
  /** A flow ends when neither side has sent for this long. */
  readonly idleTimeoutMs: number;
  /** Flows at a time, each a descriptor; the one that has been silent longest makes room. */
  readonly maxFlows: () => number;
  /** Called when the number of flows has changed. */
  readonly onCount: (flows: number) => void;
  /** Called for each flow that made room before its time. */
  readonly onEviction: () => void;
  /** Called for each endpoint that refused or could not be reached. */
  readonly onFailure: (endpoint: EndpointKey, code: string) => void;
}

/** One listener's clients. */
export interface UdpClients {
  readonly route: Route;
  readonly listener: UdpListener;
}

interface Flow {
  readonly clients: UdpClients;
  readonly peer: string;
  readonly address: string;
  readonly port: number;
  readonly source: Ip;
  readonly endpoint: EndpointKey;
  /** Endpoints that refused this client before. */
  readonly tried: ReadonlySet<EndpointKey>;
  readonly socket: UdpFlow;
  readonly tally: Tally;
  lastUsed: number;
  /** The newest datagram of a flow that had no answer yet: goes to another endpoint when this one refuses. */
  unanswered: Uint8Array | undefined;
}

const NONE: ReadonlySet<EndpointKey> = new Set();

export class UdpRelay {
  readonly #options: UdpRelayOptions;
  /** By client, for each listener. */
  readonly #byClient = new Map<UdpClients, Map<string, Flow>>();
  /** All flows, the longest silent first. */
  readonly #flows = new Set<Flow>();
  #sweep: Timer | undefined;

  constructor(options: UdpRelayOptions) {
    this.#options = options;
  }

  get flows(): number {
    return this.#flows.size;
  }

  flowsOf(clients: UdpClients): number {
    return this.#byClient.get(clients)?.size ?? 0;
  }

  /** A datagram of a client. One that the rules drop or reject is not answered: a bound socket can send no ICMP. */
  receive(clients: UdpClients, data: Uint8Array, port: number, address: string): void {
    const peer = `${port} ${address}`;
    const flow = this.#byClient.get(clients)?.get(peer);
    if (flow) {
      this.#touch(flow);
      if (flow.unanswered !== undefined) flow.unanswered = data;
      flow.tally.received += data.length;
      flow.socket.send(data);
      return;
    }
    const percent = address.indexOf('%');
    const source = parseIp(percent < 0 ? address : address.slice(0, percent));
    if (source !== undefined) this.#begin({ clients, peer, address, port, source, tried: NONE }, data);
  }

  /** After a change of the route: flows to an endpoint that it no longer allows end, and the next datagram takes another. */
  recheck(clients: UdpClients): void {
    const allowed = new Map<Ip, ReadonlySet<EndpointKey>>();
    for (const flow of this.#byClient.get(clients)?.values() ?? []) {
      const endpoints = allowed.get(flow.source) ?? clients.route.allowed(flow.source);
      allowed.set(flow.source, endpoints);
      if (!endpoints.has(flow.endpoint)) this.#end(flow);
    }
  }

  /** Ends the flows of a listener that is closed. */
  forget(clients: UdpClients): void {
    for (const flow of this.#byClient.get(clients)?.values() ?? []) this.#end(flow);
  }

  #begin(from: Pick<Flow, 'clients' | 'peer' | 'address' | 'port' | 'source' | 'tried'>, data: Uint8Array): void {
    const { udp, clock, maxFlows, onFailure, onEviction } = this.#options;
    const now = clock.monotonic();
    const choice = from.clients.route.choose(from.source, from.tried, now);
    if (choice.kind !== 'endpoint') return;
    const most = maxFlows();
    for (const oldest of this.#flows) {
      if (this.#flows.size < most) break;
      this.#remove(oldest);
      onEviction();
    }
    const endpoint = endpointKey(choice.endpoint);
    const flow: Flow = {
      ...from,
      tally: choice.tally,
      endpoint,
      lastUsed: now,
      unanswered: data,
      socket: udp.open({
        address: choice.endpoint.ip,
        port: choice.endpoint.port,
        onMessage: (answer) => this.#answer(flow, answer),
        onError: (code) => {
          onFailure(endpoint, code);
          this.#refused(flow);
        },
      }),
    };
    this.#add(flow);
    flow.tally.received += data.length;
    flow.socket.send(data);
  }

  #answer(flow: Flow, data: Uint8Array): void {
    flow.unanswered = undefined;
    this.#touch(flow);
    flow.tally.sent += data.length;
    flow.clients.listener.send(data, flow.port, flow.address);
  }

  /**
   * The endpoint's ICMP error ends the flow, and the next datagram takes another endpoint. A question that had no answer goes there
   * at once, to each endpoint at most once: a client that asks once does not notice.
   */
  #refused(flow: Flow): void {
    if (!this.#flows.has(flow)) return;
    this.#end(flow);
    flow.clients.route.failed(flow.source, flow.endpoint);
    if (flow.unanswered === undefined) return;
    this.#begin({ ...flow, tried: new Set([...flow.tried, flow.endpoint]) }, flow.unanswered);
  }

  #add(flow: Flow): void {
    const flows = this.#byClient.get(flow.clients);
    if (flows) flows.set(flow.peer, flow);
    else this.#byClient.set(flow.clients, new Map([[flow.peer, flow]]));
    this.#flows.add(flow);
    flow.tally.begun++;
    flow.tally.open++;
    this.#options.onCount(this.#flows.size);
    this.#sweep ??= this.#nextSweep();
  }

  #end(flow: Flow): void {
    this.#remove(flow);
    this.#options.onCount(this.#flows.size);
    if (this.#flows.size > 0) return;
    this.#sweep?.cancel();
    this.#sweep = undefined;
  }

  #remove(flow: Flow): void {
    flow.socket.close();
    this.#flows.delete(flow);
    flow.tally.open--;
    const flows = this.#byClient.get(flow.clients);
    flows?.delete(flow.peer);
    if (flows?.size === 0) this.#byClient.delete(flow.clients);
  }

  #touch(flow: Flow): void {
    flow.lastUsed = this.#options.clock.monotonic();
    this.#flows.delete(flow);
    this.#flows.add(flow);
  }

  /** One timer for all flows: an idle one ends within a quarter of the timeout after its time. */
  #nextSweep(): Timer {
    const { clock, idleTimeoutMs } = this.#options;
    return clock.after(idleTimeoutMs / 4, () => {
      const limit = clock.monotonic() - idleTimeoutMs;
      for (const flow of this.#flows) {
        if (flow.lastUsed > limit) break;
        this.#end(flow);
      }
      this.#sweep = this.#flows.size > 0 ? this.#nextSweep() : undefined;
    });
  }
}
