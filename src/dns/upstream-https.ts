// An upstream server that is asked over HTTPS (RFC 8484), by one connection that is kept.

import type { ClientHttp2Session, connect as connectHttp2, constants as http2Constants } from 'node:http2';
import { hostPort } from '../lib/ip.ts';
import type { Timer } from '../system/clock.ts';
import type { LinkOptions, UpstreamLink } from './upstream-link.ts';
import { answers, type Exchange } from './upstream.ts';
import { isWhole } from './wire/message.ts';
import { MAX_MESSAGE_SIZE } from './wire/types.ts';

const PATH = '/dns-query';
const MEDIA_TYPE = 'application/dns-message';

export class HttpsLink implements UpstreamLink {
  readonly #options: LinkOptions;
  #session: ClientHttp2Session | undefined;
  #bornAt = 0;
  #expiry: Timer | undefined;
  #streams = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
    options.stopped.addEventListener('abort', () => {
      this.#expiry?.cancel();
      this.#session?.destroy();
    });
  }

  async ask(packet: Buffer, _transport: 'udp' | 'tcp', timeoutMs: number): Promise<Exchange> {
    const { clock, stopped } = this.#options;
    // Loaded where it is used: HTTP/2 costs 5 MB in each thread.
    const { connect, constants } = await import('node:http2');
    if (stopped.aborted) return { kind: 'failed', code: 'ABORTED' };
    const session = this.#open(connect);
    this.#streams++;
    return new Promise((resolve) => {
      // The id is 0 for the sake of HTTP caches (RFC 8484 section 4.1), and set again in what comes back.
      const body = Buffer.from(packet);
      body.writeUInt16BE(0, 0);
      const { method, headers } = this.#request(body, constants);
      const stream = session.request(headers, { endStream: method === 'GET' });
      const chunks: Buffer[] = [];
      let size = 0;
      let status = 0;
      const done = (result: Exchange): void => {
        timer.cancel();
        stopped.removeEventListener('abort', abort);
        session.off('close', closed);
        this.#release();
        stream.destroy();
        resolve(result);
      };
      const fail = (code: string): void => done({ kind: 'failed', code });
      const abort = (): void => fail('ABORTED');
      const closed = (): void => fail('CLOSED');
      const timer = clock.after(timeoutMs, () => fail('TIMEOUT'));
      stopped.addEventListener('abort', abort, { once: true });
      session.once('close', closed);
      stream.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? 'CLOSED'));
      stream.on('response', (head) => {
        status = Number(head[constants.HTTP2_HEADER_STATUS]);
      });
      stream.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_MESSAGE_SIZE) fail('BAD_REPLY');
      });
      stream.on('end', () => {
        const reply = Buffer.concat(chunks);
        if (status !== 200) fail(`HTTP_${status}`);
        else if (reply.length < 2) fail('BAD_REPLY');
        else {
          packet.copy(reply, 0, 0, 2);
          if (answers(reply, packet) && isWhole(reply)) done({ kind: 'reply', packet: reply });
          else fail('BAD_REPLY');
        }
      });
      if (method === 'POST') stream.end(body);
    });
  }

  #request(body: Buffer, constants: typeof http2Constants) {
    const { server, dohMethod: method } = this.#options;
    const path = method === 'GET' ? `${PATH}?dns=${body.toString('base64url')}` : PATH;
    const headers = {
      [constants.HTTP2_HEADER_METHOD]: method,
      [constants.HTTP2_HEADER_PATH]: path,
      [constants.HTTP2_HEADER_AUTHORITY]: server.serverName ?? hostPort(server.address, server.port),
      accept: MEDIA_TYPE,
      ...(method === 'POST' ? { 'content-type': MEDIA_TYPE, 'content-length': String(body.length) } : {}),
    };
    return { method, headers };
  }

  #open(connect: typeof connectHttp2): ClientHttp2Session {
    const { server, source, tls, clock, maxAgeMs, onReuse } = this.#options;
    this.#expiry?.cancel();
    const old = this.#session;
    const tooOld = maxAgeMs > 0 && clock.monotonic() - this.#bornAt >= maxAgeMs;
    if (old && !old.closed && !old.destroyed && !tooOld) {
      onReuse(true, 'tcp-tls');
      return old;
    }
    // What is under way on it ends in its own time.
    old?.close();
    onReuse(false, 'tcp-tls');
    const session = connect(`https://${hostPort(server.address, server.port)}`, {
      ...tls,
      ...(server.serverName === undefined ? {} : { servername: server.serverName }),
      ...(source === undefined ? {} : { localAddress: source }),
      minVersion: 'TLSv1.2',
    });
    // Each question hears of it by its own stream.
    session.on('error', () => {});
    session.on('goaway', () => session.close());
    this.#session = session;
    this.#bornAt = clock.monotonic();
    return session;
  }

  /** A connection on which nothing is asked any more is closed after a while. */
  #release(): void {
    const { clock, expireMs } = this.#options;
    this.#streams--;
    if (this.#streams > 0) return;
    this.#expiry?.cancel();
    this.#expiry = clock.after(expireMs, () => this.#session?.close());
  }
}
