// The DNS plane: Snapshots in, answers out. The one place that ties zone, chain and sockets together.

import { randomInt } from 'node:crypto';
import { isLoopback, isUnspecified, type Ip } from '../lib/ip.ts';
import type { Plane } from '../model/plane.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import { systemFiles, type Files } from '../system/files.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import { createForwarder, type Forwarder } from './forward.ts';
import { refuse } from './handler.ts';
import { kubernetesHandler, type ResolveOutside } from './kubernetes.ts';
import { startListener, type BoundAddress, type ListenAddress, type Listener } from './listener.ts';
import { createDnsMetrics, type DnsMetrics } from './metrics.ts';
import { isOurselves, parseResolvConf } from './resolv-conf.ts';
import { createDnsServer } from './server.ts';
import { upstreamText, type UpstreamServer } from './upstream.ts';
import { lowerName, nameText, parseName, type DnsName } from './wire/name.ts';
import { compileZone, emptyZone } from './zone/compile.ts';
import type { PodMode, Zone, ZoneOptions } from './zone/zone.ts';

/** Where names outside the cluster are asked for. */
export type UpstreamChoice =
  | { readonly kind: 'none' }
  | { readonly kind: 'servers'; readonly servers: readonly UpstreamServer[] }
  | { readonly kind: 'resolv-conf'; readonly path: string };

export interface DnsPlaneOptions {
  /** At least one. `0.0.0.0` is all IPv4 addresses and `::` all IPv6 ones: name both for both. */
  readonly listen: readonly ListenAddress[];
  /** The cluster's domain; `cluster.local` by default. */
  readonly zone?: DnsName;
  /** Seconds, 0 to 3600; 5 by default. */
  readonly ttl?: number;
  /** `insecure` by default, as kubeadm configures it. */
  readonly pods?: PodMode;
  readonly upstream: UpstreamChoice;
  /** The addresses by which this server finds its own Service; by default those it listens on, or the machine's. */
  readonly selfIps?: readonly Ip[];
  /** Queries that may wait for upstream servers at one time; 1000 by default. */
  readonly maxConcurrent?: number;
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
const DEFAULT_TTL = 5;
const DEFAULT_MAX_CONCURRENT = 1000;
const DEFAULT_MAX_CONNECTIONS = 1000;
/** As CoreDNS. */
const DEFAULT_IDLE_MS = 10_000;

/** Listens and answers, SERVFAIL for cluster names until the first Snapshot. Rejects with a DnsListenError. */
export async function startDnsPlane(options: DnsPlaneOptions): Promise<DnsPlane> {
  const { clock, log } = options;
  const random = options.random ?? Math.random;
  const zoneOptions = zoneOptionsOf(options);
  const metrics = createDnsMetrics(options.metrics);
  const seconds = (): number => Math.floor(clock.now() / 1000);
  let zone: Zone = emptyZone(zoneOptions, seconds());
  let pending: Snapshot | undefined;
  let stopped: Promise<void> | undefined;

  const servers = await upstreamServers(options);
  const forwarder = servers.length > 0 ? forwarderOf(options, servers, metrics, random) : undefined;
  const outside: ResolveOutside | undefined = forwarder && ((name, type) => forwarder.resolve(name, type));
  // The chain, in the order of asking.
  const chain = [kubernetesHandler(() => zone, outside), ...(forwarder ? [forwarder] : []), refuse];
  const server = createDnsServer({ chain, log, metrics, monotonic: () => clock.monotonic(), random });
  const listeners = await listenAll(options, (at) =>
    startListener({
      at,
      server,
      metrics,
      clock,
      idleMs: options.idleMs ?? DEFAULT_IDLE_MS,
      maxConnections: options.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
    }),
  );
  const addresses = listeners.flatMap((listener) => listener.addresses);

  const compile = (): void => {
    const snapshot = pending;
    pending = undefined;
    if (!snapshot || stopped) return;
    const start = clock.monotonic();
    const first = !zone.synced;
    zone = compileZone(snapshot, zoneOptions, seconds(), zone);
    const fields = {
      revision: zone.revision,
      services: zone.services.size,
      names: zone.nameCount,
      ms: Math.round(clock.monotonic() - start),
    };
    if (first) log.info('cluster names are answered', { zone: nameText(zoneOptions.origin), ...fields });
    else log.debug('cluster names have changed', fields);
  };

  const stop = async (): Promise<void> => {
    for (const listener of listeners) listener.drain();
    const bound = new AbortController();
    await Promise.race([server.idle(), clock.sleep(STOP_MS, bound.signal)]);
    bound.abort();
    forwarder?.stop();
    // One turn, in which the last answers go out.
    await clock.sleep(0);
    await Promise.all(listeners.map((listener) => listener.close()));
  };

  return {
    name: 'dns',
    addresses,
    update: (snapshot) => {
      if (!pending) clock.after(0, compile);
      pending = snapshot;
    },
    get ready() {
      return zone.synced;
    },
    state: (): DnsState => ({
      zone: nameText(zoneOptions.origin),
      ready: zone.synced,
      revision: zone.revision,
      services: zone.services.size,
      names: zone.nameCount,
      pods: zoneOptions.pods,
      ttl: zoneOptions.ttl,
      listen: addresses,
      upstreams: servers.map(upstreamText),
      tcpConnections: listeners.reduce((sum, listener) => sum + listener.connections, 0),
    }),
    stop: () => (stopped ??= stop()),
  };
}

function zoneOptionsOf(options: DnsPlaneOptions): ZoneOptions {
  const origin = options.zone ?? parseName('cluster.local');
  if (!origin) throw new RangeError('no zone');
  return {
    origin: lowerName(origin),
    ttl: options.ttl ?? DEFAULT_TTL,
    pods: options.pods ?? 'insecure',
    selfIps: options.selfIps ?? selfIps(options.listen),
  };
}

function selfIps(listen: readonly ListenAddress[]): readonly Ip[] {
  const named = listen.map(({ address }) => address).filter((address) => !isUnspecified(address));
  if (named.length === listen.length) return [...new Set(named)];
  return interfaceAddresses().filter((address) => !isLoopback(address));
}

function forwarderOf(
  options: DnsPlaneOptions,
  servers: readonly UpstreamServer[],
  metrics: DnsMetrics,
  random: () => number,
): Forwarder {
  return createForwarder({
    servers,
    maxConcurrent: options.maxConcurrent ?? DEFAULT_MAX_CONCURRENT,
    clock: options.clock,
    log: options.log,
    random,
    randomId: () => randomInt(0x10000),
    onReject: () => metrics.forwardRejected(),
  });
}

/** All or none: when one address fails, those before it are closed again. */
async function listenAll(
  options: DnsPlaneOptions,
  start: (at: ListenAddress) => Promise<Listener>,
): Promise<readonly Listener[]> {
  const listeners: Listener[] = [];
  try {
    for (const at of options.listen) listeners.push(await start(at));
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()));
    throw error;
  }
  return listeners;
}

/** The servers that can be asked. What cannot be is said once, with the mend; the cluster's names go on without. */
async function upstreamServers(options: DnsPlaneOptions): Promise<readonly UpstreamServer[]> {
  const { log } = options;
  const configured = await configuredServers(options);
  const own = interfaceAddresses();
  const loops = configured.filter((server) => isOurselves(server, options.listen, own));
  if (loops.length > 0) {
    log.error('an upstream DNS server is this server itself, so it is not asked; name another one with --upstream', {
      upstream: loops.map(upstreamText).join(','),
      ...(options.upstream.kind === 'resolv-conf' ? { file: options.upstream.path } : {}),
    });
  }
  const servers = configured.filter((server) => !loops.includes(server));
  if (servers.length === 0)
    log.info('names outside the cluster are refused: there is no upstream DNS server; name one with --upstream');
  return servers;
}

async function configuredServers({
  upstream,
  log,
  files = systemFiles,
}: DnsPlaneOptions): Promise<readonly UpstreamServer[]> {
  switch (upstream.kind) {
    case 'none':
      return [];
    case 'servers':
      return upstream.servers;
    case 'resolv-conf': {
      let text: string;
      try {
        text = await files.readText(upstream.path);
      } catch (error) {
        log.warn('the upstream DNS servers cannot be read; mend the file or name servers with --upstream', {
          file: upstream.path,
          error: error instanceof Error ? error.message : String(error),
        });
        return [];
      }
      const { servers, unusable } = parseResolvConf(text);
      if (unusable.length > 0)
        log.warn('these nameserver entries are no addresses that can be asked, and are left out', {
          file: upstream.path,
          entries: unusable.join(','),
        });
      return servers;
    }
  }
}
