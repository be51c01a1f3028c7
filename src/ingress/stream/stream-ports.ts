// The ports that are passed on as they are: opened and closed as the ConfigMaps say, on the main thread. A change of endpoints, or a port that is
// taken out, ends no connection.

import type { Ip } from '../../lib/ip.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { Tcp, TcpSocket } from '../../system/tcp.ts';
import type { Udp, UdpListener } from '../../system/udp.ts';
import { hostPort } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import { RoundRobin } from '../balance.ts';
import type { StreamProtocol, StreamService } from './stream-services.ts';
import { TcpConnections, type StreamTarget, type TcpSettings } from './tcp-port.ts';
import { UdpFlows, type UdpSettings } from './udp-port.ts';

export interface StreamSettings {
  readonly idleMs: number;
  readonly connectMs: number;
  readonly headerMs: number;
  readonly responses: number;
}

export interface StreamPortsOptions {
  /** Each port is opened on all of them. */
  readonly addresses: readonly Ip[];
  readonly tcp: Tcp;
  readonly udp: Udp;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

export interface StreamState {
  readonly protocol: StreamProtocol;
  readonly port: Port;
  readonly service: string;
  readonly endpoints: readonly string[];
  readonly listening: boolean;
  /** Connections, or flows of UDP. */
  readonly open: number;
}

const RETRY_MS = 5000;

export class StreamPorts {
  readonly #options: StreamPortsOptions;
  readonly #ports = new Map<string, StreamPort>();
  /** Closed ports whose connections go on. */
  readonly #leaving = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: StreamPortsOptions) {
    this.#options = options;
  }

  apply(
    services: readonly StreamService[],
    targetsOf: (service: StreamService) => readonly StreamTarget[],
    settings: StreamSettings,
  ): void {
    if (this.#stopping.signal.aborted) return;
    const wanted = new Set<string>();
    for (const service of services) {
      const key = `${service.protocol} ${service.port}`;
      wanted.add(key);
      const targets = targetsOf(service);
      const port = this.#ports.get(key);
      if (port) port.use(service, targets, settings);
      else this.#ports.set(key, new StreamPort(this.#options, service, targets, settings, this.#stopping.signal));
    }
    for (const [key, port] of this.#ports) {
      if (wanted.has(key)) continue;
      this.#ports.delete(key);
      this.#leave(port);
    }
  }

  states(): readonly StreamState[] {
    return [...this.#ports.values()].map((port) => port.state);
  }

  /** Accepts no more; connections may end within `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    for (const port of this.#ports.values()) this.#leave(port);
    this.#ports.clear();
    const bound = this.#options.clock.after(graceMs, () => this.#stopping.abort());
    await Promise.all(this.#leaving);
    bound.cancel();
    this.#stopping.abort();
  }

  #leave(port: StreamPort): void {
    const left = port.close().finally(() => this.#leaving.delete(left));
    this.#leaving.add(left);
  }
}

class StreamPort {
  readonly #options: StreamPortsOptions;
  readonly #stop: AbortSignal;
  readonly #closing = new AbortController();
  readonly #turn: RoundRobin<StreamTarget>;
  readonly #connections: TcpConnections;
  readonly #flows: UdpFlows;
  readonly #opened: Promise<unknown>;
  #service: StreamService;
  #settings: StreamSettings;
  readonly #listeners: { close(): void }[] = [];

  constructor(
    options: StreamPortsOptions,
    service: StreamService,
    targets: readonly StreamTarget[],
    settings: StreamSettings,
    stop: AbortSignal,
  ) {
    const { tcp, udp, clock } = options;
    this.#options = options;
    this.#stop = stop;
    this.#service = service;
    this.#settings = settings;
    this.#turn = new RoundRobin(targets, options.random());
    const own = (): TcpSettings & UdpSettings => ({ ...this.#settings, ...this.#service });
    this.#connections = new TcpConnections(tcp, clock, this.#turn, own);
    this.#flows = new UdpFlows(udp, clock, this.#turn, own);
    this.#opened = Promise.all(options.addresses.map((address) => this.#open(address)));
  }

  get state(): StreamState {
    const { protocol, port, service } = this.#service;
    return {
      protocol,
      port,
      service,
      endpoints: this.#turn.targets.map(({ ip, port: of }) => hostPort(ip, of)),
      listening: this.#listeners.length === this.#options.addresses.length,
      open: protocol === 'TCP' ? this.#connections.count : this.#flows.count,
    };
  }

  use(service: StreamService, targets: readonly StreamTarget[], settings: StreamSettings): void {
    this.#service = service;
    this.#settings = settings;
    this.#turn.swap(targets);
  }

  /** Resolves when its last connection has ended, or the stop is over. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#opened;
    for (const listener of this.#listeners) listener.close();
    this.#flows.close();
    await this.#connections.drain(this.#stop);
  }

  /** Tries until it listens, or nobody wants it any more. */
  async #open(address: Ip): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#closing;
    const { protocol, port } = this.#service;
    let said = '';
    while (!signal.aborted) {
      const result = await (protocol === 'TCP' ? this.#listenTcp(address, port) : this.#listenUdp(address, port));
      if (result.kind === 'listening') {
        this.#listeners.push(result.listener);
        if (said !== '') log.info('a port of a Service is open now', { protocol, port });
        return;
      }
      if (said !== result.code) {
        said = result.code;
        log.warn('a port of a Service cannot be opened; it is tried again', {
          protocol,
          listen: hostPort(address, port),
          service: this.#service.service,
          error: result.code,
          mend: mendOf(result.code, protocol),
        });
      }
      await clock.sleep(RETRY_MS, signal);
    }
  }

  #listenTcp(address: Ip, port: Port): ReturnType<Tcp['listen']> {
    const onConnection = (socket: TcpSocket): void => void this.#connections.serve(socket);
    return this.#options.tcp.listen({ address, port, onConnection });
  }

  async #listenUdp(address: Ip, port: Port): ReturnType<Udp['listen']> {
    let listener: UdpListener | undefined;
    const result = await this.#options.udp.listen({
      address,
      port,
      onMessage: (data, fromPort, from) =>
        this.#flows.take(data, `${from} ${fromPort}`, (answer) => listener?.send(answer, fromPort, from)),
    });
    if (result.kind === 'listening') ({ listener } = result);
    return result;
  }
}

function mendOf(code: string, protocol: StreamProtocol): string {
  switch (code) {
    case 'EADDRINUSE':
      return `another program has the port (\`ss -l${protocol === 'TCP' ? 't' : 'u'}np\` names it); stop it, or choose another port in the ConfigMap`;
    case 'EACCES':
    case 'EPERM':
      return 'run with CAP_NET_BIND_SERVICE, or choose a port from 1024 on in the ConfigMap';
    default:
      return 'choose another port in the ConfigMap';
  }
}
