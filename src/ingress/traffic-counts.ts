// Requests counted by location, method and status, in plain numbers: a thread hands over what has come since it did so last, which costs as
// much as was asked for meanwhile, and not as much as there is.

import type { Meters, Sample } from '../observe/metrics.ts';
import type { RequestRecord } from './http/forward.ts';
import type { Location } from './host-routes.ts';

export const PREFIX = 'nginx_ingress_controller_';
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

interface Histogram {
  /** Without the prefix. */
  readonly name: string;
  readonly help: string;
  readonly bounds: readonly number[];
  /** Where in the numbers of a label set its own begin: the sum, the count, then the buckets. */
  readonly at: number;
}

/** The labels that tell one label set from others. */
interface LabelSet {
  readonly labels: Readonly<Record<string, string>>;
  readonly host: string;
}

/** What is counted for one location, method and status. */
interface Child extends LabelSet {
  readonly key: string;
  /** Requests, then each histogram. */
  readonly numbers: Float64Array;
  /** By which it is told of; -1 until it was. */
  id: number;
  changed: boolean;
  /** Its Ingress is no more: a request that ends now is not counted. */
  forgotten: boolean;
  /** How many threads have told of it and have not forgotten it since. */
  tellers: number;
}

/** What a thread has counted since it told last; plain data. */
export interface TrafficDelta {
  /** Those that are told of for the first time, in the order of their ids. */
  readonly fresh: readonly LabelSet[];
  readonly ids: Uint32Array;
  /** Of each id, one after the other. */
  readonly numbers: Float64Array;
  /** Ids of those that were told of and are forgotten. */
  readonly gone: readonly number[];
}

/** The label sets that one thread has told of, by their ids; only `TrafficCounts` looks inside. */
export type ToldBy = Map<number, Child>;

export class TrafficCounts {
  readonly #byLocation = new WeakMap<Location, Map<number, Child>>();
  /** The same children by their labels: a location that is compiled again goes on counting where it was. */
  readonly #children = new Map<string, Child>();
  readonly #unrouted = new Map<number, Child>();
  readonly #hosts = new Map<string, Map<number, Child>>();
  readonly #options: TrafficOptions;
  readonly #histograms: readonly Histogram[];
  readonly #duration: Histogram;
  readonly #header: Histogram;
  readonly #connect: Histogram;
  readonly #response: Histogram;
  readonly #bytes: Histogram;
  readonly #requestSize: Histogram;
  readonly #responseSize: Histogram;
  /** Numbers of one label set. */
  readonly #size: number;
  /** Those that have counted something since it was told. */
  #changed: Child[] = [];
  #told = 0;
  #gone: number[] = [];

  constructor(options: Partial<TrafficOptions> = {}) {
    this.#options = { ...DEFAULT_TRAFFIC, ...options };
    const { timeBuckets, lengthBuckets, sizeBuckets } = this.#options;
    const histograms: Histogram[] = [];
    let at = 1;
    const histogram = (name: string, help: string, bounds: readonly number[]): Histogram => {
      const made = { name, help, bounds, at };
      histograms.push(made);
      at += 2 + bounds.length;
      return made;
    };
    const toEnd = 'Time from the head of a request to the end of its answer';
    this.#duration = histogram('request_duration_seconds', toEnd, timeBuckets);
    const toHead = 'Time from the head of a request to the head of the answer';
    this.#header = histogram('header_duration_seconds', toHead, timeBuckets);
    this.#connect = histogram('connect_duration_seconds', 'Time to a connection to the endpoint', timeBuckets);
    const ofAttempts = 'Time from the first attempt to the end of the answer';
    this.#response = histogram('response_duration_seconds', ofAttempts, timeBuckets);
    this.#bytes = histogram('bytes_sent', 'Bytes of answer bodies; deprecated, use response_size', sizeBuckets);
    this.#requestSize = histogram('request_size', 'Bytes of request bodies', lengthBuckets);
    this.#responseSize = histogram('response_size', 'Bytes of answer bodies', lengthBuckets);
    this.#histograms = histograms;
    this.#size = at;
  }

  /** Shows what is counted here. */
  register(metrics: Meters): void {
    const requests = `${PREFIX}requests`;
    metrics.collected({
      name: requests,
      help: 'Requests of clients',
      type: 'counter',
      samples: () => this.#requestSamples(requests),
    });
    for (const histogram of this.#histograms) {
      if (this.#options.excluded.has(histogram.name)) continue;
      metrics.collected({
        name: PREFIX + histogram.name,
        help: histogram.help,
        type: 'histogram',
        samples: () => this.#histogramSamples(histogram),
      });
    }
  }

  record(record: RequestRecord): void {
    const { numbers } = this.#changing(record);
    numbers[0] = (numbers[0] ?? 0) + 1;
    observe(numbers, this.#duration, record.duration / 1000);
    if (record.headDuration !== undefined) observe(numbers, this.#header, record.headDuration / 1000);
    if (record.connectDuration !== undefined) observe(numbers, this.#connect, record.connectDuration / 1000);
    if (record.upstreamDuration !== undefined) observe(numbers, this.#response, record.upstreamDuration / 1000);
    observe(numbers, this.#bytes, record.sent);
    observe(numbers, this.#requestSize, record.received);
    observe(numbers, this.#responseSize, record.sent);
  }

  /** Nothing is shown any more of these Ingresses, by namespace/name: they are no more, and what nobody removes would grow for ever. */
  forget(ingresses: ReadonlySet<string>): void {
    for (const child of this.#children.values()) {
      if (!ingresses.has(`${child.labels['namespace']}/${child.labels['ingress']}`)) continue;
      this.#children.delete(child.key);
      child.forgotten = true;
      if (child.id >= 0) this.#gone.push(child.id);
    }
    this.#changed = this.#changed.filter(({ forgotten }) => !forgotten);
  }

  /** What was counted since this was called last; it counts from nothing again. */
  take(): TrafficDelta {
    const changed = this.#changed;
    const gone = this.#gone;
    this.#changed = [];
    this.#gone = [];
    const fresh: LabelSet[] = [];
    const ids = new Uint32Array(changed.length);
    const numbers = new Float64Array(changed.length * this.#size);
    for (const [i, child] of changed.entries()) {
      if (child.id < 0) {
        child.id = this.#told++;
        fresh.push({ labels: child.labels, host: child.host });
      }
      ids[i] = child.id;
      numbers.set(child.numbers, i * this.#size);
      child.numbers.fill(0);
      child.changed = false;
    }
    return { fresh, ids, numbers, gone };
  }

  /** Adds what another one has taken; `told` is what that one told of before. */
  add({ fresh, ids, numbers, gone }: TrafficDelta, told: ToldBy): void {
    let next = 0;
    for (const id of ids) {
      if (told.has(id)) continue;
      const set = fresh[next++];
      if (!set) continue;
      const child = this.#child(set.labels, set.host);
      child.tellers++;
      told.set(id, child);
    }
    for (const [i, id] of ids.entries()) {
      const child = told.get(id);
      if (!child) continue;
      const from = i * this.#size;
      for (let at = 0; at < this.#size; at++) child.numbers[at] = (child.numbers[at] ?? 0) + (numbers[from + at] ?? 0);
    }
    for (const id of gone) {
      const child = told.get(id);
      told.delete(id);
      if (child && --child.tellers === 0) this.#children.delete(child.key);
    }
  }

  /** The thread is gone. What it counted stays, until the others forget it. */
  release(told: ToldBy): void {
    for (const child of told.values()) child.tellers--;
  }

  #changing(record: RequestRecord): Child {
    const method = METHODS.indexOf(record.method);
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
    if (!child.changed && !child.forgotten) {
      child.changed = true;
      this.#changed.push(child);
    }
    return child;
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
    const { statusClasses, perUndefinedHost } = this.#options;
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
    return this.#child(labels, location ? location.host || '_' : undefinedHost);
  }

  #child(labels: LabelSet['labels'], host: string): Child {
    const key = `${Object.values(labels).join('\0')}\0${host}`;
    let child = this.#children.get(key);
    if (!child) {
      const numbers = new Float64Array(this.#size);
      child = { key, labels, host, numbers, id: -1, changed: false, forgotten: false, tellers: 0 };
      this.#children.set(key, child);
    }
    return child;
  }

  #labels({ labels, host }: Child): Readonly<Record<string, string>> {
    return { ...labels, ...(this.#options.perHost ? { host } : {}), ...this.#options.labels };
  }

  *#requestSamples(name: string): Generator<Sample> {
    for (const child of this.#children.values()) {
      yield { name, labels: this.#labels(child), value: child.numbers[0] ?? 0 };
    }
  }

  *#histogramSamples(histogram: Histogram): Generator<Sample> {
    for (const child of this.#children.values()) yield* samplesOf(histogram, child.numbers, this.#labels(child));
  }
}

function observe(numbers: Float64Array, { at, bounds }: Histogram, value: number): void {
  numbers[at] = (numbers[at] ?? 0) + value;
  numbers[at + 1] = (numbers[at + 1] ?? 0) + 1;
  for (let i = 0; i < bounds.length; i++) {
    if (value > (bounds[i] ?? 0)) continue;
    numbers[at + 2 + i] = (numbers[at + 2 + i] ?? 0) + 1;
    return;
  }
}

function* samplesOf(
  { name: short, bounds, at }: Histogram,
  numbers: Float64Array,
  labels: Readonly<Record<string, string>>,
): Generator<Sample> {
  const name = PREFIX + short;
  let total = 0;
  for (const [i, bound] of bounds.entries()) {
    total += numbers[at + 2 + i] ?? 0;
    yield { name: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: total };
  }
  const count = numbers[at + 1] ?? 0;
  yield { name: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count };
  yield { name: `${name}_sum`, labels, value: numbers[at] ?? 0 };
  yield { name: `${name}_count`, labels, value: count };
}
