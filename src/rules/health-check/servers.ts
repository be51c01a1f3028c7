// The sockets of health-check node ports: one HTTP server for each address and port, followed through every Snapshot that is in force.

import type { Ip } from '../../lib/ip.ts';
import { hostPort } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import { HttpListenError, serveHttp, type HttpAnswer, type HttpServer } from '../../system/http-server.ts';
import type { NodePortAddresses } from '../config.ts';
import { healthCheckAddresses, healthCheckAnswer, planHealthChecks, type HealthCheck } from './plan.ts';

export interface HealthCheckServersOptions {
  readonly nodePortAddresses: NodePortAddresses;
  /** Whether the rules keep up. */
  readonly isHealthy: () => boolean;
  /** This machine's addresses. */
  readonly addresses: () => readonly Ip[];
  /** An address that cannot be listened on: told once for each Service, until it works. */
  readonly onFailure: (check: HealthCheck, message: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Until addresses of this machine and ports that were taken are looked at again, without any other reason. */
const LOOK_AGAIN_MS = 5_000;

interface Listener {
  check: HealthCheck;
  readonly server: HttpServer;
}

export class HealthCheckServers {
  readonly #options: HealthCheckServersOptions;
  #nodePortAddresses: NodePortAddresses;
  #latest: { readonly snapshot: Snapshot; readonly checks: ReadonlyMap<string, readonly HealthCheck[]> } | undefined;
  readonly #listeners = new Map<string, Listener>();
  readonly #failed = new Set<string>();
  #timer: Timer | undefined;
  #working: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: HealthCheckServersOptions) {
    this.#options = options;
    this.#nodePortAddresses = options.nodePortAddresses;
  }

  /** Takes the Snapshot that is in force now. Counts are right at once; sockets open and close behind it. */
  update(snapshot: Snapshot): void {
    this.#latest = { snapshot, checks: planHealthChecks(snapshot, this.#latest) };
    this.#reconcile();
  }

  configure(nodePortAddresses: NodePortAddresses): void {
    this.#nodePortAddresses = nodePortAddresses;
    this.#reconcile();
  }

  state(): unknown {
    return [...this.#listeners].map(([address, { check }]) => ({ address, ...check }));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#working;
    await Promise.all([...this.#listeners.values()].map(({ server }) => server.close()));
    this.#listeners.clear();
  }

  #wanted(): ReadonlyMap<string, { readonly address: Ip; readonly check: HealthCheck }> {
    const wanted = new Map<string, { address: Ip; check: HealthCheck }>();
    if (!this.#latest) return wanted;
    const { snapshot, checks } = this.#latest;
    if (checks.size === 0) return wanted;
    const own = this.#options.addresses();
    for (const check of [...checks.values()].flat()) {
      const addresses = healthCheckAddresses(this.#nodePortAddresses, check.family, snapshot.node.ips, own);
      for (const address of addresses) {
        const key = hostPort(address, check.port);
        if (!wanted.has(key)) wanted.set(key, { address, check });
      }
    }
    return wanted;
  }

  #reconcile(): void {
    const wanted = this.#wanted();
    for (const [key, { check }] of wanted) {
      const listener = this.#listeners.get(key);
      if (listener) listener.check = check;
    }
    this.#working = this.#working.then(() => this.#openAndClose());
  }

  /** One at a time, always towards what is wanted then. */
  async #openAndClose(): Promise<void> {
    if (this.#stopped) return;
    const wanted = this.#wanted();
    for (const [key, { server }] of this.#listeners) {
      if (wanted.has(key)) continue;
      this.#listeners.delete(key);
      await server.close();
    }
    for (const key of this.#failed) if (!wanted.has(key)) this.#failed.delete(key);
    for (const [key, { address, check }] of wanted) {
      if (!this.#listeners.has(key)) await this.#open(key, address, check);
    }
    this.#timer?.cancel();
    if (wanted.size > 0) this.#timer = this.#options.clock.after(LOOK_AGAIN_MS, () => this.#reconcile());
  }

  async #open(key: string, address: Ip, check: HealthCheck): Promise<void> {
    const { log, onFailure } = this.#options;
    const name = `${check.namespace}/${check.name}`;
    try {
      const server = await serveHttp(address, check.port, () => this.#answer(key), { ipv6Only: true });
      this.#listeners.set(key, { check, server });
      if (this.#failed.delete(key))
        log.info('health-check node port answers after all', { service: name, address: key });
      else log.debug('health-check node port answers', { service: name, address: key });
    } catch (error) {
      if (!(error instanceof HttpListenError)) throw error;
      if (this.#failed.has(key)) return;
      this.#failed.add(key);
      const message = `node port ${check.port} of its health check cannot be listened on at ${key} (${error.code}); trying again`;
      log.warn(`Service ${name}: ${message}; free the port, or give the Service another healthCheckNodePort`);
      onFailure(check, message);
    }
  }

  /** Every path and every method is answered alike. */
  #answer(key: string): HttpAnswer {
    const listener = this.#listeners.get(key);
    // Its Service has gone this very moment.
    if (!listener) return { status: 503, contentType: 'text/plain; charset=utf-8', body: '' };
    return { contentType: 'application/json', ...healthCheckAnswer(listener.check, this.#options.isHealthy()) };
  }
}
