// An HTTPS server for small POSTed documents (admission reviews): bounded bodies, bounded time, a certificate that can be replaced.

import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HttpListenError, type HttpAnswer } from './http-server.ts';

export interface ReviewServerOptions {
  readonly address: string | undefined;
  readonly port: number;
  /** PEM. */
  readonly cert: string;
  readonly key: string;
  readonly maxBodyBytes: number;
  /** Never throws; what it gives is the answer. */
  readonly handle: (body: string) => HttpAnswer;
}

export interface ReviewServer {
  readonly address: string;
  readonly port: number;
  /** From the next handshake on. Throws when the two do not belong together. */
  setCertificate(pair: { readonly cert: string; readonly key: string }): void;
  close(): Promise<void>;
}

const TIMEOUT_MS = 10_000;

/** Rejects with HttpListenError, and with an Error of TLS when certificate or key cannot be used. */
export async function serveReviews(options: ReviewServerOptions): Promise<ReviewServer> {
  const { address, port, cert, key } = options;
  const server = createServer({ cert, key, minVersion: 'TLSv1.2' }, (request, response) =>
    answer(request, response, options),
  );
  server.requestTimeout = TIMEOUT_MS;
  server.headersTimeout = TIMEOUT_MS;
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  const bound = await new Promise<AddressInfo>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new HttpListenError(error.code ?? 'EUNKNOWN', error.message, error)),
    );
    server.listen({ port, ...(address === undefined ? {} : { host: address }) }, () => {
      server.removeAllListeners('error');
      server.on('error', () => {});
      resolve(server.address() as AddressInfo);
    });
  });
  return {
    address: bound.address,
    port: bound.port,
    setCertificate: (pair) => server.setSecureContext({ ...pair, minVersion: 'TLSv1.2' }),
    close: () => closeServer(server),
  };
}

function answer(request: IncomingMessage, response: ServerResponse, options: ReviewServerOptions): void {
  if (request.method !== 'POST') {
    finish(response, { status: 405, contentType: 'text/plain', body: 'only POST\n' });
    return;
  }
  const chunks: Buffer[] = [];
  let size = 0;
  let refused = false;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (refused) return;
    if (size <= options.maxBodyBytes) chunks.push(chunk);
    else {
      refused = true;
      chunks.length = 0;
      response.setHeader('Connection', 'close');
      finish(response, {
        status: 413,
        contentType: 'text/plain',
        body: `the body is larger than ${options.maxBodyBytes} bytes\n`,
      });
      response.once('finish', () => request.destroy());
    }
  });
  request.on('error', () => {});
  request.on('end', () => {
    if (!refused) finish(response, options.handle(Buffer.concat(chunks).toString('utf8')));
  });
}

function finish(response: ServerResponse, reply: HttpAnswer): void {
  const body = Buffer.from(reply.body);
  response.writeHead(reply.status, { 'Content-Type': reply.contentType, 'Content-Length': body.length });
  response.end(body);
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
