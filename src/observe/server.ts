// The endpoints that people and probes read: /metrics, /healthz, /livez, /readyz, /state, and whatever a role adds.

import type { Logger } from './log.ts';
import { hostPort } from '../lib/ip.ts';
import type { Clock } from '../system/clock.ts';
import { METRICS_CONTENT_TYPE, type Metrics } from './metrics.ts';
import {
  HttpListenError,
  serveHttp,
  type HttpAnswer,
  type HttpRequest,
  type HttpServer,
} from '../system/http-server.ts';

/** What the probes are told. */
export interface Health {
  /** What is not ready yet, by name; empty means ready. Ready means that the first sync is in force. */
  readonly notReady: () => readonly string[];
  /** What is broken for good, in a sentence; undefined means alive. */
  readonly broken: () => string | undefined;
}

export type Route = (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>;

export type Routes = ReadonlyMap<string, Route>;

/** The routes of metrics: `/metrics`. */
export function metricsRoutes(metrics: Metrics): Routes {
  return new Map([
    ['/metrics', async () => ({ status: 200, contentType: METRICS_CONTENT_TYPE, body: await metrics.text() })],
  ]);
}

/** kube-proxy's `/metrics/slis`: when the process started. `startedAt` in milliseconds since 1970. */
export function slisRoutes(startedAt: number): Routes {
  const seconds = startedAt / 1000;
  const body = `# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds ${seconds}
`;
  const headers = { 'Process-Start-Time-Unix': String(Math.floor(seconds)) };
  return new Map([['/metrics/slis', () => ({ status: 200, contentType: METRICS_CONTENT_TYPE, body, headers })]]);
}

/** `/healthz` and `/livez` (alive), `/readyz` (the first sync is in force). Plain text: `ok`, or what is missing, with 503. */
export function healthRoutes(health: Health): Routes {
  const alive: Route = () => {
    const broken = health.broken();
    return broken === undefined ? text(200, 'ok') : text(503, broken);
  };
  const ready: Route = () => {
    const missing = health.notReady();
    return missing.length === 0 ? text(200, 'ok') : text(503, `not ready: ${missing.join(', ')}\n`);
  };
  return new Map([
    ['/healthz', alive],
    ['/livez', alive],
    ['/readyz', ready],
  ]);
}

/** A path that answers with the value as JSON. */
export function jsonRoute(path: string, value: () => unknown): Routes {
  return new Map([
    [path, () => ({ status: 200, contentType: 'application/json', body: `${JSON.stringify(value(), null, 2)}\n` })],
  ]);
}

/** CoreDNS' `/health`: `OK` for as long as it answers at all. */
export function coreDnsHealth(): Routes {
  return new Map([['/health', () => text(200, 'OK')]]);
}

/** CoreDNS' `/ready`: `OK`, or 503 with the plugin that is waited for. */
export function coreDnsReady(health: Health): Routes {
  return new Map([['/ready', () => (health.notReady().length === 0 ? text(200, 'OK') : text(503, 'kubernetes'))]]);
}

/** One endpoint of one role: where it listens, what it answers, and the flag that moves it elsewhere. */
export interface ObserveOptions {
  readonly what: string;
  readonly address: string;
  readonly port: number;
  readonly flag: string;
  readonly routes: readonly Routes[];
  readonly log: Logger;
  readonly clock: Clock;
  readonly hardFail?: boolean;
}

/** An address that cannot be listened on, where that ends the program. */
export class BindError extends Error {
  readonly code = 'BIND';
}

export interface ObserveServer {
  close(): Promise<void>;
}

const BIND_AGAIN_MS = 5_000;

/**
 * Opens the endpoint. When it cannot: one error in the log, and another try every 5 s, since traffic matters more than its metrics; or, with
 * `hardFail`, a BindError.
 */
export async function serveObserve(options: ObserveOptions): Promise<ObserveServer> {
  const { what, address, port, log, clock, hardFail = false } = options;
  const routes = new Map(options.routes.flatMap((part) => [...part]));
  const stopping = new AbortController();
  let server: HttpServer | undefined;
  const open = async (): Promise<HttpListenError | undefined> => {
    try {
      server = await serveHttp(address, port, (request) => dispatch(request, routes));
    } catch (error) {
      if (error instanceof HttpListenError) return error;
      throw error;
    }
    log.info(`listening for ${what}`, { address: server.address, port: server.port });
    return undefined;
  };
  const failure = await open();
  if (failure && hardFail) {
    throw new BindError(
      `cannot listen on ${hostPort(address, port)} for ${what}: ${reason(failure.code)}; free the port, or give another with ${options.flag}`,
    );
  }
  if (failure) {
    const problem = `cannot listen on ${hostPort(address, port)} for ${what}: ${reason(failure.code)}`;
    log.error(`${problem}; the rest works without it, trying again`, {
      mend: `free the port, or give another with ${options.flag}`,
    });
  }
  const retry = async (): Promise<void> => {
    for (let again = failure; again && !stopping.signal.aborted;) {
      await clock.sleep(BIND_AGAIN_MS, stopping.signal);
      if (!stopping.signal.aborted) again = await open();
    }
  };
  const retrying = retry();
  return {
    async close() {
      stopping.abort();
      await retrying;
      await server?.close();
    },
  };
}

function dispatch(request: HttpRequest, routes: Routes): HttpAnswer | Promise<HttpAnswer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return text(405, 'only GET and HEAD\n');
  const route = routes.get(request.path);
  return route ? route(request) : text(404, `no such page; there is: ${[...routes.keys()].join(' ')}\n`);
}

function text(status: number, body: string): HttpAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body };
}

function reason(code: string): string {
  if (code === 'EADDRINUSE') return 'another process listens there';
  if (code === 'EACCES') return 'no right to use a port under 1024';
  if (code === 'EADDRNOTAVAIL') return 'the address is not one of this machine';
  return code;
}
