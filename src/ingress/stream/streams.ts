// Ports of Services that are passed on as they are, as one thing that is given Snapshots: the ConfigMaps are read again when one of them or a Service is another.

import type { Ip } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import { systemTcp } from '../../system/tcp.ts';
import { systemUdp } from '../../system/udp.ts';
import { streamEndpoints } from '../backend.ts';
import { DEFAULT_GLOBALS } from '../global-settings.ts';
import type { RouteTable } from '../route-table.ts';
import { StreamPorts, type StreamState } from './stream-ports.ts';
import { readStreamServices, type StreamProtocol, type StreamService } from './stream-services.ts';

export interface StreamFlags {
  readonly tcp: ObjectKey | undefined;
  readonly udp: ObjectKey | undefined;
  /** Listened on for all ports. */
  readonly addresses: readonly Ip[];
  /** TCP ports that this process has for itself. */
  readonly reserved: ReadonlySet<number>;
}

/** nginx' proxy_timeout of streams, and the other defaults of ingress-nginx. */
const DEFAULTS = { idleMs: 600_000, connectMs: 5_000, responses: 1 };

export class Streams {
  readonly #flags: StreamFlags;
  readonly #log: Logger;
  readonly #ports: StreamPorts;
  readonly #told = new Map<string, string>();
  #services: readonly StreamService[] = [];
  #before: Snapshot | undefined;

  constructor(flags: StreamFlags, { log, clock }: { readonly log: Logger; readonly clock: Clock }) {
    this.#flags = flags;
    this.#log = log;
    const { addresses } = flags;
    this.#ports = new StreamPorts({ addresses, tcp: systemTcp, udp: systemUdp, clock, log, random: Math.random });
  }

  apply(snapshot: Snapshot, table: RouteTable): void {
    const before = this.#before;
    this.#before = snapshot;
    // The keys of the controller's ConfigMap are of one of these, too.
    if (before?.configMaps === snapshot.configMaps && before.services === snapshot.services) return;
    if (before?.configMaps !== snapshot.configMaps) {
      this.#services = [
        ...this.#read('TCP', this.#flags.tcp, snapshot),
        ...this.#read('UDP', this.#flags.udp, snapshot),
      ];
    }
    const { streams, front } = table.selection.globals ?? DEFAULT_GLOBALS;
    const headerMs = front.proxyProtocolMs;
    this.#ports.apply(
      this.#services,
      ({ protocol, service, servicePort }) => streamEndpoints(snapshot.services.get(service), protocol, servicePort),
      { ...DEFAULTS, headerMs, ...streams },
    );
    for (const { service, protocol, port, endpoints } of this.#ports.states()) {
      const key = `${protocol} ${port} ${service}`;
      this.#tell(key, endpoints.length > 0 ? '' : 'none', () =>
        this.#log.warn('a port is open for a Service that has no ready endpoint there', {
          protocol,
          port,
          service,
          mend: 'correct the name and the port in the ConfigMap, or look at the Pods of the Service',
        }),
      );
    }
  }

  states(): readonly StreamState[] {
    return this.#ports.states();
  }

  stop(graceMs: number): Promise<void> {
    return this.#ports.stop(graceMs);
  }

  #read(protocol: StreamProtocol, key: ObjectKey | undefined, snapshot: Snapshot): readonly StreamService[] {
    if (key === undefined) return [];
    const map = snapshot.configMaps.get(key);
    const { services, problems } = readStreamServices(protocol, map, this.#flags.reserved);
    const flag = `--${protocol.toLowerCase()}-services-configmap`;
    this.#tell(flag, map ? '' : 'missing', () =>
      this.#log.warn(`the ConfigMap of ${flag} does not exist, so it opens no port`, { configMap: key }),
    );
    this.#tell(`${flag} problems`, JSON.stringify(problems), () => {
      for (const { port, reason, mend } of problems) {
        this.#log.warn('an entry of a ConfigMap cannot be used; the others are', {
          configMap: key,
          port,
          reason,
          mend,
        });
      }
    });
    return services;
  }

  /** Says a thing once, until it is another. */
  #tell(about: string, state: string, say: () => void): void {
    if ((this.#told.get(about) ?? '') === state) return;
    this.#told.set(about, state);
    if (state !== '' && state !== '[]') say();
  }
}
