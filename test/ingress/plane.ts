// A running Ingress plane on loopback, backends behind it and raw connections to it; all end with the test.

import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { connect, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { startIngressPlane, type IngressPlane, type IngressPlaneOptions } from '../../src/ingress/plane.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { ingress, service, snapshot } from './world.ts';
import { ip } from '../support/values.ts';

export const LOOPBACK = ip('127.0.0.1');

export async function startPlane(options: Partial<IngressPlaneOptions> = {}): Promise<IngressPlane> {
  const plane = await startIngressPlane({
    http: { address: LOOPBACK, port: 0 },
    watchIngressWithoutClass: true,
    sslRedirect: false,
    log: silentLogger,
    metrics: createMetrics(),
    tickMs: 20,
    graceMs: 500,
    ...options,
  });
  onTestFinished(() => plane.stop());
  return plane;
}

/** Sends every host and path to these endpoints. */
export function routeAll(plane: IngressPlane, ...endpoints: readonly string[]): void {
  plane.update(
    snapshot({
      ingresses: [
        ingress({ name: 'all', defaultBackend: { service: 'echo' }, annotations: { 'proxy-body-size': '0' } }),
      ],
      services: [service({ name: 'echo', endpoints })],
    }),
  );
}

export interface TestBackend {
  /** `address:port`. */
  readonly address: string;
  readonly server: Server;
  /** Requests so far. */
  readonly requests: { readonly method: string; readonly url: string; readonly headers: IncomingMessage['headers'] }[];
  /** Connections so far, and those open now. */
  readonly counts: { accepted: number; open: number };
}

/** A backend of Node's own HTTP server; without a listener it answers what it was asked. */
export async function startBackend(listener?: RequestListener): Promise<TestBackend> {
  const requests: TestBackend['requests'] = [];
  const counts = { accepted: 0, open: 0 };
  const server = createServer((request, response) => {
    requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    (listener ?? echo)(request, response);
  });
  server.on('connection', (socket) => {
    counts.accepted++;
    counts.open++;
    socket.on('close', () => counts.open--);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => void server.close(() => resolve()));
  });
  return { address: `127.0.0.1:${portOf(server)}`, server, requests, counts };
}

/** A backend of bytes: what comes up to each empty line is a head, and gets the text that `answer` gives, or none. */
export async function startRawBackend(answer: (head: string, socket: Socket) => string | undefined): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    let received = '';
    socket.on('error', () => {});
    socket.on('end', () => void socket.end());
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      for (let end = received.indexOf('\r\n\r\n'); end >= 0; end = received.indexOf('\r\n\r\n')) {
        const head = received.slice(0, end + 4);
        received = received.slice(end + 4);
        const text = answer(head, socket);
        if (text !== undefined) socket.write(text, 'latin1');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${portOf(server)}`;
}

export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function echo(request: IncomingMessage, response: ServerResponse): void {
  const body: Buffer[] = [];
  request.on('data', (chunk: Buffer) => body.push(chunk));
  request.on('end', () => {
    const text = JSON.stringify({
      method: request.method,
      url: request.url,
      headers: request.headers,
      body: Buffer.concat(body).toString('latin1'),
    });
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
    response.end(text);
  });
}

export function httpPort(plane: IngressPlane): number {
  return plane.addresses.http?.port ?? 0;
}

/** A connection of bytes. */
export interface Raw {
  readonly socket: Socket;
  /** Everything received so far. */
  text(): string;
  send(text: string): void;
  /** Waits until the received text matches; rejects when it does not in time. */
  until(pattern: RegExp): Promise<string>;
  /** Waits for the end of the connection: `end` for a clean one, `reset` for a cut. */
  ended(): Promise<'end' | 'reset'>;
}

export async function raw(port: number): Promise<Raw> {
  let received = '';
  let ended: 'end' | 'reset' | undefined;
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const call of waiting) call();
  };
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1');
    wake();
  });
  socket.on('end', () => {
    ended ??= 'end';
    wake();
  });
  socket.on('error', () => {
    ended ??= 'reset';
    wake();
  });
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const wait = <T>(what: string, check: () => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.delete(look);
        reject(new Error(`waited in vain for ${what}; received: ${JSON.stringify(received)}`));
      }, 30_000);
      const look = (): void => {
        const found = check();
        if (found === undefined) return;
        waiting.delete(look);
        clearTimeout(timer);
        resolve(found);
      };
      waiting.add(look);
      look();
    });
  return {
    socket,
    text: () => received,
    send: (text) => void socket.write(text, 'latin1'),
    until: (pattern) => wait(String(pattern), () => (pattern.test(received) ? received : undefined)),
    ended: () => wait('the end', () => ended),
  };
}

/** Sends bytes on a new connection and returns all that comes until the server ends it. */
export async function exchange(port: number, bytes: string): Promise<string> {
  const connection = await raw(port);
  connection.send(bytes);
  await connection.ended();
  return connection.text();
}
