import type { Meters, Sample } from '../observe/metrics.ts';
import type { RequestRecord } from './http/forward.ts';
import type { ConnectionCounts } from './data-path.ts';
import type { Location } from './host-routes.ts';

const PREFIX = 'nginx_ingress_controller_';
/** What `--metrics-per-host` and its like say; the defaults are ingress-nginx'. */
export interface TrafficOptions {
  readonly perHost: boolean;
  /** Hosts that no Ingress names have a label too. */
  readonly perUndefinedHost: boolean;
  /** `2xx` in the place of each status. */
  readonly statusClasses: boolean;
  readonly timeBuckets: readonly number[];
  readonly lengthBuckets: readonly number[];
  readonly sizeBuckets: readonly number[];
  /** Histograms that are left out, by their names without the prefix. */
  readonly excluded: ReadonlySet<string>;
  /** Labels of every sample: class, namespace and Pod of the controller. */
  readonly labels: Readonly<Record<string, string>>;
}

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const SIZES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
const BYTES = [10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/** Anybody may ask for any host: memory for their labels is bounded. */
const MAX_UNDEFINED_HOSTS = 1000;

export const DEFAULT_TRAFFIC: TrafficOptions = {
  perHost: true,
  perUndefinedHost: false,
  statusClasses: false,
  timeBuckets: SECONDS,
  lengthBuckets: SIZES,
  sizeBuckets: BYTES,
  excluded: new Set(),
  labels: {},
};

/** Clients may send any method; the label takes the known ones. */
const METHODS = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'CONNECT', 'TRACE'];

/** Counts of one metric's one label set, in plain numbers. */
class Tally {
  readonly counts: Float64Array;
  sum = 0;
  count = 0;
  readonly #bounds: readonly number[];

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length);
  }

  observe(value: number): void {
    this.sum += value;
    this.count++;
    for (let i = 0; i < this.#bounds.length; i++) {
      if (value <= (this.#bounds[i] as number)) {
        (this.counts[i] as number)++;
        return;
      }
    }
  }

  *samples(name: string, labels: Readonly<Record<string, string>>): Generator<Sample> {
    let total = 0;
    for (const [i, bound] of this.#bounds.entries()) {
      total += this.counts[i] ?? 0;
      yield { name: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: total };
    }
    yield { name: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: this.count };
    yield { name: `${name}_sum`, labels, value: this.sum };
    yield { name: `${name}_count`, labels, value: this.count };
  }
}

/** What is counted for one location, method and status. */
interface Child {
  readonly labels: Readonly<Record<string, string>>;
  readonly host: string;
  requests: number;
  readonly duration: Tally;
  readonly header: Tally;
  readonly connect: Tally;
  readonly response: Tally;
  readonly bytes: Tally;
  readonly requestSize: Tally;
  readonly responseSize: Tally;
}

/**
 * ingress-nginx' traffic metrics. A request costs two look-ups and a few additions; the samples are made when they are
 * asked for. Label sets are few: `path` is the rule's path, unknown methods are one.
 */
export class TrafficMetrics {
  readonly #byLocation = new WeakMap<Location, Map<number, Child>>();
  /** The same children by their labels: a location that is compiled again goes on counting where it was. */
  readonly #children = new Map<string, Child>();
  readonly #unrouted = new Map<number, Child>();
  readonly #hosts = new Map<string, Map<number, Child>>();
  #requests = 0;

  readonly #options: TrafficOptions;
  #received = 0;
  #sent = 0;
  #retries = 0;

  constructor(metrics: Meters, connections: () => ConnectionCounts, options: Partial<TrafficOptions> = {}) {
    this.#options = { ...DEFAULT_TRAFFIC, ...options };
    const histogram = (name: string, help: string, tally: (child: Child) => Tally): void => {
      if (this.#options.excluded.has(name)) return;
      metrics.collected({
        name: PREFIX + name,
        help,
        type: 'histogram',
        samples: () => this.#histogramSamples(PREFIX + name, tally),
      });
    };
    metrics.collected({
      name: `${PREFIX}requests`,
      help: 'Requests of clients',
      type: 'counter',
      samples: () => this.#requestSamples(`${PREFIX}requests`),
    });
    histogram(
      'request_duration_seconds',
      'Time from the head of a request to the end of its answer',
      (c) => c.duration,
    );
    histogram('header_duration_seconds', 'Time from the head of a request to the head of the answer', (c) => c.header);
    histogram('connect_duration_seconds', 'Time to a connection to the endpoint', (c) => c.connect);
    histogram('response_duration_seconds', 'Time from the first attempt to the end of the answer', (c) => c.response);
    histogram('bytes_sent', 'Bytes of answer bodies; deprecated, use response_size', (c) => c.bytes);
    histogram('request_size', 'Bytes of request bodies', (c) => c.requestSize);
    histogram('response_size', 'Bytes of answer bodies', (c) => c.responseSize);
    this.#process(metrics, connections);
  }

  record(record: RequestRecord): void {
    this.#requests++;
    const method = METHODS.indexOf(record.method);
    this.#received += record.received;
    this.#sent += record.sent;
    this.#retries += record.retries ?? 0;
    const key = (record.status * 16 + method + 1) * 2 + (record.canary === undefined ? 0 : 1);
    let children = this.#unrouted;
    if (!record.location && this.#options.perUndefinedHost) children = this.#undefinedHost(record.host);
    if (record.location) {
      const known = this.#byLocation.get(record.location);
      if (known) children = known;
      else this.#byLocation.set(record.location, (children = new Map()));
    }
    let child = children.get(key);
    if (!child) children.set(key, (child = this.#childOf(record, METHODS[method] ?? 'OTHER')));
    child.requests++;
    child.duration.observe(record.duration / 1000);
    if (record.headDuration !== undefined) child.header.observe(record.headDuration / 1000);
    if (record.connectDuration !== undefined) child.connect.observe(record.connectDuration / 1000);
    if (record.upstreamDuration !== undefined) child.response.observe(record.upstreamDuration / 1000);
    child.bytes.observe(record.sent);
    child.requestSize.observe(record.received);
    child.responseSize.observe(record.sent);
  }

  /** As many as nginx' zones would hold; the others are one. */
  #undefinedHost(host: string): Map<number, Child> {
    const known = this.#hosts.get(host);
    if (known || this.#hosts.size >= MAX_UNDEFINED_HOSTS) return known ?? this.#unrouted;
    const children = new Map<number, Child>();
    this.#hosts.set(host, children);
    return children;
  }

  #childOf({ location, status, canary, host: asked }: RequestRecord, method: string): Child {
    const { timeBuckets, lengthBuckets, sizeBuckets, statusClasses, perUndefinedHost } = this.#options;
    const { backend } = location?.backend ?? {};
    const labels = {
      status: statusClasses ? `${Math.floor(status / 100)}xx` : String(status),
      method,
      path: location?.path ?? '',
      namespace: location?.ingress.namespace ?? '',
      ingress: location?.ingress.name ?? '',
      service: backend?.kind === 'service' ? backend.service : '',
      canary: canary ?? '',
    };
    const undefinedHost = perUndefinedHost && this.#hosts.has(asked) ? asked : '_';
    const host = location ? location.host || '_' : undefinedHost;
    const key = `${Object.values(labels).join('\0')}\0${host}`;
    let child = this.#children.get(key);
    if (!child) {
      child = {
        labels,
        host,
        requests: 0,
        duration: new Tally(timeBuckets),
        header: new Tally(timeBuckets),
        connect: new Tally(timeBuckets),
        response: new Tally(timeBuckets),
        bytes: new Tally(sizeBuckets),
        requestSize: new Tally(lengthBuckets),
        responseSize: new Tally(lengthBuckets),
      };
      this.#children.set(key, child);
    }
    return child;
  }

  #labels(labels: Child['labels'], host: string): Readonly<Record<string, string>> {
    return { ...labels, ...(this.#options.perHost ? { host } : {}), ...this.#options.labels };
  }

  *#requestSamples(name: string): Generator<Sample> {
    for (const { labels, host, requests } of this.#children.values()) {
      yield { name, labels: this.#labels(labels, host), value: requests };
    }
  }

  *#histogramSamples(name: string, tally: (child: Child) => Tally): Generator<Sample> {
    for (const child of this.#children.values()) {
      yield* tally(child).samples(name, this.#labels(child.labels, child.host));
    }
  }

  #process(metrics: Meters, connections: () => ConnectionCounts): void {
    const own = this.#options.labels;
    const gauge = `${PREFIX}nginx_process_connections`;
    metrics.collected({
      name: gauge,
      help: 'Client connections by what they do',
      type: 'gauge',
      samples: () => {
        const { active, busy } = connections();
        return [
          { name: gauge, labels: { ...own, state: 'reading' }, value: 0 },
          { name: gauge, labels: { ...own, state: 'active' }, value: active },
          { name: gauge, labels: { ...own, state: 'writing' }, value: busy },
          { name: gauge, labels: { ...own, state: 'waiting' }, value: Math.max(0, active - busy) },
        ];
      },
    });
    const total = `${PREFIX}nginx_process_connections_total`;
    metrics.collected({
      name: total,
      help: 'Client connections accepted',
      type: 'counter',
      samples: () =>
        ['accepted', 'handled'].map((state) => ({
          name: total,
          labels: { ...own, state },
          value: connections().accepted,
        })),
    });
    const counter = (name: string, help: string, value: () => number): void =>
      metrics.collected({ name, help, type: 'counter', samples: () => [{ name, labels: own, value: value() }] });
    counter(`${PREFIX}nginx_process_read_bytes_total`, 'Bytes of request bodies', () => this.#received);
    counter(`${PREFIX}nginx_process_write_bytes_total`, 'Bytes of answer bodies', () => this.#sent);
    counter('fairlead_ingress_retries_total', 'Requests that were sent to an endpoint again', () => this.#retries);
    const requests = `${PREFIX}nginx_process_requests_total`;
    metrics.collected({
      name: requests,
      help: 'Requests of clients, malformed ones included',
      type: 'counter',
      samples: () => [{ name: requests, labels: own, value: this.#requests }],
    });
  }
}
