import { normalisePath } from '../path.ts';
import { FIELD, FieldSection, SCAN, connectionOptions, isTwin, parseLength } from './fields.ts';
import { DEFAULT_RULES, type MessageRules } from './message-rules.ts';
import { CLASS, CR, HOST, LF, SP, SPECIAL, TARGET, TOKEN, DIGIT, textOf } from './octets.ts';

const MAX_METHOD = 32;
const SLASH = 0x2f;
const DOT = 0x2e;
const QUESTION = 0x3f;

export type RequestBody = 'none' | 'length' | 'chunked';

/** Why a request is refused: always an answer and the end of the connection. */
export interface Refusal {
  readonly status: 400 | 405 | 414 | 417 | 431 | 501 | 505;
  readonly reason: string;
}

export type ReadResult =
  | { readonly kind: 'more' }
  | { readonly kind: 'head' }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

const MORE: ReadResult = { kind: 'more' };
const HEAD: ReadResult = { kind: 'head' };

/** Names that a Connection field must not take out of a request: the backend would see another request than we did. */
const PROTECTED =
  /^(host|content-length|transfer-encoding|authorization|cookie|x-forwarded-.*|forwarded|x-real-ip|x-request-id|x-scheme|x-original-.*)$/;

/**
 * A request head, read strictly (RFC 9112, and the checks that Node's parser and nginx leave out). One instance per
 * engine: its fields describe the last head read, until the next is read.
 */
export class RequestHead {
  readonly fields = new FieldSection();
  readonly drop = new Uint8Array(this.fields.id.length);
  method = '';
  /** Normal form, without the query; `*` for OPTIONS. */
  path = '';
  /** With its `?`, or empty. */
  query = '';
  /** As the client gave it, with a port. */
  host = '';
  minor: 0 | 1 = 1;
  body: RequestBody = 'none';
  contentLength = 0;
  keepAlive = true;
  expectContinue = false;
  /** The protocol asked for with `Connection: upgrade`, without h2c; the field itself stays in the head. */
  upgrade = false;
  /** The client takes trailer fields (`TE: trailers`). */
  trailers = false;
  requestId = '';
  forwardedFor = '';
  forwardedHost = '';
  rules: MessageRules = DEFAULT_RULES;
  /** Offset behind the head. */
  end = 0;

  #bytes: Buffer = Buffer.alloc(0);
  #lineEnd = 0;
  #targetStart = 0;
  #targetEnd = 0;

  /** Reads a head from `bytes` at `start`; `secure` is whether it came over TLS. */
  read(bytes: Buffer, start: number, end: number, secure: boolean): ReadResult {
    // RFC 9112 section 2.2: one empty line before a request line is forgiven, for clients that send one after a body.
    if (bytes[start] === CR && end - start === 1) return MORE;
    const from = bytes[start] === CR && bytes[start + 1] === LF ? start + 2 : start;
    const line = this.#readLine(bytes, from, end);
    if (line !== HEAD)
      return line === MORE && end - from > this.rules.maxLine ? refused(414, 'the request line is too long') : line;
    const scan = this.fields.scanFields(bytes, this.#lineEnd, end);
    switch (scan) {
      case SCAN.more:
        return end - from > this.rules.maxHead ? refused(431, 'the header fields are too large') : MORE;
      case SCAN.bad:
        return refused(400, 'a header field is malformed');
      case SCAN.tooMany:
        return refused(431, 'there are too many header fields');
      case SCAN.done:
        break;
    }
    if (this.fields.end - from > this.rules.maxHead) return refused(431, 'the header fields are too large');
    this.end = this.fields.end;
    this.#bytes = bytes;
    return this.#readFields(bytes) ?? this.#readTarget(bytes, secure) ?? HEAD;
  }

  /** The lines of the fields that go on to the backend. */
  kept(): string {
    return this.fields.kept(this.#bytes, this.drop);
  }

  /** The value of a field by its name in lower case; several are joined. */
  header(name: string): string | undefined {
    const values: string[] = [];
    for (let i = 0; i < this.fields.count; i++) {
      if (this.fields.odd[i] === 0 && this.fields.nameEquals(this.#bytes, i, name))
        values.push(this.fields.value(this.#bytes, i));
    }
    return values.length > 0 ? values.join(name === 'cookie' ? '; ' : ', ') : undefined;
  }

  /** Fields of these names, in lower case, stay behind. */
  dropNamed(names: readonly string[]): void {
    if (names.length > 0) this.fields.dropNamed(this.#bytes, names, this.drop);
  }

  #readLine(bytes: Buffer, start: number, end: number): ReadResult {
    let at = start;
    while (at < end && (CLASS[bytes[at] as number] as number) & TOKEN) at++;
    const methodEnd = at;
    if (methodEnd - start > MAX_METHOD) return refused(400, 'the method is too long');
    if (at >= end) return MORE;
    if (bytes[at] !== SP || at === start) return refused(400, 'the request line is malformed');
    at++;
    this.#targetStart = at;
    while (at < end && (CLASS[bytes[at] as number] as number) & TARGET) at++;
    this.#targetEnd = at;
    if (at - start > this.rules.maxLine) return refused(414, 'the request line is too long');
    if (at >= end) return MORE;
    if (at === this.#targetStart) return refused(400, 'the request line is malformed');
    if (bytes[at] === CR || bytes[at] === LF) return refused(505, 'HTTP/0.9 is not supported');
    if (bytes[at] !== SP) return refused(400, 'the request target has a character that does not belong there');
    if (end - at < 11)
      return bytes.indexOf(LF, at) >= 0 && bytes.indexOf(LF, at) < end
        ? refused(400, 'the request line is malformed')
        : MORE;
    const version = textOf(bytes, at + 1, at + 9);
    if (version === 'HTTP/1.1') this.minor = 1;
    else if (version === 'HTTP/1.0') this.minor = 0;
    else if (/^HTTP\/[0-9]\.[0-9]$/.test(version)) return refused(505, 'only HTTP/1.1 and HTTP/1.0 are supported');
    else return refused(400, 'the protocol version is malformed');
    if (bytes[at + 9] !== CR || bytes[at + 10] !== LF) return refused(400, 'the request line is malformed');
    this.#lineEnd = at + 11;
    this.method = methodText(bytes, start, methodEnd);
    return HEAD;
  }

  /** Undefined when all is well. */
  #readFields(bytes: Buffer): ReadResult | undefined {
    const { fields, drop } = this;
    let hosts = 0;
    let lengths = 0;
    let encodings = 0;
    let singles = 0;
    let upgradeAt = -1;
    let connection = '';
    this.body = 'none';
    this.contentLength = 0;
    this.expectContinue = false;
    this.upgrade = false;
    this.trailers = false;
    this.requestId = '';
    this.forwardedFor = '';
    this.forwardedHost = '';
    for (let i = 0; i < fields.count; i++) {
      drop[i] = fields.odd[i] !== 0 && !this.#passesOn(bytes, i) ? 1 : 0;
      switch (fields.id[i]) {
        case FIELD.other:
        case FIELD.server:
          break;
        case FIELD.host:
          if (++hosts > 1) return refused(400, 'there is more than one Host');
          this.host = fields.value(bytes, i);
          drop[i] = 1;
          break;
        case FIELD.contentLength: {
          const length = parseLength(fields.value(bytes, i));
          if (length === undefined || ++lengths > 1) return refused(400, 'Content-Length is malformed');
          this.contentLength = length;
          drop[i] = 1;
          break;
        }
        case FIELD.transferEncoding:
          if (++encodings > 1) return refused(400, 'there is more than one Transfer-Encoding');
          if (!fields.valueEquals(bytes, i, 'chunked')) return refusedEncoding(fields.value(bytes, i));
          drop[i] = 1;
          break;
        case FIELD.connection:
          connection = connection === '' ? fields.value(bytes, i) : `${connection},${fields.value(bytes, i)}`;
          drop[i] = 1;
          break;
        case FIELD.expect:
          if (this.minor === 1 && !fields.valueEquals(bytes, i, '100-continue'))
            return refused(417, 'only 100-continue can be expected');
          this.expectContinue = this.minor === 1;
          drop[i] = 1;
          break;
        case FIELD.te:
          this.trailers = fields.valueEquals(bytes, i, 'trailers');
          drop[i] = 1;
          break;
        case FIELD.upgrade:
          upgradeAt = upgradeAt < 0 ? i : fields.count;
          drop[i] = 1;
          break;
        case FIELD.contentType:
        case FIELD.authorization: {
          const bit = 1 << (fields.id[i] as number);
          if (singles & bit) return refused(400, 'a header field that must stand once is there twice');
          singles |= bit;
          break;
        }
        case FIELD.forwardedFor:
          this.forwardedFor =
            this.forwardedFor === '' ? fields.value(bytes, i) : `${this.forwardedFor}, ${fields.value(bytes, i)}`;
          drop[i] = 1;
          break;
        case FIELD.forwardedHost:
          this.forwardedHost =
            this.forwardedHost === '' ? fields.value(bytes, i) : `${this.forwardedHost}, ${fields.value(bytes, i)}`;
          drop[i] = 1;
          break;
        case FIELD.requestId:
          this.requestId = fields.value(bytes, i);
          drop[i] = 1;
          break;
        default:
          drop[i] = 1;
      }
    }
    if (hosts === 0) return refused(400, 'there is no Host');
    if (encodings > 0) {
      if (lengths > 0) return refused(400, 'Content-Length and Transfer-Encoding stand together');
      if (this.minor === 0) return refused(400, 'HTTP/1.0 has no Transfer-Encoding');
      this.body = 'chunked';
    } else if (lengths > 0) {
      this.body = 'length';
    }
    return this.#readConnection(bytes, connection, upgradeAt);
  }

  /** A field with an odd name, where the configuration lets it through. */
  #passesOn(bytes: Buffer, index: number): boolean {
    const { underscores, oddNames } = this.rules;
    if (!underscores && !oddNames) return false;
    const name = textOf(bytes, this.fields.lineStart[index], this.fields.nameEnd[index]);
    return (oddNames || /^[A-Za-z0-9_-]+$/.test(name)) && !isTwin(name);
  }

  #readConnection(bytes: Buffer, connection: string, upgradeAt: number): ReadResult | undefined {
    this.keepAlive = this.minor === 1;
    if (connection === '' || connection === 'keep-alive') {
      if (connection !== '') this.keepAlive = true;
      return undefined;
    }
    const options = connectionOptions(connection);
    if (options.some((option) => PROTECTED.test(option))) {
      return refused(400, 'Connection names a header field that must not be taken out');
    }
    if (options.includes('keep-alive')) this.keepAlive = true;
    if (options.includes('close')) this.keepAlive = false;
    this.fields.dropNamed(bytes, options, this.drop);
    if (options.includes('upgrade') && upgradeAt >= 0 && upgradeAt < this.fields.count) {
      const protocol = this.fields.value(bytes, upgradeAt).toLowerCase();
      // A backend that speaks h2c would open a tunnel past every rule (RFC 9113 took the mechanism out).
      this.upgrade =
        this.minor === 1 && this.body === 'none' && /^[a-z0-9\-._/]+$/.test(protocol) && !protocol.startsWith('h2c');
      if (this.upgrade) this.drop[upgradeAt] = 0;
    }
    return undefined;
  }

  #readTarget(bytes: Buffer, secure: boolean): ReadResult | undefined {
    if (!isUriHost(this.host)) return refused(400, 'Host is malformed');
    if (this.method === 'CONNECT' || this.method === 'TRACE') return refused(405, `${this.method} is not allowed here`);
    let start = this.#targetStart;
    if (bytes[start] !== SLASH) {
      const target = textOf(bytes, start, this.#targetEnd);
      if (target === '*' && this.method === 'OPTIONS') {
        this.path = '*';
        this.query = '';
        return undefined;
      }
      const absolute = /^(https?):\/\/([^/?\\]*)/i.exec(target);
      if (!absolute) return refused(400, 'the request target is malformed');
      const scheme = (absolute[1] ?? '').toLowerCase();
      if ((scheme === 'https') !== secure)
        return refused(400, 'the scheme of the request target is not that of the connection');
      if (withoutDefaultPort(absolute[2] ?? '', scheme) !== withoutDefaultPort(this.host, scheme)) {
        return refused(400, 'Host differs from the request target');
      }
      start += absolute[0].length;
    }
    return this.#readPath(bytes, start);
  }

  #readPath(bytes: Buffer, start: number): ReadResult | undefined {
    const end = this.#targetEnd;
    let at = start;
    let special = 0;
    let previous = 0;
    for (; at < end; at++) {
      const byte = bytes[at] as number;
      if (byte === QUESTION) break;
      special |= (CLASS[byte] as number) & SPECIAL;
      if (previous === SLASH && (byte === SLASH || byte === DOT)) special |= SPECIAL;
      previous = byte;
    }
    const raw = textOf(bytes, start, at);
    this.query = at < end ? textOf(bytes, at, end) : '';
    if (raw === '') this.path = '/';
    else if (special === 0) this.path = raw;
    else {
      const normal = raw.includes('\\') ? undefined : normalisePath(raw);
      if (normal === undefined) return refused(400, 'the path is malformed');
      this.path = normal;
    }
    return undefined;
  }
}

function refused(status: Refusal['status'], reason: string): ReadResult {
  return { kind: 'refused', refusal: { status, reason } };
}

/** A list of codings that we do not decode is 501 (RFC 9112 section 6.1); what is no such list is malformed. */
function refusedEncoding(value: string): ReadResult {
  const codings = value
    .toLowerCase()
    .split(',')
    .map((part) => part.trim());
  const wellFormed =
    codings.every((coding) => /^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(coding)) && codings.at(-1) === 'chunked';
  return wellFormed && codings.filter((coding) => coding === 'chunked').length === 1
    ? refused(501, 'only the transfer coding chunked is supported')
    : refused(400, 'Transfer-Encoding is malformed');
}

const COMMON_METHODS = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'];

function methodText(bytes: Buffer, start: number, end: number): string {
  for (const method of COMMON_METHODS) {
    if (method.length !== end - start || bytes[start] !== method.charCodeAt(0)) continue;
    let i = 1;
    while (i < method.length && bytes[start + i] === method.charCodeAt(i)) i++;
    if (i === method.length) return method;
  }
  return textOf(bytes, start, end);
}

/** RFC 9110 section 7.2: uri-host and port; without userinfo, escapes and sub-delimiters, which no host name has. */
export function isUriHost(host: string): boolean {
  let at = 0;
  if (host.startsWith('[')) {
    const bracket = /^\[[0-9A-Fa-f:.]+\]/.exec(host);
    if (!bracket) return false;
    at = bracket[0].length;
  } else {
    let label = 0;
    for (; at < host.length; at++) {
      const code = host.charCodeAt(at);
      if (code > 0xff || !((CLASS[code] as number) & HOST)) break;
      if (code !== DOT) label++;
      else if (label === 0) return false;
      else label = 0;
    }
    if (at === 0) return false;
  }
  if (at === host.length) return true;
  if (host.charCodeAt(at) !== 0x3a || host.length - at > 6) return false;
  for (let i = at + 1; i < host.length; i++) {
    const code = host.charCodeAt(i);
    if (code > 0xff || !((CLASS[code] as number) & DIGIT)) return false;
  }
  return true;
}

function withoutDefaultPort(host: string, scheme: string): string {
  const lower = host.toLowerCase();
  return lower.replace(scheme === 'https' ? /:(443)?$/ : /:(80)?$/, '');
}
