// Small HTTP servers whose speed does not matter: metrics, health, the status page. The Ingress data path has its own.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HttpRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
}

export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface HttpServer {
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

export type HttpHandler = (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>;

/** A listener that could not be opened. `code` is the system's: EADDRINUSE, EACCES, EADDRNOTAVAIL. */
export class HttpListenError extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** Listens and answers; rejects with HttpListenError. `ipv6Only`: `::` leaves IPv4 alone. The promise resolves when the socket is open. */
export function serveHttp(
  address: string,
  port: number,
  handler: HttpHandler,
  options: { readonly ipv6Only?: boolean } = {},
): Promise<HttpServer> {
  const server = createServer((request, response) => void answer(request, response, handler));
  server.requestTimeout = 10_000;
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new HttpListenError(error.code ?? 'EUNKNOWN', error.message, error));
    });
    server.listen({ port, host: address, ipv6Only: options.ipv6Only ?? false }, () => {
      const bound = server.address() as AddressInfo;
      resolve({ address: bound.address, port: bound.port, close: () => closeServer(server) });
    });
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, handler: HttpHandler): Promise<void> {
  const [path = '/', ...query] = (request.url ?? '/').split('?');
  let reply: HttpAnswer;
  try {
    reply = await handler({ method: request.method ?? 'GET', path, query: new URLSearchParams(query.join('?')) });
  } catch (error) {
    reply = { status: 500, contentType: 'text/plain; charset=utf-8', body: `${String(error)}\n` };
  }
  const body = Buffer.from(reply.body);
  response.writeHead(reply.status, {
    'Content-Type': reply.contentType,
    'Content-Length': body.length,
    'X-Content-Type-Options': 'nosniff',
    ...reply.headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
