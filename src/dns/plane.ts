// The DNS plane: Snapshots in, answers out. The one place that ties zone, chain and sockets together.

import { parseIp, type Ip } from '../lib/ip.ts';
import type { Plane } from '../model/plane.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import { systemFiles, type Files } from '../system/files.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import type { BlockDraft } from './block.ts';
import { configure, type BlockAt, type Configuration } from './configuration.ts';
import type { Corefile, LoadedCorefile } from './corefile/load.ts';
import { flagBlock } from './flag-block.ts';
import { DnsListenError, startListener, type BoundAddress, type ListenAddress, type Listener } from './listener.ts';
import { createDnsMetrics } from './metrics.ts';
import { createDnsServer, type Site } from './server.ts';
import type { UpstreamServer } from './upstream.ts';
import { nameText, type DnsName } from './wire/name.ts';
import type { PodMode } from './zone/zone.ts';

/** Where names outside the cluster are asked for. */
export type UpstreamChoice =
  | { readonly kind: 'none' }
  | { readonly kind: 'servers'; readonly servers: readonly UpstreamServer[] }
  | { readonly kind: 'resolv-conf'; readonly path: string };

export interface DnsPlaneOptions extends CommonOptions {
  /** At least one. `0.0.0.0` is all IPv4 addresses and `::` all IPv6 ones: name both for both. */
  readonly listen: readonly ListenAddress[];
  /** The cluster's domain; `cluster.local` by default. */
  readonly zone?: DnsName;
  /** Seconds, 0 to 3600; 5 by default. */
  readonly ttl?: number;
  /** `insecure` by default, as kubeadm configures it. */
  readonly pods?: PodMode;
  readonly upstream: UpstreamChoice;
  /** Queries that may wait for upstream servers at one time; 1000 by default. */
  readonly maxConcurrent?: number;
}

export interface CorefilePlaneOptions extends CommonOptions {
  readonly corefile: Corefile;
  /** Reads the Corefile again, for `reload`. */
  readonly load: () => Promise<LoadedCorefile>;
}

interface CommonOptions {
  /** The addresses by which this server finds its own Service; by default those it listens on, or the machine's. */
  readonly selfIps?: readonly Ip[];
  /** TCP connections per address; 1000 by default. */
  readonly maxConnections?: number;
  /** Silence after which a TCP connection is closed, milliseconds; 10 s by default. */
  readonly idleMs?: number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly files?: Files;
  /** 0 to 1; orders answers and upstream servers. */
  readonly random?: () => number;
}

export interface DnsPlane extends Plane {
  readonly name: 'dns';
  /** What is listened on, with the ports that the system chose for port 0. */
  readonly addresses: readonly BoundAddress[];
}

export interface DnsState {
  readonly zone: string;
  readonly ready: boolean;
  readonly revision: number;
  readonly services: number;
  readonly names: number;
  readonly pods: PodMode;
  readonly ttl: number;
  readonly listen: readonly BoundAddress[];
  readonly upstreams: readonly string[];
  readonly tcpConnections: number;
}

/** What is under way at `stop` is answered within this. */
const STOP_MS = 2000;
const DEFAULT_MAX_CONNECTIONS = 1000;
/** As CoreDNS. */
const DEFAULT_IDLE_MS = 10_000;

/** Answers as the flags say, SERVFAIL for cluster names until the first Snapshot. Rejects with a DnsListenError. */
export async function startDnsPlane(options: DnsPlaneOptions): Promise<DnsPlane> {
  const plane = new RunningPlane(options);
  await plane.take([{ draft: await flagBlock(options), listen: options.listen }]);
  return plane;
}

/** Answers as a Corefile says, and follows it where it says `reload`. Rejects with a DnsListenError. */
export async function startCorefilePlane(options: CorefilePlaneOptions): Promise<DnsPlane> {
  const plane = new RunningPlane(options);
  const { corefile, load } = options;
  for (const warning of corefile.warnings) options.log.warn(warning);
  await plane.take(placed(corefile));
  plane.follow(corefile, load);
  return plane;
}

function placed({ blocks }: Corefile): readonly BlockAt[] {
  // Without any IPv6 address there is no socket for it either.
  const sixes = interfaceAddresses().some((address) => address.includes(':'));
  const everywhere = (sixes ? ['0.0.0.0', '::'] : ['0.0.0.0'])
    .map((text) => parseIp(text))
    .filter((ip) => ip !== undefined);
  return blocks.map((draft) => ({
    draft,
    listen: (draft.bind ?? everywhere).map((address) => ({ address, port: draft.port })),
  }));
}

class RunningPlane implements DnsPlane {
  readonly name = 'dns';
  readonly #options: CommonOptions;
  readonly #metrics;
  readonly #server;
  readonly #listeners = new Map<string, { readonly listener: Listener; readonly site: Site }>();
  readonly #stopping = new AbortController();
  #configuration: Configuration | undefined;
  #snapshot: Snapshot | undefined;
  #pending: Snapshot | undefined;
  #following: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;

  constructor(options: CommonOptions) {
    const { log, clock } = options;
    this.#options = options;
    this.#metrics = createDnsMetrics(options.metrics);
    this.#metrics.beforeText(() => {
      for (const { listener } of this.#listeners.values()) listener.settle();
    });
    this.#server = createDnsServer({ log, metrics: this.#metrics, clock });
  }

  get addresses(): readonly BoundAddress[] {
    return [...this.#listeners.values()].flatMap(({ listener }) => listener.addresses);
  }

  get ready(): boolean {
    return this.#configuration?.zones.all.every((zone) => zone.synced) ?? false;
  }

  update(snapshot: Snapshot): void {
    if (!this.#pending) this.#options.clock.after(0, () => this.#compile());
    this.#pending = snapshot;
  }

  /** Puts blocks into force: all of them, or none when an address cannot be listened on. */
  async take(blocks: readonly BlockAt[]): Promise<void> {
    const { files = systemFiles, random = Math.random, selfIps } = this.#options;
    const next = configure({
      ...this.#options,
      blocks,
      selfIps,
      snapshot: this.#snapshot,
      dnsMetrics: this.#metrics,
      files,
      random,
    });
    await this.#listen(next);
    const before = this.#configuration;
    this.#configuration = next;
    for (const [key, { site, listener }] of this.#listeners) {
      const found = next.sites.get(key);
      if (found) {
        site.routes = found.routes;
        site.version++;
        continue;
      }
      this.#listeners.delete(key);
      listener.drain();
      await listener.close();
    }
    next.start();
    await before?.stop();
  }

  /** Opens what is not open yet. */
  async #listen({ sites }: Configuration): Promise<void> {
    const { idleMs = DEFAULT_IDLE_MS, maxConnections = DEFAULT_MAX_CONNECTIONS, clock } = this.#options;
    const opened: string[] = [];
    try {
      for (const [key, { at, routes }] of sites) {
        if (this.#listeners.has(key)) continue;
        const site: Site = { routes, version: 0 };
        const common = { server: this.#server, metrics: this.#metrics, clock, idleMs, maxConnections };
        this.#listeners.set(key, { site, listener: await startListener({ at, site, ...common }) });
        opened.push(key);
      }
    } catch (error) {
      const failed = opened.map((key) => this.#listeners.get(key)?.listener).filter((one) => one !== undefined);
      for (const key of opened) this.#listeners.delete(key);
      await Promise.all(failed.map((listener) => listener.close()));
      throw error;
    }
  }

  #compile(): void {
    const snapshot = this.#pending;
    this.#pending = undefined;
    const zones = this.#configuration?.zones;
    if (!snapshot || !zones || this.#stopped) return;
    const { clock, log } = this.#options;
    const start = clock.monotonic();
    const first = this.#snapshot === undefined;
    this.#snapshot = snapshot;
    zones.update(snapshot);
    for (const { site } of this.#listeners.values()) site.version++;
    const [zone] = zones.all;
    if (!zone) return;
    const fields = {
      revision: zone.revision,
      services: zone.services.size,
      names: zone.nameCount,
      ms: Math.round(clock.monotonic() - start),
    };
    if (first) log.info('cluster names are answered', { zone: nameText(zone.options.origin), ...fields });
    else log.debug('cluster names have changed', fields);
  }

  /** Reads the Corefile again and again, where it says so. */
  follow(first: Corefile, load: () => Promise<LoadedCorefile>): void {
    this.#following = this.#follow(first, load);
  }

  async #follow(first: Corefile, load: () => Promise<LoadedCorefile>): Promise<void> {
    const { clock, log, random = Math.random } = this.#options;
    let current = first;
    let refused = '';
    for (;;) {
      const reload = current.blocks.find((draft) => draft.reload)?.reload;
      if (!reload) return;
      await clock.sleep(reload.intervalMs + random() * reload.jitterMs, this.#stopping.signal);
      if (this.#stopping.signal.aborted) return;
      const loaded = await load();
      const mistake = loaded.kind === 'mistake' ? loaded.message : await this.#reload(current, loaded.corefile);
      if (mistake === undefined) {
        if (loaded.kind === 'corefile') current = loaded.corefile;
        refused = '';
      } else if (mistake !== refused) {
        refused = mistake;
        this.#metrics.reloaded(undefined);
        log.error(`the Corefile has changed and cannot be taken; the old one stays. ${mistake}`);
      }
    }
  }

  /** What keeps the new Corefile from being taken; undefined when it is in force. */
  async #reload(current: Corefile, next: Corefile): Promise<string | undefined> {
    if (next.hash === current.hash) return undefined;
    const fixed = fixedOf(next.blocks);
    if (fixed !== fixedOf(current.blocks))
      return 'The addresses of health, ready and prometheus, the API server and "pods verified" change only with a restart.';
    try {
      await this.take(placed(next));
    } catch (error) {
      if (error instanceof DnsListenError) return error.message;
      throw error;
    }
    for (const warning of next.warnings) this.#options.log.warn(warning);
    this.#metrics.reloaded(next.hash);
    this.#options.log.info('the Corefile has changed and is in force', { hash: next.hash.slice(0, 16) });
    return undefined;
  }

  state(): DnsState {
    const zones = this.#configuration?.zones.all ?? [];
    const [zone] = zones;
    const listeners = [...this.#listeners.values()];
    return {
      zone: zone ? nameText(zone.options.origin) : '',
      ready: this.ready,
      revision: zone?.revision ?? 0,
      services: zone?.services.size ?? 0,
      names: zone?.nameCount ?? 0,
      pods: zone?.options.pods ?? 'disabled',
      ttl: zone?.options.ttl ?? 0,
      listen: this.addresses,
      upstreams: [...new Set(this.#configuration?.blocks.flatMap(({ draft }) => draft.upstreams))],
      tcpConnections: listeners.reduce((sum, { listener }) => sum + listener.connections, 0),
    };
  }

  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop());
  }

  async #stop(): Promise<void> {
    const { clock } = this.#options;
    this.#stopping.abort();
    await this.#following;
    const lameduckMs = Math.max(0, ...lameducksOf(this.#configuration));
    // Clients learn late that this server goes: it answers on until then.
    if (lameduckMs > 0) await clock.sleep(lameduckMs);
    const listeners = [...this.#listeners.values()].map(({ listener }) => listener);
    for (const listener of listeners) listener.drain();
    const bound = new AbortController();
    await Promise.race([this.#server.idle(), clock.sleep(STOP_MS, bound.signal)]);
    bound.abort();
    await this.#configuration?.stop();
    // One turn, in which the last answers go out.
    await clock.sleep(0);
    await Promise.all(listeners.map((listener) => listener.close()));
  }
}

function lameducksOf(configuration: Configuration | undefined): readonly number[] {
  return (configuration?.blocks ?? []).flatMap(({ draft }) => draft.health.map(({ lameduckMs }) => lameduckMs));
}

/** What is opened or watched once, when the program starts. */
function fixedOf(blocks: readonly BlockDraft[]): string {
  const at = ({ address, port }: { address: Ip | undefined; port: number }): string => `${address ?? ''}:${port}`;
  return JSON.stringify([
    blocks.flatMap(({ health }) => health.map(({ address }) => at(address))),
    blocks.flatMap(({ ready }) => ready.map(at)),
    blocks.flatMap(({ prometheus }) => prometheus.map(at)),
    blocks.map(({ kubernetes }) => kubernetes?.target),
    blocks.some(({ kubernetes }) => kubernetes?.options.pods === 'verified'),
  ]);
}
