// DNS over HTTPS (RFC 8484): GET and POST on /dns-query, over HTTP/2 and HTTP/1.1.

import { constants, createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { ipFamily } from '../lib/ip.ts';
import { KeptAnswers } from './kept-answers.ts';
import type { ListenerOptions, Side } from './listener.ts';
import { serverLabel } from './metrics.ts';
import { untilQuiet } from './quiet.ts';
import type { Answered } from './server.ts';
import { listen } from './tcp-listener.ts';
import { authOptions, contextOptions, mayStay } from './tls-setting.ts';
import { parseMessage } from './wire/message.ts';
import { MAX_MESSAGE_SIZE, RR } from './wire/types.ts';

const PATH = '/dns-query';
const MESSAGE_TYPE = 'application/dns-message';
/** A question is far smaller, with every option that there is. */
const MOST_QUERY_BYTES = 4096;
/** Questions of one connection at a time, as CoreDNS takes. */
const MOST_STREAMS = 256;
const HANDSHAKE_MS = 5000;

type Reading =
  | { readonly kind: 'query'; readonly packet: Buffer }
  | { readonly kind: 'refused'; readonly status: number; readonly why: string };

/** Rejects with a DnsListenError. */
export async function startHttpsListener(options: ListenerOptions): Promise<Side> {
  const { at, server, site, metrics, clock, maxConnections, shared } = options;
  const idleMs = site.timeouts?.idleMs ?? options.idleMs;
  let { tls } = options;
  if (!tls) throw new Error('https without a certificate');
  const sockets = new Set<TLSSocket>();
  const serverOptions = { ...contextOptions(tls), ...authOptions(tls), allowHTTP1: true };
  const settings = { maxConcurrentStreams: MOST_STREAMS };
  const https = createSecureServer(
    { ...serverOptions, settings, handshakeTimeout: HANDSHAKE_MS },
    (request, response) => {
      // One that trickles in holds nothing for longer than silence would.
      const timer = clock.after(idleMs, () => giveUp(request));
      void serve(request, response)
        .catch(() => giveUp(request))
        .finally(() => timer.cancel());
    },
  );
  https.maxConnections = maxConnections;
  https.on('secureConnection', (socket: TLSSocket) => {
    if (!tls || !mayStay(socket, tls.clientAuth)) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    // HTTP/2 sessions have their own time-out.
    if (socket.alpnProtocol !== 'h2') socket.setTimeout(idleMs, () => socket.destroy());
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  https.on('tlsClientError', (_error, socket: TLSSocket) => socket.destroy());
  https.on('sessionError', () => {});
  let draining: Promise<void> | undefined;
  https.on('session', (session) => {
    session.setTimeout(idleMs, () => session.close());
    if (draining) session.close();
  });
  const port = await listen(https, at, shared);
  const label = serverLabel({ ...at, port });
  const counters = metrics.forServer(label);
  const kept = new KeptAnswers(counters);
  const here = { transport: 'tcp', ipv6: ipFamily(at.address) === 6, address: at.address, port } as const;
  const arrival = { ...here, metrics: counters, site, kept };

  const serve = async (request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> => {
    const read = await readQuery(request);
    const { socket } = request;
    const from = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
    const answer = read.kind === 'query' ? one(await server.receive(read.packet, arrival, from)) : undefined;
    const status = read.kind === 'refused' ? read.status : answer ? 200 : 400;
    metrics.httpsAnswered(label, status);
    // Of HTTP/1.1, which has no other way to say it.
    if (draining && request.httpVersionMajor === 1) response.setHeader('connection', 'close');
    if (answer) {
      // The answer is lent, and the response may leave later.
      response.writeHead(200, { 'content-type': MESSAGE_TYPE, 'cache-control': `max-age=${freshSeconds(answer)}` });
      response.end(Buffer.from(answer));
      return;
    }
    response.writeHead(status, { 'content-type': 'text/plain', ...(status === 405 ? { allow: 'GET, POST' } : {}) });
    response.end(`${read.kind === 'refused' ? read.why : 'this is no DNS query'}\n`);
  };

  let accepted = 0;
  https.on('connection', () => accepted++);
  const drain = async (): Promise<void> => {
    await untilQuiet(() => accepted, clock);
    // Every session is told so, and closed when its streams are at their end.
    await stopAccepting();
  };
  let stopped: Promise<void> | undefined;
  const stopAccepting = (): Promise<void> => (stopped ??= new Promise((resolve) => https.close(() => resolve())));
  return {
    port,
    get connections() {
      return sockets.size;
    },
    settle: () => kept.settle(),
    secure: (setting) => {
      tls = setting;
      https.setSecureContext(contextOptions(setting));
    },
    drain: () => (draining ??= drain()),
    close: async () => {
      const accepting = stopAccepting();
      for (const socket of sockets) socket.destroy();
      await accepting;
      kept.settle();
    },
  };
}

/** A request of HTTP/2 has a stream to close, one of HTTP/1.1 its connection. */
function giveUp(request: Http2ServerRequest): void {
  const { stream } = request as Partial<Http2ServerRequest>;
  if (stream) stream.close(constants.NGHTTP2_CANCEL);
  else request.destroy();
}

/** Transfers are not for HTTPS: RFC 8484 knows one message. */
function one(answered: Answered): Buffer | undefined {
  return Buffer.isBuffer(answered) ? answered : undefined;
}

async function readQuery(request: Http2ServerRequest): Promise<Reading> {
  const url = request.url ?? '';
  const at = url.indexOf('?');
  if ((at < 0 ? url : url.slice(0, at)) !== PATH) return refused(404, `DNS is answered at ${PATH}`);
  if (request.method === 'GET') return readParameter(new URLSearchParams(at < 0 ? '' : url.slice(at + 1)));
  if (request.method !== 'POST') return refused(405, 'GET and POST are answered');
  if (request.headers['content-type'] !== MESSAGE_TYPE) return refused(415, `the body must be ${MESSAGE_TYPE}`);
  return readBody(request);
}

/** What is too long is read to its end and thrown away, so that the client hears why; the time bounds it. */
function readBody(request: Http2ServerRequest): Promise<Reading> {
  const chunks: Buffer[] = [];
  let length = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= MOST_QUERY_BYTES) chunks.push(chunk);
      else resolve(refused(413, `a query has at most ${MOST_QUERY_BYTES} bytes`));
    });
    request.on('end', () => resolve({ kind: 'query', packet: Buffer.concat(chunks) }));
    request.on('error', reject);
    request.on('close', () => reject(new Error('the request was given up')));
  });
}

/** RFC 8484 section 4.1: base64url without padding, once. The length is looked at before it is decoded (CVE-2026-32936). */
function readParameter(parameters: URLSearchParams): Reading {
  const [text, ...more] = parameters.getAll('dns');
  if (text === undefined || more.length > 0) return refused(400, 'one parameter "dns" must hold the query');
  if (text.length > (MOST_QUERY_BYTES * 4) / 3) return refused(413, `a query has at most ${MOST_QUERY_BYTES} bytes`);
  if (!/^[A-Za-z0-9_-]+={0,2}$/.test(text)) return refused(400, 'the parameter "dns" must be base64url');
  return { kind: 'query', packet: Buffer.from(text, 'base64url') };
}

function refused(status: number, why: string): Reading {
  return { kind: 'refused', status, why };
}

/** RFC 8484 section 5.1: no longer than the least TTL of the answer; without one, the negative TTL of the SOA (RFC 2308). */
function freshSeconds(packet: Buffer): number {
  const message = packet.length <= MAX_MESSAGE_SIZE ? parseMessage(packet) : undefined;
  const ttls = (message?.answer ?? []).map(({ ttl }) => ttl);
  if (ttls.length > 0) return Math.min(...ttls);
  const soa = message?.authority.find(({ type }) => type === RR.SOA);
  return soa ? Math.min(soa.ttl, Buffer.from(soa.data.slice(-4), 'latin1').readUInt32BE(0)) : 0;
}
