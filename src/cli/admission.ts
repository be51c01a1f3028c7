// The validating webhook: AdmissionReview (admission.k8s.io/v1) in, AdmissionReview out.

import { admitIngress, type AdmissionRules } from '../ingress/admission.ts';
import type { RouteTable } from '../ingress/route-table.ts';
import { messageOf } from '../lib/message-of.ts';
import type { Logger } from '../observe/log.ts';
import type { Count, Level, Metrics } from '../observe/metrics.ts';
import { parseIngress } from '../source/parse/ingress.ts';
import type { Clock } from '../system/clock.ts';
import type { Files } from '../system/files.ts';
import type { HttpAnswer } from '../system/http-server.ts';
import { serveReviews, type ReviewServer } from '../system/review-server.ts';

export interface WebhookSettings extends AdmissionRules {
  /** Undefined: every address. */
  readonly address: string | undefined;
  readonly port: number;
  /** Files; they are read again when they change. */
  readonly certificate: string;
  readonly key: string;
}

export interface WebhookOptions {
  readonly settings: WebhookSettings;
  /** The table in force; undefined before the first Snapshot. */
  readonly table: () => RouteTable | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Of the controller, for its metrics. */
  readonly labels: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly files: Files;
}

export interface Webhook {
  stop(): Promise<void>;
}

/** An object in etcd has 1.5 MB at most; an update carries two of them. CVE-2026-24514. */
const MAX_BODY = 4 * 1024 * 1024;
const CERTIFICATE_MS = 10_000;

/** Rejects when the files cannot be read or the address cannot be listened on. */
export async function startWebhook(options: WebhookOptions): Promise<Webhook> {
  const { settings, log, clock, files } = options;
  const read = async (): Promise<{ cert: string; key: string }> => ({
    cert: await files.readText(settings.certificate),
    key: await files.readText(settings.key),
  });
  let pair = await read();
  const reviewer = new Reviewer(options);
  const server: ReviewServer = await serveReviews({
    ...settings,
    ...pair,
    maxBodyBytes: MAX_BODY,
    handle: (body) => reviewer.answer(body),
  });
  log.info('listening for admission reviews', { address: server.address, port: server.port });
  const stopping = new AbortController();
  const follow = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(CERTIFICATE_MS, stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        const next = await read();
        if (next.cert === pair.cert && next.key === pair.key) continue;
        server.setCertificate(next);
        pair = next;
        log.info('the certificate of the webhook is replaced');
      } catch (error) {
        log.warn('the certificate of the webhook cannot be read; the last one is used', { error: messageOf(error) });
      }
    }
  };
  const following = follow();
  return {
    async stop() {
      stopping.abort();
      await following;
      await server.close();
    },
  };
}

interface Review {
  readonly uid: string;
  readonly kind: string;
  readonly operation: string;
  readonly object: unknown;
}

/** Bodies → answers. */
export class Reviewer {
  readonly #options: Pick<WebhookOptions, 'settings' | 'table' | 'log' | 'clock' | 'labels'>;
  readonly #gauges: Readonly<
    Record<'size' | 'rendered' | 'renderSeconds' | 'roundtrip' | 'tested' | 'testSeconds', Level>
  >;

  readonly #checks: { readonly passed: Count; readonly refused: Count };

  constructor(options: Pick<WebhookOptions, 'settings' | 'table' | 'log' | 'clock' | 'metrics' | 'labels'>) {
    this.#options = options;
    const { metrics, labels } = options;
    const own = Object.keys(labels);
    const gauge = (name: string, help: string): Level => {
      const level = metrics.gauge({ name: `nginx_ingress_controller_admission_${name}`, help, labels: own });
      return { set: (value) => level.set(value, labels) };
    };
    const check = (name: string, help: string): Count =>
      metrics.counter({ name: `nginx_ingress_controller_${name}`, help, labels: [...own, 'namespace', 'ingress'] });
    this.#checks = {
      passed: check('check_success', 'Reviews of an Ingress that let it be written'),
      refused: check('check_errors', 'Reviews of an Ingress that refused it'),
    };
    this.#gauges = {
      size: gauge('config_size', 'Bytes of the last Ingress that was reviewed'),
      rendered: gauge('render_ingresses', 'Ingresses that the last review was held against'),
      renderSeconds: gauge('render_duration', 'Seconds in which the last Ingress was parsed'),
      roundtrip: gauge('roundtrip_duration', 'Seconds of the last review in all'),
      tested: gauge('tested_ingresses', 'Ingresses in the table at the last review'),
      testSeconds: gauge('tested_duration', 'Seconds in which the last Ingress was judged'),
    };
  }

  answer(body: string): HttpAnswer {
    const { clock, log, table } = this.#options;
    const started = clock.monotonic();
    const review = readReview(body);
    if (typeof review === 'string') return { status: 400, contentType: 'text/plain', body: `${review}\n` };
    const response = this.#judge(review, table());
    const seconds = (clock.monotonic() - started) / 1000;
    this.#gauges.size.set(body.length);
    this.#gauges.roundtrip.set(seconds);
    log[response.allowed ? 'debug' : 'info']('reviewed', {
      allowed: response.allowed,
      operation: review.operation,
      reason: response.status?.message,
      ms: Math.round(seconds * 10_000) / 10,
    });
    const answer = {
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      response: { uid: review.uid, ...response },
    };
    return { status: 200, contentType: 'application/json', body: JSON.stringify(answer) };
  }

  #judge(review: Review, table: RouteTable | undefined): ReviewResponse {
    if (review.operation === 'DELETE') return { allowed: true };
    if (review.kind !== 'networking.k8s.io/v1 Ingress') {
      return refused(400, `this webhook reviews networking.k8s.io/v1 Ingress, not ${review.kind}`);
    }
    const { clock, settings } = this.#options;
    const started = clock.monotonic();
    const parsed = parseIngress(review.object, 'strict', 'v1');
    const parsedAt = clock.monotonic();
    this.#gauges.renderSeconds.set((parsedAt - started) / 1000);
    if (!parsed.ok) return refused(422, parsed.errors.map(({ path, message }) => `${path}: ${message}`).join('; '));
    if (!table) return { allowed: true, warnings: ['the controller has read nothing yet, so nothing was checked'] };
    const { refusal, warnings, routes } = admitIngress(parsed.record, table, settings);
    const { namespace, name: ingress } = parsed.record;
    const checked = { ...this.#options.labels, namespace, ingress };
    (refusal === undefined ? this.#checks.passed : this.#checks.refused).add(1, checked);
    this.#gauges.testSeconds.set((clock.monotonic() - parsedAt) / 1000);
    this.#gauges.tested.set(table.settings.size);
    this.#gauges.rendered.set(table.settings.size);
    const told = warnings.length > 0 ? { warnings: warnings.map((text) => text.slice(0, 256)) } : {};
    if (refusal !== undefined) return { ...refused(400, refusal), ...told };
    return {
      allowed: true,
      ...told,
      ...(routes.length > 0 ? { auditAnnotations: { routes: routes.join('\n') } } : {}),
    };
  }
}

interface ReviewResponse {
  readonly allowed: boolean;
  readonly status?: { readonly code: number; readonly message: string };
  readonly warnings?: readonly string[];
  readonly auditAnnotations?: Readonly<Record<string, string>>;
}

function refused(code: number, message: string): ReviewResponse {
  return { allowed: false, status: { code, message } };
}

/** Text: what is wrong with it. */
function readReview(body: string): Review | string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    return `the body is no JSON: ${messageOf(error)}`;
  }
  const review = objectOf(value);
  const request = objectOf(review['request']);
  const kind = objectOf(request['kind']);
  const uid = request['uid'];
  if (review['kind'] !== 'AdmissionReview' || review['apiVersion'] !== 'admission.k8s.io/v1') {
    return 'the body is no AdmissionReview of admission.k8s.io/v1';
  }
  if (typeof uid !== 'string' || uid === '') return 'request.uid is missing';
  return {
    uid,
    kind: `${text(kind['group'])}/${text(kind['version'])} ${text(kind['kind'])}`,
    operation: text(request['operation']),
    object: request['object'],
  };
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
