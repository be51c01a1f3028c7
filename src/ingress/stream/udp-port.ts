import type { Clock, Timer } from '../../system/clock.ts';
import type { Udp, UdpFlow } from '../../system/udp.ts';
import type { RoundRobin } from '../balance.ts';
import type { StreamTarget } from './tcp-port.ts';

export interface UdpSettings {
  /** Without a datagram either way. */
  readonly idleMs: number;
  /** Answers after which a flow is over: nginx' `proxy_responses`; 0 for any number. */
  readonly responses: number;
}

/** Flows of one port at one time; the oldest goes where there would be more. */
const MAX_FLOWS = 4096;

interface Flow {
  readonly socket: UdpFlow;
  timer: Timer;
  answers: number;
}

/** The flows of one UDP port: a client by its address and port, and the endpoint that it has until the flow is over. */
export class UdpFlows {
  readonly #udp: Udp;
  readonly #clock: Clock;
  readonly #turn: RoundRobin<StreamTarget>;
  readonly #settings: () => UdpSettings;
  readonly #flows = new Map<string, Flow>();

  constructor(udp: Udp, clock: Clock, turn: RoundRobin<StreamTarget>, settings: () => UdpSettings) {
    this.#udp = udp;
    this.#clock = clock;
    this.#turn = turn;
    this.#settings = settings;
  }

  get count(): number {
    return this.#flows.size;
  }

  /** `answer` sends to this client. A datagram that no endpoint is there for is lost. */
  take(data: Uint8Array, client: string, answer: (data: Uint8Array) => void): void {
    const flow = this.#flows.get(client) ?? this.#open(client, answer);
    if (!flow) return;
    this.#touch(client, flow);
    flow.socket.send(data);
  }

  close(): void {
    for (const client of this.#flows.keys()) this.#end(client);
  }

  #open(client: string, answer: (data: Uint8Array) => void): Flow | undefined {
    const target = this.#turn.pick();
    if (!target) return undefined;
    if (this.#flows.size >= MAX_FLOWS) this.#end(this.#flows.keys().next().value ?? '');
    const flow: Flow = {
      socket: this.#udp.open({
        address: target.ip,
        port: target.port,
        onMessage: (data) => {
          answer(data);
          const { responses } = this.#settings();
          if (responses > 0 && ++flow.answers >= responses) this.#end(client, flow);
          else this.#touch(client, flow);
        },
        // The next datagram goes to the next endpoint.
        onError: () => this.#end(client, flow),
      }),
      timer: NO_TIMER,
      answers: 0,
    };
    this.#flows.set(client, flow);
    return flow;
  }

  #touch(client: string, flow: Flow): void {
    flow.timer.cancel();
    flow.timer = this.#clock.after(this.#settings().idleMs, () => this.#end(client, flow));
  }

  #end(client: string, flow = this.#flows.get(client)): void {
    if (!flow) return;
    flow.timer.cancel();
    flow.socket.close();
    if (this.#flows.get(client) === flow) this.#flows.delete(client);
  }
}

const NO_TIMER: Timer = { cancel: () => {} };
