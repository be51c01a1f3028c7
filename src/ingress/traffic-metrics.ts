import type { Metrics, Sample } from '../observe/metrics.ts';
import type { RequestRecord } from './http/forward.ts';
import type { ConnectionCounts } from './data-path.ts';
import type { Location } from './host-routes.ts';

const PREFIX = 'nginx_ingress_controller_';
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const SIZES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
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
  #requests = 0;

  constructor(metrics: Metrics, connections: () => ConnectionCounts) {
    const histogram = (name: string, help: string, tally: (child: Child) => Tally): void =>
      metrics.collected({
        name: PREFIX + name,
        help,
        type: 'histogram',
        samples: () => this.#histogramSamples(PREFIX + name, tally),
      });
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
    histogram('request_size', 'Bytes of request bodies', (c) => c.requestSize);
    histogram('response_size', 'Bytes of answer bodies', (c) => c.responseSize);
    this.#process(metrics, connections);
  }

  record(record: RequestRecord): void {
    this.#requests++;
    const method = METHODS.indexOf(record.method);
    const key = record.status * 16 + method + 1;
    let children = this.#unrouted;
    if (record.location) {
      const known = this.#byLocation.get(record.location);
      if (known) children = known;
      else this.#byLocation.set(record.location, (children = new Map()));
    }
    let child = children.get(key);
    if (!child) children.set(key, (child = this.#childOf(record.location, METHODS[method] ?? 'OTHER', record.status)));
    child.requests++;
    child.duration.observe(record.duration / 1000);
    if (record.headDuration !== undefined) child.header.observe(record.headDuration / 1000);
    child.requestSize.observe(record.received);
    child.responseSize.observe(record.sent);
  }

  #childOf(location: Location | undefined, method: string, status: number): Child {
    const { backend } = location?.backend ?? {};
    const labels = {
      status: String(status),
      method,
      path: location?.path ?? '',
      namespace: location?.ingress.namespace ?? '',
      ingress: location?.ingress.name ?? '',
      service: backend?.kind === 'service' ? backend.service : '',
      canary: '',
    };
    const host = location ? location.host || '_' : '_';
    const key = `${Object.values(labels).join('\0')}\0${host}`;
    let child = this.#children.get(key);
    if (!child) {
      child = {
        labels,
        host,
        requests: 0,
        duration: new Tally(SECONDS),
        header: new Tally(SECONDS),
        requestSize: new Tally(SIZES),
        responseSize: new Tally(SIZES),
      };
      this.#children.set(key, child);
    }
    return child;
  }

  *#requestSamples(name: string): Generator<Sample> {
    for (const { labels, host, requests } of this.#children.values()) {
      yield { name, labels: { ...labels, host }, value: requests };
    }
  }

  *#histogramSamples(name: string, tally: (child: Child) => Tally): Generator<Sample> {
    for (const child of this.#children.values()) {
      yield* tally(child).samples(name, { ...child.labels, host: child.host });
    }
  }

  #process(metrics: Metrics, connections: () => ConnectionCounts): void {
    const gauge = `${PREFIX}nginx_process_connections`;
    metrics.collected({
      name: gauge,
      help: 'Client connections by what they do',
      type: 'gauge',
      samples: () => {
        const { active, busy } = connections();
        return [
          { name: gauge, labels: { state: 'active' }, value: active },
          { name: gauge, labels: { state: 'writing' }, value: busy },
          { name: gauge, labels: { state: 'waiting' }, value: active - busy },
        ];
      },
    });
    const total = `${PREFIX}nginx_process_connections_total`;
    metrics.collected({
      name: total,
      help: 'Client connections accepted',
      type: 'counter',
      samples: () => [{ name: total, labels: { state: 'accepted' }, value: connections().accepted }],
    });
    const requests = `${PREFIX}nginx_process_requests_total`;
    metrics.collected({
      name: requests,
      help: 'Requests of clients, malformed ones included',
      type: 'counter',
      samples: () => [{ name: requests, labels: {}, value: this.#requests }],
    });
  }
}
