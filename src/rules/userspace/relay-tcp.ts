// Carries TCP connections from Service addresses to endpoints: chooses one, connects, and joins the two (system/tcp-joint.ts). All listeners
// of the backend share one relay.

import { parseIp, type Ip } from '../../lib/ip.ts';
import type { Timer } from '../../system/clock.ts';
import { Joint } from '../../system/tcp-joint.ts';
import { reset, type TcpSocket } from '../../system/tcp.ts';
import type { ServicePortKey } from '../../model/snapshot.ts';
import type { Admission } from './admission.ts';
import type { EndpointKey } from './balance.ts';
import { Dials, type DialOptions, type DialResult } from './dial.ts';
import { proxyHeader } from './proxy-protocol.ts';
import type { Route } from './route.ts';
import type { Tally } from './traffic.ts';

export interface TcpRelayOptions extends DialOptions {
  readonly admission: Admission;
  /** How long a connection that the rules drop is left unanswered before it is reset. */
  readonly dropHoldMs: number;
  /** Called when the number of connections has changed. */
  readonly onCount: (connections: number) => void;
}

/** Short connections come to their end one after the other; beside them one may stand for ever. In times of grace. */
const LONGEST_FINISH = 5;
/** Connections held for DROP at a time; beyond it they are reset at once, so that they cannot use up the descriptors. */
const HELD = 1024;

/** One client, from accept to the end. */
interface Connection {
  readonly client: TcpSocket;
  readonly route: Route;
  readonly servicePort: ServicePortKey;
  readonly tally: Tally;
  /** Undefined until an endpoint has accepted. */
  upstream: TcpSocket | undefined;
  endpoint: EndpointKey | undefined;
  /** Of the client's bytes, what the tally has. */
  received: number;
  sent: number;
}

export class TcpRelay {
  readonly #options: TcpRelayOptions;
  readonly #connections = new Set<Connection>();
  /** The endpoints' side of those that were led to one; may outlive the client's by what is still to be sent. */
  readonly #upstreams = new Set<TcpSocket>();
  readonly #dials: Dials;
  readonly #perRoute = new Map<Route, number>();
  #held = 0;
  #taken = 0;
  #ended = 0;
  #idle: (() => void) | undefined;

  constructor(options: TcpRelayOptions) {
    this.#options = options;
    this.#dials = new Dials(options);
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** How many clients have come so far. */
  get taken(): number {
    return this.#taken;
  }

  /** Brings the tallies up to what every connection has carried until now. */
  settle(): void {
    for (const connection of this.#connections) count(connection);
  }

  /** Ends the connections of the ServicePort to these endpoints by a reset of the client. Returns how many. */
  reset(servicePort: ServicePortKey, endpoints: ReadonlySet<EndpointKey>): number {
    const gone = [...this.#connections].filter(
      (each) => each.servicePort === servicePort && each.endpoint !== undefined && endpoints.has(each.endpoint),
    );
    for (const { client } of gone) reset(client);
    return gone.length;
  }

  /** Connections that came by this route and have not ended. */
  connectionsOf(route: Route): number {
    return this.#perRoute.get(route) ?? 0;
  }

  /** Takes a client's connection; it is ended with its endpoint's, or reset when no endpoint can be reached. */
  accept(client: TcpSocket, route: Route): void {
    const source = parseIp(withoutZone(client.remoteAddress ?? ''));
    this.#taken++;
    // Each failure shows as `close`; what it was is no news to anyone.
    client.on('error', () => {});
    const { destination } = route;
    if (source === undefined || !destination) {
      client.destroy();
      return;
    }
    const { admission, clock, onCount } = this.#options;
    const { tally } = destination;
    const excess = admission.admit(this.#connections.size, () => this.#buffered(), clock.monotonic());
    if (excess) {
      tally.refuse(excess);
      reset(client);
      return;
    }
    const servicePort = destination.frontend.servicePort.key;
    const begun = { upstream: undefined, endpoint: undefined, received: 0, sent: 0 };
    const connection: Connection = { client, route, servicePort, tally, ...begun };
    this.#connections.add(connection);
    tally.begun++;
    tally.open++;
    this.#perRoute.set(route, this.connectionsOf(route) + 1);
    onCount(this.#connections.size);
    client.once('close', () => this.#left(connection));
    this.#lead(connection, source);
  }

  /** After a change of the route: attempts to reach an endpoint that it no longer allows are given up for another. */
  recheck(route: Route): void {
    this.#dials.recheck(route);
  }

  /** Resolves when every connection has ended. Those that are left are reset when none has ended for `graceMs`, or after `LONGEST_FINISH` times that. */
  async finish(graceMs: number): Promise<void> {
    if (this.#connections.size + this.#upstreams.size === 0) return;
    const { clock } = this.#options;
    const latest = clock.monotonic() + LONGEST_FINISH * graceMs;
    const idle = new AbortController();
    this.#idle = () => idle.abort();
    for (let ended = -1; ended !== this.#ended && clock.monotonic() < latest && !idle.signal.aborted;) {
      ended = this.#ended;
      await clock.sleep(graceMs, idle.signal);
    }
    if (idle.signal.aborted) return;
    const closed = new Promise<void>((resolve) => (this.#idle = resolve));
    for (const { client } of this.#connections) reset(client);
    for (const upstream of this.#upstreams) reset(upstream);
    await closed;
  }

  #left(connection: Connection): void {
    const { route, tally } = connection;
    count(connection);
    this.#ended++;
    tally.open--;
    this.#connections.delete(connection);
    const left = this.connectionsOf(route) - 1;
    if (left > 0) this.#perRoute.set(route, left);
    else this.#perRoute.delete(route);
    this.#options.onCount(this.#connections.size);
    this.#checkIdle();
  }

  /** What was read on one side and has not left on the other. */
  #buffered(): number {
    let bytes = 0;
    for (const { client, upstream } of this.#connections) {
      bytes += client.readableLength + client.writableLength;
      if (upstream) bytes += upstream.readableLength + upstream.writableLength;
    }
    return bytes;
  }

  #checkIdle(): void {
    if (this.#connections.size + this.#upstreams.size === 0) this.#idle?.();
  }

  #lead(connection: Connection, source: Ip): void {
    const { client, route } = connection;
    const joint = new Joint(client, this.#options);
    // Not longer than the dial: it would be kept with the connection.
    const giveUp = (): void => dial.giveUp();
    client.once('close', giveUp);
    const dial = this.#dials.begin({
      client: source,
      route,
      onBytes: joint.onBytes,
      onEnd: (result) => {
        client.off('close', giveUp);
        this.#led(connection, source, joint, result);
      },
      onFault: (error) => void client.destroy(error instanceof Error ? error : undefined),
    });
  }

  #led(connection: Connection, source: Ip, joint: Joint, result: DialResult): void {
    const { client, route } = connection;
    if (result.kind === 'drop') this.#hold(client);
    else if (result.kind === 'reject') reset(client);
    else {
      const upstream = result.socket;
      this.#upstreams.add(upstream);
      upstream.once('close', () => {
        this.#upstreams.delete(upstream);
        this.#checkIdle();
      });
      connection.upstream = upstream;
      connection.endpoint = result.endpoint;
      const header = headerFor(source, client, route);
      if (header) upstream.write(header);
      joint.join(upstream);
    }
  }

  #hold(client: TcpSocket): void {
    if (this.#held >= HELD) {
      reset(client);
      return;
    }
    this.#held++;
    const timer: Timer = this.#options.clock.after(this.#options.dropHoldMs, () => reset(client));
    client.once('close', () => {
      this.#held--;
      timer.cancel();
    });
  }
}

function count(connection: Connection): void {
  const { client, tally } = connection;
  tally.received += client.bytesRead - connection.received;
  tally.sent += client.bytesWritten - connection.sent;
  connection.received = client.bytesRead;
  connection.sent = client.bytesWritten;
}

/** Undefined where the Service does not ask for one. */
function headerFor(source: Ip, client: TcpSocket, { destination }: Route): Uint8Array | undefined {
  if (!destination?.proxyProtocol) return undefined;
  return proxyHeader({ ip: source, port: client.remotePort ?? 0 }, destination.at);
}

/** `fe80::1%eth0` is `fe80::1` to the rules. */
function withoutZone(address: string): string {
  const percent = address.indexOf('%');
  return percent < 0 ? address : address.slice(0, percent);
}
