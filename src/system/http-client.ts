// HTTP and HTTPS requests of our own: one server, kept connections, bodies as they stream in.

import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';

export interface HttpClientOptions {
  /** `http://…` or `https://…`; a path of it stands before the path of each request. */
  readonly server: string;
  readonly caPem?: string | undefined;
  readonly certPem?: string | undefined;
  readonly keyPem?: string | undefined;
  /** Name to ask for and to verify instead of the server's host. */
  readonly serverName?: string | undefined;
  readonly skipTlsVerify?: boolean | undefined;
}

export interface HttpRequest {
  readonly method?: string;
  /** Path with query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Ends the request, or the body that is being read. */
  readonly signal?: AbortSignal;
  /** From the request to the head of the response. */
  readonly headersTimeoutMs?: number;
}

export interface HttpResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** The body, decoded. Throws an HttpClientError when it breaks off. To be read to its end, or given up by the signal. */
  readonly body: AsyncIterable<Uint8Array>;
  /** The whole body as text. */
  text(): Promise<string>;
}

export interface HttpClient {
  /** Rejects with an HttpClientError when no response comes. Any status is a response. */
  request(request: HttpRequest): Promise<HttpResponse>;
  /** Closes connections that carry nothing; those in use end with their requests. */
  retire(): void;
  /** Closes every connection. */
  close(): void;
}

export type HttpClientErrorCode = 'unreachable' | 'tls' | 'timeout' | 'broken' | 'aborted';

export class HttpClientError extends Error {
  readonly code: HttpClientErrorCode;

  constructor(code: HttpClientErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'HttpClientError';
    this.code = code;
  }
}

const HEADERS_TIMEOUT_MS = 30_000;
/** A peer that vanished without a word is found by TCP itself after about this time. */
const KEEP_ALIVE_MS = 30_000;

/** Throws a TypeError when the server is no URL, and an Error of TLS when a certificate or key cannot be read. */
export function createHttpClient(options: HttpClientOptions): HttpClient {
  const base = new URL(options.server);
  const secure = base.protocol === 'https:';
  const prefix = base.pathname.replace(/\/+$/, '');
  const agent = secure
    ? new https.Agent({
        keepAlive: true,
        keepAliveMsecs: KEEP_ALIVE_MS,
        ca: options.caPem,
        cert: options.certPem,
        key: options.keyPem,
        rejectUnauthorized: options.skipTlsVerify !== true,
        ...(options.serverName === undefined ? {} : { servername: options.serverName }),
      })
    : new http.Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS });
  const send = secure ? https.request : http.request;
  return {
    async request(request) {
      const message = await new Promise<IncomingMessage>((resolve, reject) => {
        const outgoing = send(
          {
            agent,
            protocol: base.protocol,
            hostname: base.hostname.replace(/^\[|\]$/g, ''),
            port: base.port,
            method: request.method ?? 'GET',
            path: `${prefix}${request.path}`,
            headers: {
              'Accept-Encoding': 'gzip',
              ...request.headers,
              ...(request.body === undefined ? {} : { 'Content-Length': Buffer.byteLength(request.body) }),
            },
            ...(request.signal ? { signal: request.signal } : {}),
          },
          (response) => {
            clearTimeout(timer);
            resolve(response);
          },
        );
        const limit = request.headersTimeoutMs ?? HEADERS_TIMEOUT_MS;
        const timer = setTimeout(() => {
          outgoing.destroy(new HttpClientError('timeout', `no answer within ${limit} ms`));
        }, limit);
        timer.unref();
        outgoing.on('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
        outgoing.on('error', (error) => {
          clearTimeout(timer);
          reject(asClientError(error, request.signal));
        });
        outgoing.end(request.body);
      });
      return responseOf(message, request.signal);
    },
    retire() {
      for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
    },
    close: () => agent.destroy(),
  };
}

function responseOf(message: IncomingMessage, signal: AbortSignal | undefined): HttpResponse {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(message.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  // The error of a pipeline arrives at whoever reads its end, so the callback has nothing to add.
  const stream = headers['content-encoding'] === 'gzip' ? pipeline(message, createGunzip(), () => {}) : message;
  const body = read(stream, signal);
  return {
    status: message.statusCode ?? 0,
    headers,
    body,
    async text() {
      const chunks: Uint8Array[] = [];
      for await (const chunk of body) chunks.push(chunk);
      return Buffer.concat(chunks).toString('utf8');
    },
  };
}

async function* read(stream: AsyncIterable<unknown>, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) if (chunk instanceof Uint8Array) yield chunk;
  } catch (error) {
    throw asClientError(error, signal, true);
  }
}

const TLS_CODES = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO|HOSTNAME_MISMATCH)/;

function asClientError(error: unknown, signal: AbortSignal | undefined, inBody = false): HttpClientError {
  if (error instanceof HttpClientError) return error;
  if (signal?.aborted) return new HttpClientError('aborted', 'the request was given up', error);
  const code = codeOf(error);
  const text = error instanceof Error && error.message !== '' ? error.message : code;
  if (TLS_CODES.test(code)) return new HttpClientError('tls', text, error);
  if (inBody || code === 'ECONNRESET')
    return new HttpClientError('broken', `the connection broke off (${text})`, error);
  return new HttpClientError('unreachable', text, error);
}

/** An attempt on several addresses of a name fails with an AggregateError that has no message of its own. */
function codeOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code;
  return 'unknown error';
}
