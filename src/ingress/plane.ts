import type { Socket } from 'node:net';
import type { Plane } from '../model/plane.ts';
import type { ConfigMapRecord, IngressRecord, ObjectKey } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { systemClock, type Clock } from '../system/clock.ts';
import { unavailableText, type Backend } from './backend.ts';
import { DEFAULT_PREFIX } from './annotations/settings.ts';
import { serveConnection } from './http/client-connection.ts';
import { Deadlines } from './http/deadlines.ts';
import { createTcpDial, createTlsDial } from './http/dial.ts';
import { DEFAULT_TIMES, createEngine, type Engine, type EngineTimes } from './http/engine.ts';
import type { RequestRecord } from './http/forward.ts';
import type { Tell } from './notice.ts';
import { sameRouting } from './same-routing.ts';
import { openListener, type IngressListener, type ListenAddress } from './listener.ts';
import { LiveRoutes } from './live-routes.ts';
import type { GlobalSettings } from './global-settings.ts';
import { defaultGlobals, routingOptions, type RoutingFlags } from './routing-options.ts';
import { explainUrl, type ExplainedUrl, type IngressExplanation } from './explain.ts';
import type { CertificatePair } from './self-signed.ts';
import { SettingWarnings } from './setting-warnings.ts';
import { locationsOf } from './host-routes.ts';
import { compileRoutes, type RouteTable } from './route-table.ts';
import { CertificateTable, tlsOptions } from './tls.ts';
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
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told of what concerns one object: for Events. */
  readonly tell?: Tell;
  /** `--disable-sync-events` is not given: each Ingress that is new or changed is told of. */
  readonly tellOfSync?: boolean;
  /** Called when a Snapshot is in force. */
  readonly onApplied?: () => void;
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
  #awaited = false;
  #shown: CertificatePair | undefined;
  readonly #warnings: SettingWarnings;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #deadlines: Deadlines;
  readonly #engine: Engine;
  readonly #routes: LiveRoutes;
  readonly #certificates: CertificateTable;
  readonly #traffic: TrafficMetrics;
  #http: IngressListener | undefined;
  #https: IngressListener | undefined;
  #accepted = 0;
  #stopped: Promise<void> | undefined;
  /** The Snapshot that is being taken. */
  #newest: Snapshot | undefined;

  constructor(options: IngressPlaneOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    const times = { ...DEFAULT_TIMES, ...options.times };
    const { connectMs, upstreamMs, tunnelMs } = times;
    this.#defaults = defaultGlobals(options, { connectMs, readMs: upstreamMs, sendMs: upstreamMs, tunnelMs });
    this.#routing = routingOptions(options, this.#defaults, undefined);
    this.#warnings = new SettingWarnings(options.log, options.annotationsPrefix ?? DEFAULT_PREFIX, this.#tell);
    this.#deadlines = new Deadlines(this.#clock, options.tickMs ?? TICK_MS);
    this.#routes = new LiveRoutes({
      dial: createTcpDial(),
      dialTls: createTlsDial(),
      deadlines: this.#deadlines,
      times: { idleMs: times.upstreamIdleMs },
      random: Math.random,
      now: () => this.#clock.now(),
    });
    this.#engine = createEngine(
      {
        decide: (client, head) => this.#routes.decide(client, head),
        record: (record) => this.#record(record),
      },
      times,
      this.#deadlines,
      () => this.#clock.monotonic(),
    );
    this.#certificates = new CertificateTable(this.#log, this.#clock.now(), options.defaultCertificate, this.#tell);
    this.#traffic = new TrafficMetrics(options.metrics, () => this.#counts());
  }

  get addresses(): IngressPlane['addresses'] {
    return { http: this.#http?.address, https: this.#https?.address };
  }

  get table(): RouteTable | undefined {
    return this.#routes.table;
  }

  get ready(): boolean {
    return this.#routes.table !== undefined;
  }

  async listen(http: ListenAddress | undefined, https: ListenAddress | undefined): Promise<void> {
    if (http) this.#http = await openListener({ listen: http, onConnection: (socket) => this.#accept(socket, false) });
    if (https) {
      const tls = tlsOptions(this.#certificates);
      this.#https = await openListener({ listen: https, tls, onConnection: (socket) => this.#accept(socket, true) });
    }
  }

  update(snapshot: Snapshot): void {
    if (this.#stopped) return;
    this.#newest = snapshot;
    const started = this.#clock.monotonic();
    const before = this.#routes.table;
    if (!this.#readConfigMap(snapshot)) return;
    const table = compileRoutes(snapshot, this.#routing, before);
    const changed = !before || table.hosts !== before.hosts || table.backends !== before.backends;
    const backends = before && changed ? [...table.backends.differences(before.backends)] : [];
    this.#certificates.apply(table);
    this.#showDefaultCertificate();
    this.#routes.apply(table);
    this.#warnings.tell(table, before);
    this.#tellOfSync(table, before);
    this.#options.onApplied?.();
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

  readonly #tell: Tell = (notice) => {
    const uid = notice.about === 'Ingress' ? this.#newest?.ingresses.get(notice.key)?.uid : undefined;
    this.#options.tell?.(uid === undefined ? notice : { ...notice, uid });
  };

  explain(url: ExplainedUrl): IngressExplanation | undefined {
    const table = this.#routes.table;
    return table && explainUrl(table, url);
  }

  ours(): readonly IngressRecord[] {
    const table = this.#routes.table;
    return [...(table?.settings.keys() ?? [])].flatMap((key) => table?.snapshot.ingresses.get(key) ?? []);
  }

  /** False until the ConfigMap was there once: what guards every location may stand in it, so nothing is served before. */
  #readConfigMap(snapshot: Snapshot): boolean {
    const { configMap: key } = this.#options;
    const map = key === undefined ? undefined : snapshot.configMaps.get(key);
    if (key !== undefined && !map && !this.ready) {
      if (!this.#awaited)
        this.#log.warn('nothing is served until the ConfigMap of --configmap is there', { configMap: key });
      this.#awaited = true;
      return false;
    }
    if (map === this.#configMap) return true;
    this.#configMap = map;
    this.#routing = routingOptions(this.#options, this.#defaults, map);
    this.#warnings.tellOfConfigMap(key ?? '', this.#routing.globals);
    return true;
  }

  #showDefaultCertificate(): void {
    const pair = this.#certificates.defaultCertificate;
    if (pair === (this.#shown ?? this.#certificates.defaultPair)) return;
    this.#shown = pair;
    this.#https?.setDefaultCertificate(pair);
  }

  state(): unknown {
    const table = this.#routes.table;
    return {
      ready: this.ready,
      addresses: this.addresses,
      connections: { clients: this.#engine.connections.size, backends: this.#routes.upstreamConnections },
      hosts: table ? hostStates(table) : [],
      certificates: [...this.#certificates.states()].map((certificate) => ({
        ...certificate,
        expires: new Date(certificate.expires).toISOString(),
      })),
    };
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#engine.stopping = true;
    const listeners = [this.#http, this.#https].filter((listener) => listener !== undefined);
    const closed = Promise.all(listeners.map((listener) => listener.close()));
    for (const connection of this.#engine.connections) connection.stopIdle();
    const grace = new AbortController();
    const bound = this.#clock.sleep(this.#options.graceMs ?? DEFAULT_GRACE_MS, grace.signal);
    await Promise.race([closed, bound]);
    grace.abort();
    for (const connection of this.#engine.connections) connection.destroy();
    for (const listener of listeners) for (const socket of listener.connections) socket.destroy();
    await closed;
    this.#routes.stop();
    this.#deadlines.stop();
  }

  #accept(socket: Socket, secure: boolean): void {
    this.#accepted++;
    if (this.#engine.stopping) {
      socket.destroy();
      return;
    }
    serveConnection(this.#engine, socket, {
      remoteAddress: socket.remoteAddress ?? '',
      remotePort: socket.remotePort ?? 0,
      localPort: socket.localPort ?? 0,
      secure,
    });
  }

  #record(record: RequestRecord): void {
    this.#traffic.record(record);
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

  #counts(): { active: number; busy: number; accepted: number } {
    let busy = 0;
    for (const connection of this.#engine.connections) if (connection.busy) busy++;
    return { active: this.#engine.connections.size, busy, accepted: this.#accepted };
  }

  #warnOf(backend: Backend): void {
    if (backend.target.kind === 'endpoints') return;
    this.#log.warn('a backend of an Ingress cannot be used; its paths answer 503', {
      backend: backend.ref.key,
      reason: unavailableText(backend.ref, backend.target.reason),
    });
  }
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
