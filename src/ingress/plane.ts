import type { Plane } from '../model/plane.ts';
import type { ConfigMapRecord, IngressRecord, ObjectKey } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Meters } from '../observe/metrics.ts';
import { AccessLog } from './access-log.ts';
import { systemClock, type Clock } from '../system/clock.ts';
import { startThread, type StartThread } from '../system/worker-thread.ts';
import { unavailableText, type Backend } from './backend.ts';
import { DEFAULT_PREFIX } from './annotations/settings.ts';
import { DataPath, type DataPathCounts, type Serving } from './data-path.ts';
import type { CertificatePair } from './self-signed.ts';
import { CertificateTable } from './tls.ts';
import { WorkerPool } from './worker-pool.ts';
import { DEFAULT_TIMES, type EngineTimes } from './http/engine.ts';
import type { RequestRecord } from './http/forward.ts';
import { LimitState } from './limit-state.ts';
import type { ListenAddress } from './listen-error.ts';
import type { Tell } from './notice.ts';
import { sameRouting } from './same-routing.ts';
import type { GlobalSettings } from './global-settings.ts';
import { defaultGlobals, routingOptions, type RoutingFlags } from './routing-options.ts';
import { explainUrl, type ExplainedUrl, type IngressExplanation } from './explain.ts';
import { SettingWarnings } from './setting-warnings.ts';
import { locationsOf } from './host-routes.ts';
import { compileRoutes, type RouteTable } from './route-table.ts';
import { Streams, type StreamFlags } from './stream/streams.ts';
import { ControlMetrics } from './control-metrics.ts';
import { TrafficCounts, type TrafficOptions } from './traffic-counts.ts';
import { TrafficMetrics } from './traffic-metrics.ts';

const TICK_MS = 500;
const DEFAULT_GRACE_MS = 10_000;

export interface IngressPlaneOptions extends RoutingFlags {
  readonly http?: ListenAddress;
  readonly https?: ListenAddress;
  /** `--configmap`, `namespace/name`: settings for every Ingress. */
  readonly configMap?: ObjectKey | undefined;
  /** `--default-ssl-certificate`, `namespace/name`. */
  readonly defaultCertificate?: ObjectKey | undefined;
  /** `--tcp-services-configmap` and `--udp-services-configmap`: ports that are passed on as they are; `reserved` are those of this process. */
  readonly streams?: StreamFlags;
  readonly log: Logger;
  readonly metrics: Meters;
  /** Told of what concerns one object: for Events. */
  readonly tell?: Tell;
  /** `--disable-sync-events` is not given: each Ingress that is new or changed is told of. */
  readonly tellOfSync?: boolean;
  readonly traffic?: Partial<TrafficOptions>;
  /** For `build_info`. */
  readonly version?: string;
  /** Takes the lines of the access log; without it there is none. */
  readonly accessLog?: (text: string) => void;
  /** Called when a Snapshot is in force. */
  readonly onApplied?: () => void;
  /** Threads that carry the requests, sharing the ports; 0 carries them on this one. */
  readonly workers?: number;
  readonly startThread?: StartThread;
  /** In a worker: others listen on the same ports, with the same certificate of their own and the same keys of TLS tickets. */
  readonly reusePort?: boolean;
  readonly ownPair?: CertificatePair;
  readonly ticketKeys?: Buffer;
  /** In a worker: the counts of limits, which all of them share, opened as this one's. */
  readonly limits?: LimitState;
  /** In a worker: counts by location, which the main thread shows. */
  readonly trafficCounts?: TrafficCounts;
  /** Where what is not traffic is counted; `metrics` unless given. */
  readonly controlMetrics?: Meters;
  readonly clock?: Clock;
  readonly times?: Partial<EngineTimes>;
  /** How often deadlines are looked at, in milliseconds; what a time-out may be late by. */
  readonly tickMs?: number;
  /** How long stop() waits for requests under way, in milliseconds. */
  readonly graceMs?: number;
}

export interface IngressPlane extends Plane {
  readonly name: 'ingress';
  /** The table in force; undefined before the first Snapshot. */
  readonly table: RouteTable | undefined;
  /** Why a URL is answered as it is; undefined before the first Snapshot. */
  explain(url: ExplainedUrl): IngressExplanation | undefined;
  readonly counts: DataPathCounts;
  /** The Ingresses that are ours, of the Snapshot in force. */
  ours(): readonly IngressRecord[];
  /** Where it listens, with the ports that the system chose. */
  readonly addresses: { readonly http: ListenAddress | undefined; readonly https: ListenAddress | undefined };
}

/** Opens the listeners and serves; answers 503 until the first Snapshot. Rejects with IngressListenError. */
export async function startIngressPlane(options: IngressPlaneOptions): Promise<IngressPlane> {
  const plane = new RunningPlane(options);
  try {
    await plane.listen(options.http, options.https);
  } catch (error) {
    await plane.stop();
    throw error;
  }
  return plane;
}

class RunningPlane implements IngressPlane {
  readonly name = 'ingress';
  readonly #options: IngressPlaneOptions;
  #routing: ReturnType<typeof routingOptions>;
  readonly #defaults: GlobalSettings;
  #configMap: ConfigMapRecord | undefined;
  /** Of `--watch-namespace-selector`, as one text. */
  #namespaces: string | undefined;
  #awaited = false;
  readonly #warnings: SettingWarnings;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #path: Serving;
  /** Undefined where workers count. */
  readonly #traffic: TrafficMetrics | undefined;
  readonly #trafficCounts: TrafficCounts | undefined;
  readonly #control: ControlMetrics;
  readonly #access: AccessLog | undefined;
  readonly #streams: Streams | undefined;
  #stopped: Promise<void> | undefined;
  /** The Snapshot that is being taken. */
  #newest: Snapshot | undefined;

  constructor(options: IngressPlaneOptions) {
    this.#options = options;
    this.#access = options.accessLog && new AccessLog(options.accessLog, options.clock ?? systemClock);
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    const times = { ...DEFAULT_TIMES, ...options.times };
    const { connectMs, upstreamMs, tunnelMs } = times;
    this.#defaults = defaultGlobals(options, { connectMs, readMs: upstreamMs, sendMs: upstreamMs, tunnelMs });
    this.#routing = routingOptions(options, this.#defaults, undefined);
    this.#warnings = new SettingWarnings(options.log, options.annotationsPrefix ?? DEFAULT_PREFIX, this.#tell);
    this.#path = this.#serving(times);
    this.#streams = options.streams && new Streams(options.streams, { log: options.log, clock: this.#clock });
    if (!options.workers) {
      const meters = options.metrics;
      this.#traffic = new TrafficMetrics(meters, () => this.#path.counts, options.traffic?.labels);
      this.#trafficCounts = options.trafficCounts ?? new TrafficCounts(options.traffic);
      if (!options.trafficCounts) this.#trafficCounts.register(meters);
    }
    this.#control = new ControlMetrics({
      metrics: options.controlMetrics ?? options.metrics,
      version: options.version ?? '',
      controllerClass: this.#routing.controllerClass,
      labels: options.traffic?.labels ?? {},
      threads: options.workers || 1,
      table: () => this.#path.table,
      certificates: () => this.#path.certificateStates(),
      upstream: () => ({ connections: this.#path.counts.upstream, ejected: this.#path.counts.ejected }),
    });
  }

  #serving(times: EngineTimes): Serving {
    const { workers = 0, log, configMap, defaultCertificate, tickMs = TICK_MS, accessLog } = this.#options;
    const clock = this.#clock;
    const { ownPair, reusePort = false } = this.#options;
    // A worker has nobody to tell: the main thread has looked at each Secret.
    const certificates = new CertificateTable(log, clock.now(), defaultCertificate, this.#tell, ownPair, reusePort);
    if (workers === 0) {
      return new DataPath({
        clock,
        times,
        tickMs,
        certificates,
        reusePort,
        ticketKeys: this.#options.ticketKeys,
        onRequest: (record) => this.#record(record),
        logs: accessLog !== undefined,
        limits: this.#options.limits ?? new LimitState(),
        httpsPort: this.#options.toldHttpsPort,
      });
    }
    const data = {
      flags: flagsOf(this.#options),
      configMap,
      defaultCertificate,
      times,
      tickMs,
      graceMs: this.#options.graceMs ?? DEFAULT_GRACE_MS,
      traffic: this.#options.traffic ?? {},
      logs: accessLog !== undefined,
    };
    const { metrics, startThread: start = startThread } = this.#options;
    return new WorkerPool({ workers, data, certificates, log, metrics, clock, startThread: start, accessLog });
  }

  get counts(): IngressPlane['counts'] {
    return this.#path.counts;
  }

  get addresses(): IngressPlane['addresses'] {
    return this.#path.addresses;
  }

  get table(): RouteTable | undefined {
    return this.#path.table;
  }

  get ready(): boolean {
    return this.#path.ready;
  }

  listen(http: ListenAddress | undefined, https: ListenAddress | undefined): Promise<void> {
    return this.#path.listen(http, https);
  }

  update(snapshot: Snapshot): void {
    if (this.#stopped) return;
    this.#newest = snapshot;
    const started = this.#clock.monotonic();
    const before = this.#path.table;
    if (!this.#readConfigMap(snapshot)) return;
    const table = compileRoutes(snapshot, this.#routing, before);
    const changed = !before || table.hosts !== before.hosts || table.backends !== before.backends;
    const backends = before && changed ? [...table.backends.differences(before.backends)] : [];
    this.#path.apply(table);
    this.#streams?.apply(snapshot, table);
    this.#warnings.tell(table, before);
    this.#tellOfSync(table, before);
    if (before) this.#forgetRemoved(snapshot, before.snapshot);
    this.#options.onApplied?.();
    this.#control.applied(this.#clock.now());
    if (!before) for (const backend of table.backends.values()) this.#warnOf(backend);
    for (const { before: old, after } of backends) {
      if (after && reasonOf(after) !== (old && reasonOf(old))) this.#warnOf(after);
    }
    if (!changed) return;
    this.#log.info('routes updated', {
      revision: snapshot.revision,
      hosts: table.hosts.size,
      backends: table.backends.size,
      milliseconds: Math.round((this.#clock.monotonic() - started) * 10) / 10,
    });
  }

  #tellOfSync(table: RouteTable, before: RouteTable | undefined): void {
    const { tellOfSync = true } = this.#options;
    if (!tellOfSync || before?.snapshot.ingresses === table.snapshot.ingresses) return;
    const told = (key: ObjectKey): void =>
      this.#tell({ about: 'Ingress', key, type: 'Normal', reason: 'Sync', note: 'Scheduled for sync' });
    if (!before) {
      for (const key of table.settings.keys()) told(key);
      return;
    }
    for (const { key, before: old, after } of table.snapshot.ingresses.differences(before.snapshot.ingresses)) {
      if (after && table.settings.has(key) && !(old && sameRouting(old, after))) told(key);
    }
  }

  #forgetRemoved({ ingresses }: Snapshot, before: Snapshot): void {
    if (!this.#trafficCounts || ingresses === before.ingresses) return;
    const removed = new Set<string>();
    for (const { key, after } of ingresses.differences(before.ingresses)) if (!after) removed.add(key);
    if (removed.size > 0) this.#trafficCounts.forget(removed);
  }

  readonly #tell: Tell = (notice) => {
    if (notice.type === 'Warning') this.#control.problem();
    const uid = notice.about === 'Ingress' ? this.#newest?.ingresses.get(notice.key)?.uid : undefined;
    this.#options.tell?.(uid === undefined ? notice : { ...notice, uid });
  };

  explain(url: ExplainedUrl): IngressExplanation | undefined {
    const table = this.#path.table;
    return table && explainUrl(table, url);
  }

  ours(): readonly IngressRecord[] {
    const table = this.#path.table;
    return [...(table?.settings.keys() ?? [])].flatMap((key) => table?.snapshot.ingresses.get(key) ?? []);
  }

  /** False until the ConfigMap was there once: what guards every location may stand in it, so nothing is served before. */
  #readConfigMap(snapshot: Snapshot): boolean {
    const { configMap: key } = this.#options;
    const map = key === undefined ? undefined : snapshot.configMaps.get(key);
    if (key !== undefined && !map && !this.table) {
      if (!this.#awaited)
        this.#log.warn('nothing is served until the ConfigMap of --configmap is there', { configMap: key });
      this.#awaited = true;
      return false;
    }
    const namespaces = this.#options.ofReadNamespaces ? [...snapshot.namespaces.keys()].sort().join(' ') : undefined;
    if (map === this.#configMap && namespaces === this.#namespaces) return true;
    this.#configMap = map;
    this.#namespaces = namespaces;
    this.#routing = routingOptions(
      this.#options,
      this.#defaults,
      map,
      namespaces === undefined ? undefined : new Set(namespaces.split(' ')),
    );
    this.#warnings.tellOfConfigMap(key ?? '', this.#routing.globals);
    return true;
  }

  state(): unknown {
    const table = this.#path.table;
    return {
      ready: this.ready,
      addresses: this.addresses,
      connections: { clients: this.#path.counts.active, backends: this.#path.counts.upstream },
      hosts: table ? hostStates(table) : [],
      ...(this.#streams ? { streams: this.#streams.states() } : {}),
      certificates: this.#path.certificateStates().map((certificate) => ({
        ...certificate,
        expires: new Date(certificate.expires).toISOString(),
      })),
    };
  }

  stop(): Promise<void> {
    const { graceMs = this.#options.graceMs ?? DEFAULT_GRACE_MS } = this.#routing.globals.connections;
    this.#stopped ??= Promise.all([this.#path.stop(graceMs), this.#streams?.stop(graceMs)]).then(() =>
      this.#access?.flush(),
    );
    return this.#stopped;
  }

  #record(record: RequestRecord): void {
    this.#traffic?.record(record);
    this.#trafficCounts?.record(record);
    this.#access?.record(this.#routing.globals.log, record);
    this.#log.debug('request', {
      method: record.method,
      host: record.host,
      path: record.path,
      status: record.status,
      client: record.remoteAddress,
      ingress: record.location && `${record.location.ingress.namespace}/${record.location.ingress.name}`,
      endpoint: record.endpoint && `${record.endpoint.ip}:${record.endpoint.port}`,
      milliseconds: Math.round(record.duration),
      id: record.requestId,
    });
  }

  #warnOf(backend: Backend): void {
    if (backend.target.kind === 'endpoints') return;
    this.#log.warn('a backend of an Ingress cannot be used; its paths answer 503', {
      backend: backend.ref.key,
      reason: unavailableText(backend.ref, backend.target.reason),
    });
  }
}

/** What can be sent to a thread. The type sees to it that none is forgotten. */
function flagsOf(options: IngressPlaneOptions): RoutingFlags {
  const flags: { readonly [K in keyof Required<RoutingFlags>]: RoutingFlags[K] | undefined } = {
    sslRedirect: options.sslRedirect,
    sslPassthrough: options.sslPassthrough,
    annotationsPrefix: options.annotationsPrefix,
    defaultBackend: options.defaultBackend,
    watchNamespace: options.watchNamespace,
    controllerClass: options.controllerClass,
    ingressClass: options.ingressClass,
    ingressClassByName: options.ingressClassByName,
    watchIngressWithoutClass: options.watchIngressWithoutClass,
    disableCatchAll: options.disableCatchAll,
    namespaces: options.namespaces,
    conformance: options.conformance,
    toldHttpsPort: options.toldHttpsPort,
    ofReadNamespaces: options.ofReadNamespaces,
    disableExternalNames: options.disableExternalNames,
  };
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}

function reasonOf(backend: Backend): string {
  return backend.target.kind === 'unavailable' ? backend.target.reason : '';
}

function hostStates(table: RouteTable): unknown {
  return [...table.hosts.values()]
    .sort((a, b) => (a.host < b.host ? -1 : 1))
    .map((routes) => ({
      host: routes.host || '*',
      tls: routes.tls,
      locations: locationsOf(routes).map((location) => {
        const target = table.backends.get(location.backend.key)?.target;
        return {
          path: location.path,
          pathType: location === routes.fallback ? 'default backend' : location.pathType,
          ingress: `${location.ingress.namespace}/${location.ingress.name}`,
          backend: location.backend.key,
          endpoints: target?.kind === 'endpoints' ? target.endpoints.map(({ ip, port }) => ({ ip, port })) : [],
          unavailable: target?.kind === 'unavailable' ? target.reason : undefined,
        };
      }),
    }));
}
