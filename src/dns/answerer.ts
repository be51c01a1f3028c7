// What answers in one thread: blocks that run, the zones that they answer from, and the sockets. The whole of it in a small process, one
// of several beside each other where there are worker threads.

import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../observe/log.ts';
import type { Meters } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import type { Files } from '../system/files.ts';
import { configure, type BlockAt, type Configuration } from './configuration.ts';
import { startListener, type BoundAddress, type Listener } from './listener.ts';
import { createDnsMetrics, type DnsMetrics } from './metrics.ts';
import { createDnsServer, type DnsServer, type Site } from './server.ts';
import { FactsHere } from './shared-facts.ts';
import { nameText } from './wire/name.ts';
import type { DnsSource } from './zone/source.ts';

export interface AnswererOptions {
  readonly selfIps: readonly Ip[] | undefined;
  /** TCP connections per address, of this thread. */
  readonly maxConnections: number;
  readonly idleMs: number;
  /** How many threads answer; this one has its share of what is bounded. */
  readonly workers: number;
  /** One of them does what is to be done once. */
  readonly leads: boolean;
  /** Takes a fact to all threads; undefined where there is one. */
  readonly announce: ((fact: string) => void) | undefined;
  readonly log: Logger;
  readonly metrics: Meters;
  readonly clock: Clock;
  readonly files: Files;
  /** 0 to 1; orders answers and upstream servers. */
  readonly random: () => number;
}

/** A configuration to put into force. */
export interface Taking {
  readonly blocks: readonly BlockAt[];
  readonly secret: string;
  /** Ports that the system has chosen already, by site: for those that share them. */
  readonly ports: ReadonlyMap<string, number>;
}

/** Figures for people. */
export interface AnswererFigures {
  readonly zone: string;
  readonly synced: boolean;
  readonly revision: number;
  readonly services: number;
  readonly names: number;
  readonly tcpConnections: number;
}

/** What listened at an address that is none of ours any more. */
interface Leaving {
  readonly listener: Listener;
  readonly drained: Promise<void>;
}

/** What is under way at the end is answered within this. */
const FINISH_MS = 2000;
/** What is under way at a reload is: a question waits for upstream for 5 s at most. */
const RETIRE_MS = 6000;

export class Answerer {
  readonly #options: AnswererOptions;
  readonly #metrics: DnsMetrics;
  readonly #server: DnsServer;
  readonly #listeners = new Map<string, { readonly listener: Listener; readonly site: Site }>();
  #configuration: Configuration | undefined;
  /** Those that were in force, for as long as questions of their time are under way. */
  readonly #retiring = new Map<Configuration, { readonly over: Promise<void>; readonly hurry: AbortController }>();
  #facts: FactsHere | undefined;
  #source: DnsSource | undefined;

  constructor(options: AnswererOptions) {
    const { log, clock } = options;
    this.#options = options;
    this.#metrics = createDnsMetrics(options.metrics);
    this.#metrics.beforeText(() => {
      for (const { listener } of this.#listeners.values()) listener.settle();
    });
    this.#server = createDnsServer({ log, metrics: this.#metrics, clock });
  }

  get metrics(): DnsMetrics {
    return this.#metrics;
  }

  get addresses(): readonly BoundAddress[] {
    return [...this.#listeners.values()].flatMap(({ listener }) => listener.addresses);
  }

  /** Ports by site, for the threads that share them. */
  get ports(): ReadonlyMap<string, number> {
    return new Map([...this.#listeners].map(([key, { listener }]) => [key, listener.addresses[0]?.port ?? 0]));
  }

  get figures(): AnswererFigures {
    const zones = this.#configuration?.zones.all ?? [];
    const [zone] = zones;
    return {
      zone: zone ? nameText(zone.options.origin) : '',
      synced: this.#configuration !== undefined && zones.every(({ synced }) => synced),
      revision: zone?.revision ?? 0,
      services: zone?.services.size ?? 0,
      names: zones.reduce((sum, { nameCount }) => sum + nameCount, 0),
      tcpConnections: [...this.#listeners.values()].reduce((sum, { listener }) => sum + listener.connections, 0),
    };
  }

  /** Puts blocks into force: all of them, or none when an address cannot be listened on (a DnsListenError). */
  async take({ blocks, secret, ports }: Taking): Promise<void> {
    const { selfIps, workers, leads, announce } = this.#options;
    const facts = new FactsHere(secret, announce);
    const next = configure({
      ...this.#options,
      blocks,
      selfIps,
      workers,
      leads,
      shared: facts,
      changed: () => this.#changed(),
      source: this.#source,
      dnsMetrics: this.#metrics,
    });
    await this.#listen(next, ports);
    // What came while the sockets were opened.
    if (this.#source) next.zones.update(this.#source);
    const before = this.#configuration;
    const leaving: Leaving[] = [];
    this.#configuration = next;
    this.#facts = facts;
    for (const [key, { site, listener }] of this.#listeners) {
      const found = next.sites.get(key);
      if (found) {
        site.routes = found.routes;
        site.timeouts = found.timeouts;
        site.version++;
        const tls = found.tls();
        if (tls) listener.secure(tls);
        continue;
      }
      this.#listeners.delete(key);
      leaving.push({ listener, drained: listener.drain() });
    }
    next.start();
    await before?.rest();
    if (before) this.#retire(before, leaving);
  }

  /** What was asked before the change is answered as it would have been without. */
  #retire(configuration: Configuration, leaving: readonly Leaving[]): void {
    const hurry = new AbortController();
    const drained = async (): Promise<void> => {
      await Promise.all(leaving.map((one) => one.drained));
      await this.#server.underWay();
    };
    const over = (async () => {
      await Promise.race([drained(), this.#options.clock.sleep(RETIRE_MS, hurry.signal)]);
      hurry.abort();
      await configuration.stop();
      // One turn, in which the last answers go out.
      await this.#options.clock.sleep(0);
      await Promise.all(leaving.map(({ listener }) => listener.close()));
      this.#retiring.delete(configuration);
    })();
    this.#retiring.set(configuration, { over, hurry });
  }

  /** A plugin has new data, or a certificate is renewed. */
  #changed(): void {
    for (const [key, { site, listener }] of this.#listeners) {
      site.version++;
      const tls = this.#configuration?.sites.get(key)?.tls();
      if (tls) listener.secure(tls);
    }
  }

  /** Opens what is not open yet. */
  async #listen({ sites }: Configuration, ports: ReadonlyMap<string, number>): Promise<void> {
    const { idleMs, maxConnections, clock, workers } = this.#options;
    const opened: string[] = [];
    try {
      for (const [key, { at, routes, tls, timeouts }] of sites) {
        if (this.#listeners.has(key)) continue;
        const site: Site = { routes, version: 0, timeouts };
        const shared = workers > 1;
        const common = {
          server: this.#server,
          metrics: this.#metrics,
          clock,
          idleMs,
          maxConnections,
          shared,
          tls: tls(),
        };
        const port = ports.get(key) ?? at.port;
        // A shared port would be shared with another program, too, without a word: it must be free before it is.
        if (shared && !ports.has(key)) await (await startListener({ at, site, ...common, shared: false })).close();
        this.#listeners.set(key, { site, listener: await startListener({ at: { ...at, port }, site, ...common }) });
        opened.push(key);
      }
    } catch (error) {
      const failed = opened.map((key) => this.#listeners.get(key)?.listener).filter((one) => one !== undefined);
      for (const key of opened) this.#listeners.delete(key);
      await Promise.all(failed.map((listener) => listener.close()));
      throw error;
    }
  }

  /** The cluster as it is now; answered from the next packet on. */
  update(source: DnsSource): void {
    this.#source = source;
    this.#configuration?.zones.update(source);
    for (const configuration of this.#retiring.keys()) configuration.zones.update(source);
    for (const { site } of this.#listeners.values()) site.version++;
  }

  announced(fact: string): void {
    this.#facts?.announced(fact);
  }

  /** Takes nothing new, answers what is under way, within a bound, and closes everything. */
  async finish(): Promise<void> {
    const { clock } = this.#options;
    const listeners = [...this.#listeners.values()].map(({ listener }) => listener);
    const drained = async (): Promise<void> => {
      await Promise.all(listeners.map((listener) => listener.drain()));
      await this.#server.idle();
    };
    const bound = new AbortController();
    await Promise.race([drained(), clock.sleep(FINISH_MS, bound.signal)]);
    bound.abort();
    await this.#configuration?.stop();
    const retiring = [...this.#retiring.values()];
    for (const { hurry } of retiring) hurry.abort();
    await Promise.all(retiring.map(({ over }) => over));
    // One turn, in which the last answers go out.
    await clock.sleep(0);
    await Promise.all(listeners.map((listener) => listener.close()));
  }
}
