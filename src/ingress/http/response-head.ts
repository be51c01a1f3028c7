import { FIELD, FieldSection, MAX_ANSWER_HEAD, SCAN, connectionOptions, parseLength } from './fields.ts';
import { CLASS, CR, DIGIT, LF, SP, VALUE, textOf } from './octets.ts';

export type ResponseBody = 'none' | 'length' | 'chunked' | 'close';

export type ResponseRead = 'more' | 'head' | 'bad';

/**
 * A response head from a backend, read as strictly as a request: what two readers could frame differently is refused
 * (RFC 9112 sections 4 and 6). One instance per engine; good until the next read.
 */
export class ResponseHead {
  readonly fields = new FieldSection();
  readonly drop = new Uint8Array(this.fields.id.length);
  status = 0;
  minor: 0 | 1 = 1;
  body: ResponseBody = 'none';
  contentLength = 0;
  keepAlive = false;
  /** Seconds that the backend says it keeps an idle connection; 0 when it does not say. */
  keepAliveSeconds = 0;
  /** Offset behind the head. */
  end = 0;
  /** Server goes on to the client. */
  keepsServer = true;

  #lineStart = 0;
  #lineEnd = 0;

  /** `method` is that of the request: the answer to HEAD has no body whatever its fields say. */
  read(bytes: Buffer, start: number, end: number, method: string): ResponseRead {
    const line = this.#readLine(bytes, start, end);
    if (line !== 'head') return line;
    const scan = this.fields.scanFields(bytes, this.#lineEnd, end);
    switch (scan) {
      case SCAN.more:
        return end - start > MAX_ANSWER_HEAD ? 'bad' : 'more';
      case SCAN.bad:
      case SCAN.tooMany:
        return 'bad';
      case SCAN.done:
        break;
    }
    this.end = this.fields.end;
    return this.#readFields(bytes, method) ? 'head' : 'bad';
  }

  /** Status line and the fields that go on, for the client; it ends without the empty line. `HTTP/1.1` always. */
  text(bytes: Buffer): string {
    return `HTTP/1.1${textOf(bytes, this.#lineStart + 8, this.#lineEnd)}${this.fields.kept(bytes, this.drop)}`;
  }

  /** Fields of these names, in lower case, stay behind. */
  dropNamed(bytes: Buffer, names: readonly string[]): void {
    this.fields.dropNamed(bytes, names, this.drop);
  }

  /** The value of a field that goes on, by its name in lower case; several are joined. */
  value(bytes: Buffer, name: string): string | undefined {
    const { fields, drop } = this;
    let value: string | undefined;
    for (let i = 0; i < fields.count; i++) {
      if (drop[i] !== 0 || !fields.nameEquals(bytes, i, name)) continue;
      value = value === undefined ? fields.value(bytes, i) : `${value}, ${fields.value(bytes, i)}`;
    }
    return value;
  }

  /** Fields of these names (lower case) with the values that `change` has for some of them: they are taken out, and come back as lines in their order. */
  changed(
    bytes: Buffer,
    names: readonly string[],
    change: (name: string, value: string) => string | undefined,
  ): string {
    return names.map((name) => this.#changed(bytes, name, change)).join('');
  }

  #changed(bytes: Buffer, name: string, change: (name: string, value: string) => string | undefined): string {
    const { fields, drop } = this;
    const found: number[] = [];
    for (let i = 0; i < fields.count; i++) if (drop[i] === 0 && fields.nameEquals(bytes, i, name)) found.push(i);
    const values = found.map((i) => change(name, fields.value(bytes, i)));
    if (values.every((value) => value === undefined)) return '';
    for (const i of found) drop[i] = 1;
    const lineOf = (i: number, at: number): string =>
      `${textOf(bytes, fields.lineStart[i], fields.nameEnd[i])}: ${values[at] ?? fields.value(bytes, i)}\r\n`;
    return found.map(lineOf).join('');
  }

  /** Takes the Upgrade field back in: it belongs to a 101. */
  keepUpgrade(): void {
    for (let i = 0; i < this.fields.count; i++) if (this.fields.id[i] === FIELD.upgrade) this.drop[i] = 0;
  }

  #readLine(bytes: Buffer, start: number, end: number): ResponseRead {
    if (end - start < 15)
      return textOf(bytes, start, Math.min(end, start + 7)) === 'HTTP/1.'.slice(0, end - start) ? 'more' : 'bad';
    const version = textOf(bytes, start, start + 9);
    if (version === 'HTTP/1.1 ') this.minor = 1;
    else if (version === 'HTTP/1.0 ') this.minor = 0;
    else return 'bad';
    let status = 0;
    for (let i = start + 9; i < start + 12; i++) {
      const byte = bytes[i] as number;
      if (!((CLASS[byte] as number) & DIGIT)) return 'bad';
      status = status * 10 + byte - 0x30;
    }
    if (status < 100) return 'bad';
    let at = start + 12;
    // RFC 9112 section 4 wants the space even without a reason; many servers leave both out.
    if (bytes[at] !== SP && bytes[at] !== CR) return 'bad';
    while (at < end && (CLASS[bytes[at] as number] as number) & VALUE) at++;
    if (at + 1 >= end) return end - start > MAX_ANSWER_HEAD ? 'bad' : 'more';
    if (bytes[at] !== CR || bytes[at + 1] !== LF) return 'bad';
    this.status = status;
    this.#lineStart = start;
    this.#lineEnd = at + 2;
    return 'head';
  }

  #readFields(bytes: Buffer, method: string): boolean {
    const { fields, drop } = this;
    let lengths = 0;
    let encodings = 0;
    let connection = '';
    this.keepAliveSeconds = 0;
    this.contentLength = 0;
    for (let i = 0; i < fields.count; i++) {
      drop[i] = 0;
      switch (fields.id[i]) {
        case FIELD.contentLength: {
          const length = parseLength(fields.value(bytes, i));
          if (length === undefined || ++lengths > 1) return false;
          this.contentLength = length;
          break;
        }
        case FIELD.transferEncoding:
          if (++encodings > 1 || !fields.valueEquals(bytes, i, 'chunked')) return false;
          drop[i] = 1;
          break;
        case FIELD.connection:
          connection = connection === '' ? fields.value(bytes, i) : `${connection},${fields.value(bytes, i)}`;
          drop[i] = 1;
          break;
        case FIELD.keepAlive:
          this.keepAliveSeconds = Number(
            /(?:^|[,\s])timeout=([0-9]{1,6})(?:[,\s]|$)/.exec(fields.value(bytes, i))?.[1] ?? 0,
          );
          drop[i] = 1;
          break;
        case FIELD.server:
          drop[i] = this.keepsServer ? 0 : 1;
          break;
        case FIELD.hop:
        case FIELD.te:
        case FIELD.upgrade:
          drop[i] = 1;
          break;
        default:
      }
    }
    if (encodings > 0 && (lengths > 0 || this.minor === 0)) return false;
    this.#readConnection(bytes, connection);
    this.#frame(method, lengths > 0, encodings > 0);
    return true;
  }

  #readConnection(bytes: Buffer, connection: string): void {
    this.keepAlive = this.minor === 1;
    if (connection === '' || connection === 'keep-alive') return;
    const options = connectionOptions(connection);
    if (options.includes('close') || this.minor === 0) this.keepAlive = false;
    const dropped = options.filter((option) => !/^(content-length|content-type|set-cookie|location)$/.test(option));
    this.fields.dropNamed(bytes, dropped, this.drop);
  }

  /** RFC 9112 section 6.3. */
  #frame(method: string, hasLength: boolean, chunked: boolean): void {
    const { status } = this;
    if (status < 200 || status === 204) {
      this.body = 'none';
      // RFC 9110 section 8.6 forbids these; whatever follows such a head is not read as a body, so the connection ends.
      if (hasLength || chunked) {
        this.fields.dropId(FIELD.contentLength, this.drop);
        if (this.contentLength > 0 || chunked) this.keepAlive = false;
      }
    } else if (status === 304 || method === 'HEAD') this.body = 'none';
    else if (chunked) this.body = 'chunked';
    else if (hasLength) this.body = this.contentLength === 0 ? 'none' : 'length';
    else {
      this.body = 'close';
      this.keepAlive = false;
    }
  }
}
