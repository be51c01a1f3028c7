// HTTP/2 to backends (gRPC): one connection carries one request at a time, as nginx' grpc_pass does, so pools, time-outs and retries are
// those of HTTP/1.1. The exchange speaks HTTP/1.1 to it; trailers come back as those of a chunked body.

import { connect, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import type { BackendTls } from '../backend-tls.ts';
import type { Dial, UpstreamEvents, UpstreamStream } from './byte-stream.ts';
import { ChunkedDecoder, Ranges } from './chunked.ts';
import { FIELD, FieldSection, SCAN, parseLength } from './fields.ts';
import { LF, SP, textOf } from './octets.ts';

const STREAM_WINDOW = 256 * 1024;
const DROPPED = /^(?::status|connection|transfer-encoding|keep-alive|upgrade|proxy-connection)$/;

/** Dials by TLS where `tls` is given, else with prior knowledge. */
export function createHttp2Dial(tls: (() => BackendTls) | undefined): Dial {
  return (host, port, events) => new Http2Upstream(host, port, tls?.(), events);
}

class Http2Upstream implements UpstreamStream {
  readonly #events: UpstreamEvents;
  readonly #session: ClientHttp2Session;
  readonly #fields = new FieldSection();
  readonly #ranges = new Ranges();
  readonly #secure: boolean;
  #stream: ClientHttp2Stream | undefined;
  /** Of the request under way: bytes of its body that are still to come, or the reader of its chunks. */
  #left = 0;
  #decoder: ChunkedDecoder | undefined;
  #method = '';
  #closed = false;

  constructor(host: string, port: number, tls: BackendTls | undefined, events: UpstreamEvents) {
    this.#events = events;
    this.#secure = tls !== undefined;
    const name = host.includes(':') ? `[${host}]` : host;
    const options = tls?.kind === 'ready' ? { ...tls.options, ALPNProtocols: ['h2'] } : {};
    this.#session = connect(`${tls ? 'https' : 'http'}://${name}:${port}`, {
      ...options,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
    });
    this.#session.on('connect', () => {
      // The library does not look: a server without HTTP/2 would be sent its frames.
      if (this.#secure && this.#session.alpnProtocol !== 'h2') this.#session.destroy();
      else events.onConnect();
    });
    this.#session.on('error', () => {});
    this.#session.on('goaway', () => {
      if (!this.#stream) this.#session.destroy();
    });
    this.#session.on('close', () => this.#close());
    if (tls?.kind === 'bad') this.#session.destroy();
  }

  get writableNeedDrain(): boolean {
    return this.#stream?.writableNeedDrain ?? false;
  }

  get writableLength(): number {
    return this.#stream?.writableLength ?? 0;
  }

  write(data: string | Uint8Array): boolean {
    const bytes =
      typeof data === 'string' ? Buffer.from(data, 'latin1') : Buffer.from(data.buffer, data.byteOffset, data.length);
    if (this.#stream) this.#writeBody(this.#stream, bytes, 0);
    else this.#start(bytes);
    return !this.writableNeedDrain;
  }

  end(): void {
    this.destroy();
  }

  destroy(): void {
    this.#session.destroy();
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  #start(bytes: Buffer): void {
    const lineEnd = bytes.indexOf(LF) + 1;
    const [method = '', path = ''] = textOf(bytes, 0, lineEnd).split(' ', 2);
    if (
      lineEnd === 0 ||
      this.#fields.scanFields(bytes, lineEnd, bytes.length) !== SCAN.done ||
      bytes[method.length] !== SP
    ) {
      this.destroy();
      return;
    }
    const headers: OutgoingHttpHeaders = Object.create(null) as OutgoingHttpHeaders;
    Object.assign(headers, {
      ':method': method,
      ':path': path,
      ':scheme': this.#secure ? 'https' : 'http',
      te: 'trailers',
    });
    this.#method = method;
    this.#left = 0;
    this.#decoder = undefined;
    for (let i = 0; i < this.#fields.count; i++) this.#addField(headers, bytes, i);
    const endStream = this.#decoder === undefined && this.#left === 0;
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(headers, { endStream });
    } catch {
      // A field that HTTP/2 does not have.
      this.destroy();
      return;
    }
    this.#stream = stream;
    this.#listen(stream);
    if (!endStream) this.#writeBody(stream, bytes, this.#fields.end);
  }

  #addField(headers: OutgoingHttpHeaders, bytes: Buffer, i: number): void {
    const value = this.#fields.value(bytes, i);
    switch (this.#fields.id[i]) {
      case FIELD.host:
        headers[':authority'] = value;
        return;
      case FIELD.connection:
      case FIELD.upgrade:
        return;
      case FIELD.transferEncoding:
        this.#decoder = new ChunkedDecoder();
        return;
      case FIELD.contentLength:
        this.#left = parseLength(value) ?? 0;
        break;
      default:
    }
    const name = textOf(bytes, this.#fields.lineStart[i], this.#fields.nameEnd[i]).toLowerCase();
    const before = headers[name];
    headers[name] = before === undefined ? value : [...(Array.isArray(before) ? before : [String(before)]), value];
  }

  #writeBody(stream: ClientHttp2Stream, bytes: Buffer, start: number): void {
    if (start >= bytes.length) return;
    if (!this.#decoder) {
      const end = Math.min(bytes.length, start + this.#left);
      this.#left -= end - start;
      // A copy: what is given is only good during the call.
      if (end > start) stream.write(Buffer.from(bytes.subarray(start, end)));
      if (this.#left === 0) stream.end();
      return;
    }
    this.#ranges.clear();
    this.#decoder.feed(bytes, start, bytes.length, this.#ranges);
    for (let i = 0; i < this.#ranges.count; i++) {
      stream.write(Buffer.from(bytes.subarray(this.#ranges.starts[i], this.#ranges.ends[i])));
    }
    if (this.#decoder.done) stream.end();
  }

  #listen(stream: ClientHttp2Stream): void {
    let chunked = false;
    let trailers = '';
    const current = (): boolean => this.#stream === stream;
    stream.on('headers', (_headers, _flags, raw: readonly string[]) => {
      if (current()) this.#give(`${headText(raw)}\r\n`);
    });
    stream.on('response', (headers, flags, raw: readonly string[]) => {
      if (!current()) return;
      const status = Number(headers[':status']);
      const bare = this.#method === 'HEAD' || status === 204 || status === 304;
      const known = headers['content-length'] !== undefined;
      chunked = !bare && !known && (flags & 1) === 0;
      const framing = chunked ? 'Transfer-Encoding: chunked\r\n' : bare || known ? '' : 'Content-Length: 0\r\n';
      this.#give(`${headText(raw)}${framing}\r\n`);
    });
    stream.on('trailers', (_headers, _flags, raw: readonly string[]) => {
      trailers = fieldLines(raw);
    });
    stream.on('data', (chunk: Buffer) => {
      if (!current()) return;
      if (!chunked) this.#events.onData(chunk, chunk.length);
      else if (chunk.length > 0)
        this.#give(Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, CRLF]));
    });
    stream.on('end', () => {
      // A stream that was reset ends too; only a whole answer may look whole.
      if (!current() || stream.rstCode !== 0) return;
      this.#stream = undefined;
      if (chunked) this.#give(`0\r\n${trailers}\r\n`);
    });
    stream.on('drain', () => {
      if (current()) this.#events.onDrain();
    });
    stream.on('error', () => {});
    stream.on('close', () => {
      if (current() || this.#session.closed) this.#session.destroy();
    });
  }

  #give(data: string | Buffer): void {
    const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
    this.#events.onData(bytes, bytes.length);
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stream = undefined;
    this.#events.onClose();
  }
}

const CRLF = Buffer.from('\r\n');

function headText(raw: readonly string[]): string {
  const status = raw[raw.indexOf(':status') + 1] ?? '';
  return `HTTP/1.1 ${status} \r\n${fieldLines(raw)}`;
}

/** What could end a line makes the head malformed, and that is what the reader behind finds. */
function fieldLines(raw: readonly string[]): string {
  let lines = '';
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string;
    if (!DROPPED.test(name)) lines += `${name}: ${(raw[i + 1] as string).replace(/[\r\n]/g, '\0')}\r\n`;
  }
  return lines;
}
