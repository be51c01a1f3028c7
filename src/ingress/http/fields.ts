import { CLASS, COLON, CR, HTAB, LF, PLAIN_NAME, SP, TOKEN, VALUE, equalsIgnoringCase, textOf } from './octets.ts';

/** The field names that the engine itself acts on; every other is passed on unread. */
export const FIELD = {
  other: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  expect: 5,
  upgrade: 6,
  forwardedFor: 7,
  requestId: 8,
  /** Singletons of which a second would be read differently by different servers. */
  contentType: 9,
  authorization: 10,
  keepAlive: 11,
  /** Goes no further than this hop: RFC 9110 section 7.6.1 and those that clients must not set. */
  hop: 12,
  /** Forwarding fields, which are made anew here. */
  forwarding: 13,
  te: 14,
  server: 15,
  forwardedHost: 16,
} as const;

const KNOWN: readonly (readonly [string, number])[] = [
  ['host', FIELD.host],
  ['content-length', FIELD.contentLength],
  ['transfer-encoding', FIELD.transferEncoding],
  ['connection', FIELD.connection],
  ['expect', FIELD.expect],
  ['upgrade', FIELD.upgrade],
  ['x-forwarded-for', FIELD.forwardedFor],
  ['x-request-id', FIELD.requestId],
  ['content-type', FIELD.contentType],
  ['authorization', FIELD.authorization],
  ['keep-alive', FIELD.keepAlive],
  ['proxy-connection', FIELD.hop],
  ['proxy-authorization', FIELD.hop],
  ['proxy-authenticate', FIELD.hop],
  ['te', FIELD.te],
  ['server', FIELD.server],
  ['trailer', FIELD.hop],
  // CGI programs read this one as HTTP_PROXY (CVE-2016-5385).
  ['proxy', FIELD.hop],
  ['http2-settings', FIELD.hop],
  ['forwarded', FIELD.forwarding],
  ['x-forwarded-host', FIELD.forwardedHost],
  ['x-forwarded-port', FIELD.forwarding],
  ['x-forwarded-proto', FIELD.forwarding],
  ['x-forwarded-scheme', FIELD.forwarding],
  ['x-forwarded-server', FIELD.forwarding],
  ['x-forwarded-prefix', FIELD.forwarding],
  ['x-forwarded-ssl', FIELD.forwarding],
  ['x-forwarded-by', FIELD.forwarding],
  ['x-forwarded-protocol', FIELD.forwarding],
  ['x-original-forwarded-for', FIELD.forwarding],
  ['x-original-forwarded-host', FIELD.forwarding],
  ['x-scheme', FIELD.forwarding],
  ['x-real-ip', FIELD.forwarding],
];

const BY_LENGTH: readonly (readonly (readonly [string, number])[])[] = Array.from({ length: 32 }, (_, length) =>
  KNOWN.filter(([name]) => name.length === length),
);

export const MAX_FIELDS = 128;
/** Bytes of the head of an answer: people raise `proxy-buffer-size` for large cookies, and here nothing has to be raised. */
export const MAX_ANSWER_HEAD = 256 * 1024;

/** What a scan of the field section found. */
export const SCAN = { more: 0, done: 1, bad: 2, tooMany: 3 } as const;
export type Scan = (typeof SCAN)[keyof typeof SCAN];

/**
 * The field section of a head (RFC 9112 section 5), scanned in one pass into offsets. One instance is used again and
 * again: what it found is good until the next scan. Strict: CRLF only, no folding, no space before the colon, no control
 * bytes, names of token characters.
 */
export class FieldSection {
  count = 0;
  /** Offset behind the empty line. */
  end = 0;
  /** Start of the field's line; the line of field `i` ends where that of `i + 1` starts. */
  readonly lineStart = new Int32Array(MAX_FIELDS + 1);
  readonly nameEnd = new Int32Array(MAX_FIELDS);
  readonly valueStart = new Int32Array(MAX_FIELDS);
  readonly valueEnd = new Int32Array(MAX_FIELDS);
  readonly id = new Uint8Array(MAX_FIELDS);
  /** 1 for a field whose name has other characters than letters, digits and hyphens. */
  readonly odd = new Uint8Array(MAX_FIELDS);

  scanFields(bytes: Uint8Array, start: number, end: number): Scan {
    let at = start;
    let count = 0;
    for (;;) {
      if (at >= end) return SCAN.more;
      if (bytes[at] === CR) {
        if (at + 1 >= end) return SCAN.more;
        if (bytes[at + 1] !== LF) return SCAN.bad;
        this.count = count;
        this.lineStart[count] = at;
        this.end = at + 2;
        return SCAN.done;
      }
      if (count >= MAX_FIELDS) return SCAN.tooMany;
      const lineStart = at;
      let plain = PLAIN_NAME;
      let bits = TOKEN;
      while (at < end && (bits = CLASS[bytes[at] as number] as number) & TOKEN) {
        plain &= bits;
        at++;
      }
      if (at >= end) return SCAN.more;
      if (bytes[at] !== COLON || at === lineStart) return SCAN.bad;
      const nameEnd = at++;
      while (at < end && (bytes[at] === SP || bytes[at] === HTAB)) at++;
      const valueStart = at;
      while (at < end && (CLASS[bytes[at] as number] as number) & VALUE) at++;
      if (at >= end) return SCAN.more;
      if (bytes[at] !== CR) return SCAN.bad;
      if (at + 1 >= end) return SCAN.more;
      if (bytes[at + 1] !== LF) return SCAN.bad;
      let valueEnd = at;
      while (valueEnd > valueStart && (bytes[valueEnd - 1] === SP || bytes[valueEnd - 1] === HTAB)) valueEnd--;
      at += 2;
      this.lineStart[count] = lineStart;
      this.nameEnd[count] = nameEnd;
      this.valueStart[count] = valueStart;
      this.valueEnd[count] = valueEnd;
      this.odd[count] = plain ? 0 : 1;
      this.id[count] = fieldId(bytes, lineStart, nameEnd);
      count++;
    }
  }

  value(bytes: Buffer, index: number): string {
    return textOf(bytes, this.valueStart[index], this.valueEnd[index]);
  }

  valueEquals(bytes: Uint8Array, index: number, text: string): boolean {
    return equalsIgnoringCase(bytes, this.valueStart[index] as number, this.valueEnd[index] as number, text);
  }

  nameEquals(bytes: Uint8Array, index: number, name: string): boolean {
    return equalsIgnoringCase(bytes, this.lineStart[index] as number, this.nameEnd[index] as number, name);
  }

  /** Marks in `drop` every field whose name (any case) is among `names`, or starts like one with a star at its end. */
  dropNamed(bytes: Buffer, names: readonly string[], drop: Uint8Array): void {
    for (const name of names) if (name.endsWith('*')) this.#dropStarting(bytes, name.slice(0, -1), drop);
    for (let i = 0; i < this.count; i++) {
      const start = this.lineStart[i] ?? 0;
      const end = this.nameEnd[i] ?? 0;
      // Text is made of a name only where its length could be that of one that is looked for: this runs for every answer over HTTPS.
      if (!anyOfLength(names, end - start)) continue;
      if (names.includes(textOf(bytes, start, end).toLowerCase())) drop[i] = 1;
    }
  }

  #dropStarting(bytes: Buffer, start: string, drop: Uint8Array): void {
    for (let i = 0; i < this.count; i++) {
      const name = textOf(bytes, this.lineStart[i], this.nameEnd[i]).toLowerCase();
      if (name.startsWith(start)) drop[i] = 1;
    }
  }

  dropId(id: number, drop: Uint8Array): void {
    for (let i = 0; i < this.count; i++) if (this.id[i] === id) drop[i] = 1;
  }

  /** The lines that are not dropped, as runs of the original bytes. */
  kept(bytes: Buffer, drop: Uint8Array): string {
    let text = '';
    let runStart = -1;
    for (let i = 0; i < this.count; i++) {
      if (drop[i] === 0) {
        if (runStart < 0) runStart = this.lineStart[i] as number;
      } else if (runStart >= 0) {
        text += textOf(bytes, runStart, this.lineStart[i]);
        runStart = -1;
      }
    }
    return runStart < 0 ? text : text + textOf(bytes, runStart, this.lineStart[this.count]);
  }
}

/** A name with underscores that a program behind could take for one that the proxy reads or writes itself. */
export function isTwin(name: string): boolean {
  const other = name.toLowerCase().replaceAll('_', '-');
  return (
    KNOWN.some(([known]) => known === other) ||
    /^(x-(original|auth|sent|real|scheme)|ssl-client|remote-user)/.test(other)
  );
}

/** A Content-Length: decimal digits without a leading zero, below 10^15. Undefined for any other form. */
export function parseLength(text: string): number | undefined {
  return /^(0|[1-9][0-9]{0,14})$/.test(text) ? Number(text) : undefined;
}

/** The names that a Connection value lists, in lower case. */
export function connectionOptions(value: string): readonly string[] {
  return value
    .toLowerCase()
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function fieldId(bytes: Uint8Array, start: number, end: number): number {
  const candidates = BY_LENGTH[end - start];
  if (candidates === undefined) return FIELD.other;
  for (let i = 0; i < candidates.length; i++) {
    const candidate = candidates[i] as readonly [string, number];
    if (equalsIgnoringCase(bytes, start, end, candidate[0])) return candidate[1];
  }
  return FIELD.other;
}

function anyOfLength(names: readonly string[], length: number): boolean {
  for (const name of names) if (name.length === length) return true;
  return false;
}
