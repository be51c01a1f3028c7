// The name that a TLS client asks for, read from its first bytes without a handshake (RFC 8446 section 4.1.2, RFC 6066 section 3).

export type ClientHello =
  | { readonly kind: 'more' }
  /** No TLS, or nothing to be made of it: a handshake will say so. */
  | { readonly kind: 'unreadable' }
  /** In lower case; empty when the client names none. */
  | { readonly kind: 'hello'; readonly name: string };

/** A ClientHello with post-quantum keys and early data has about 2 KB. */
const MAX_HELLO = 16 * 1024;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const UNREADABLE: ClientHello = { kind: 'unreadable' };

export function readClientHello(bytes: Buffer): ClientHello {
  const hello = joinRecords(bytes);
  if (hello === undefined) return UNREADABLE;
  if (hello === 'more') return bytes.length > MAX_HELLO + 1024 ? UNREADABLE : { kind: 'more' };
  try {
    return { kind: 'hello', name: nameIn(hello) };
  } catch {
    // A length that points behind the end.
    return UNREADABLE;
  }
}

/** The handshake message, which may be spread over several records. */
function joinRecords(bytes: Buffer): Buffer | 'more' | undefined {
  const parts: Buffer[] = [];
  let have = 0;
  let at = 0;
  for (;;) {
    if (at < bytes.length && bytes[at] !== HANDSHAKE) return undefined;
    if (bytes.length < at + 5) return 'more';
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > 16_384) return undefined;
    const end = at + 5 + length;
    parts.push(bytes.subarray(at + 5, Math.min(end, bytes.length)));
    have += Math.min(end, bytes.length) - at - 5;
    const joined = Buffer.concat(parts);
    if (have >= 4) {
      if (joined[0] !== CLIENT_HELLO) return undefined;
      const size = joined.readUIntBE(1, 3) + 4;
      if (size > MAX_HELLO) return undefined;
      if (have >= size) return joined.subarray(0, size);
    }
    if (end > bytes.length) return 'more';
    at = end;
  }
}

function nameIn(hello: Buffer): string {
  // Type, length, version, random; then the session id, the cipher suites and the compression methods.
  let at = 4 + 2 + 32;
  at += 1 + hello.readUInt8(at);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + hello.readUInt8(at);
  if (at >= hello.length) return '';
  const end = at + 2 + hello.readUInt16BE(at);
  at += 2;
  while (at + 4 <= end) {
    const type = hello.readUInt16BE(at);
    const length = hello.readUInt16BE(at + 2);
    if (type === SERVER_NAME) {
      const nameLength = hello.readUInt16BE(at + 7);
      const isHost = hello.readUInt8(at + 6) === 0 && nameLength + 5 <= length;
      return isHost ? hello.toString('latin1', at + 9, at + 9 + nameLength).toLowerCase() : '';
    }
    at += 4 + length;
  }
  return '';
}
