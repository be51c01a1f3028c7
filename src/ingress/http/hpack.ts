// HPACK (RFC 7541): field blocks read strictly, and fields written without an index of our own.

import { huffmanText } from './huffman.ts';
import { textOf } from './octets.ts';

/** What a name means for the reader of requests; told once for a field that is kept in a table. */
export const FIELD_KIND = {
  plain: 0,
  method: 1,
  path: 2,
  scheme: 3,
  authority: 4,
  protocol: 5,
  cookie: 6,
  host: 7,
  contentLength: 8,
  te: 9,
  /** RFC 9113 section 8.2.2: it speaks of a connection, which a request of HTTP/2 must not. */
  connection: 10,
  malformed: 11,
} as const;

const KINDS: ReadonlyMap<string, number> = new Map([
  [':method', FIELD_KIND.method],
  [':path', FIELD_KIND.path],
  [':scheme', FIELD_KIND.scheme],
  [':authority', FIELD_KIND.authority],
  [':protocol', FIELD_KIND.protocol],
  ['cookie', FIELD_KIND.cookie],
  ['host', FIELD_KIND.host],
  ['content-length', FIELD_KIND.contentLength],
  ['te', FIELD_KIND.te],
  ...['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'http2-settings'].map(
    (name): [string, number] => [name, FIELD_KIND.connection],
  ),
]);

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;

/** One field of a request. */
export class HeaderField {
  readonly name: string;
  readonly value: string;
  readonly kind: number;
  #line: string | undefined;

  /** `kind`: of another field of this name. */
  constructor(name: string, value: string, kind: number = kindOf(name)) {
    this.name = name;
    this.value = value;
    // RFC 9113 section 8.2.1: a value has no space or tab at its ends.
    this.kind =
      isSpace(value.charCodeAt(0)) || isSpace(value.charCodeAt(value.length - 1)) ? FIELD_KIND.malformed : kind;
  }

  /** As a line of HTTP/1.1; what stands in the value is not looked at. */
  get line(): string {
    this.#line ??= `${this.name}: ${this.value}\r\n`;
    return this.#line;
  }

  /** RFC 7541 section 4.1. */
  get size(): number {
    return this.name.length + this.value.length + 32;
  }
}

function kindOf(name: string): number {
  return KINDS.get(name) ?? (NAME.test(name) ? FIELD_KIND.plain : FIELD_KIND.malformed);
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** RFC 7541 appendix A, from index 1 on; a name alone has no value. */
const STATIC: readonly HeaderField[] = (
  ':authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|' +
  ':status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|' +
  'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
  'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
  'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
  'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
  'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate'
)
  .split('|')
  .map((entry) => {
    const [name = '', value = ''] = entry.split('=');
    return new HeaderField(name, value);
  });

/** SETTINGS_HEADER_TABLE_SIZE that we leave as it is. */
const TABLE_SIZE = 4096;

/** How a block was read. After `bad` nothing that follows on the connection can be understood. */
export type BlockRead = 'read' | 'too-large' | 'bad';

/** The fields that the blocks of one connection hold. */
export class HpackDecoder {
  /** The newest is the last. */
  readonly #table: HeaderField[] = [];
  #size = 0;
  #maxSize = TABLE_SIZE;
  #at = 0;
  #failed = false;

  /** Reads one whole block into `fields`; what is more than `maxFields` or `maxBytes` is read but not kept. */
  read(
    bytes: Buffer,
    start: number,
    end: number,
    fields: HeaderField[],
    maxFields: number,
    maxBytes: number,
  ): BlockRead {
    this.#at = start;
    this.#failed = false;
    fields.length = 0;
    let size = 0;
    let tooLarge = false;
    while (this.#at < end) {
      const first = bytes[this.#at] as number;
      if ((first & 0xe0) === 0x20) {
        // RFC 7541 section 4.2: only in front of the fields.
        if (fields.length > 0 || tooLarge) return 'bad';
        const asked = this.#integer(bytes, end, 5);
        if (this.#failed || asked > TABLE_SIZE) return 'bad';
        this.#maxSize = asked;
        this.#evict(0);
        continue;
      }
      const field = this.#field(bytes, end, first);
      if (!field) return 'bad';
      size += field.size;
      if (fields.length >= maxFields || size > maxBytes) tooLarge = true;
      else fields.push(field);
    }
    return tooLarge ? 'too-large' : 'read';
  }

  #field(bytes: Buffer, end: number, first: number): HeaderField | undefined {
    if (first & 0x80) {
      const index = this.#integer(bytes, end, 7);
      return this.#failed ? undefined : this.#entry(index);
    }
    const indexed = (first & 0x40) !== 0;
    const index = this.#integer(bytes, end, indexed ? 6 : 4);
    if (this.#failed) return undefined;
    const named = index > 0 ? this.#entry(index) : undefined;
    if (index > 0 && !named) return undefined;
    const name = named ? named.name : this.#text(bytes, end);
    const value = this.#text(bytes, end);
    if (name === undefined || value === undefined) return undefined;
    const field = new HeaderField(name, value);
    if (indexed) this.#keep(field);
    return field;
  }

  #entry(index: number): HeaderField | undefined {
    return index <= STATIC.length ? STATIC[index - 1] : this.#table[this.#table.length - (index - STATIC.length)];
  }

  #keep(field: HeaderField): void {
    this.#evict(field.size);
    if (field.size > this.#maxSize) return;
    this.#table.push(field);
    this.#size += field.size;
  }

  /** Until there is room for so many bytes. */
  #evict(room: number): void {
    while (this.#size + room > this.#maxSize) {
      const oldest = this.#table.shift();
      if (!oldest) break;
      this.#size -= oldest.size;
    }
  }

  /** RFC 7541 section 5.1; what does not fit into 28 bits is no length and no index. */
  #integer(bytes: Buffer, end: number, prefix: number): number {
    const mask = (1 << prefix) - 1;
    let value = (bytes[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.#at >= end) break;
      const byte = bytes[this.#at++] as number;
      value += (byte & 0x7f) << shift;
      if (!(byte & 0x80)) return value;
    }
    this.#failed = true;
    return 0;
  }

  #text(bytes: Buffer, end: number): string | undefined {
    if (this.#at >= end) return undefined;
    const huffman = ((bytes[this.#at] as number) & 0x80) !== 0;
    const length = this.#integer(bytes, end, 7);
    const start = this.#at;
    if (this.#failed || length > end - start) return undefined;
    this.#at = start + length;
    return huffman ? huffmanText(bytes, start, this.#at) : textOf(bytes, start, this.#at);
  }
}

/** Statuses with an index of their own in the static table. */
const STATUS_INDEX: ReadonlyMap<number, number> = new Map([
  [200, 8],
  [204, 9],
  [206, 10],
  [304, 11],
  [400, 12],
  [404, 13],
  [500, 14],
]);

/** A field block on its way out: literals without index and without Huffman, which costs least to make. */
export class FieldBlock {
  bytes: Buffer = Buffer.allocUnsafe(16 * 1024);
  length = 0;

  clear(): void {
    this.length = 0;
  }

  /** For a client whose table is smaller than what we may use: we use none of it (RFC 7541 section 4.2). */
  forgetTable(): void {
    this.#room(1);
    this.bytes[this.length++] = 0x20;
  }

  status(status: number): void {
    this.#room(8);
    const index = STATUS_INDEX.get(status);
    if (index !== undefined) {
      this.bytes[this.length++] = 0x80 | index;
      return;
    }
    this.bytes[this.length++] = 0x08;
    this.bytes[this.length++] = 3;
    this.length += this.bytes.write(String(status), this.length, 'latin1');
  }

  /** The name is made lower case; `source` may be anything but this block. */
  fieldOf(source: Buffer, start: number, nameEnd: number, valueStart: number, valueEnd: number): void {
    const { bytes } = this.#room(nameEnd - start + valueEnd - valueStart + 12);
    bytes[this.length++] = 0;
    this.#size(nameEnd - start);
    let at = this.length;
    for (let i = start; i < nameEnd; i++) {
      const byte = source[i] as number;
      bytes[at++] = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
    }
    this.length = at;
    this.#size(valueEnd - valueStart);
    this.length += source.copy(bytes, this.length, valueStart, valueEnd);
  }

  /** Lines of HTTP/1.1, each with its end. */
  lines(text: string): void {
    for (let start = 0; start < text.length;) {
      const lineEnd = text.indexOf('\r\n', start);
      const end = lineEnd < 0 ? text.length : lineEnd;
      const colon = text.indexOf(':', start);
      if (colon > start && colon < end)
        this.field(text.slice(start, colon).toLowerCase(), text.slice(colon + 1, end).trim());
      start = end + 2;
    }
  }

  /** One character a byte. */
  field(name: string, value: string): void {
    const { bytes } = this.#room(name.length + value.length + 12);
    bytes[this.length++] = 0;
    this.#size(name.length);
    this.length += bytes.write(name, this.length, 'latin1');
    this.#size(value.length);
    this.length += bytes.write(value, this.length, 'latin1');
  }

  #size(size: number): void {
    const { bytes } = this;
    if (size < 127) {
      bytes[this.length++] = size;
      return;
    }
    bytes[this.length++] = 127;
    let rest = size - 127;
    for (; rest > 127; rest >>>= 7) bytes[this.length++] = 0x80 | (rest & 0x7f);
    bytes[this.length++] = rest;
  }

  #room(bytes: number): this {
    if (this.length + bytes <= this.bytes.length) return this;
    const larger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + bytes));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
    return this;
  }
}
