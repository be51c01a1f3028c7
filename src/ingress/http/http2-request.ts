// A request of HTTP/2 in the words of HTTP/1.1: one strict reader then serves both, and one set of rules after it.

import { randomBytes } from 'node:crypto';
import { FIELD_KIND, type HeaderField } from './hpack.ts';
import type { Refusal, RequestHead } from './request-head.ts';

export type Http2Read =
  | {
      readonly kind: 'head';
      /** A WebSocket of RFC 8441. */
      readonly connect: boolean;
    }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

const READ: Http2Read = { kind: 'head', connect: false };
const READ_CONNECT: Http2Read = { kind: 'head', connect: true };
/** Where the words of HTTP/1.1 stand while they are read: a head is used up before the next one comes. */
let scratch = Buffer.allocUnsafe(36 * 1024);

interface Pseudo {
  method: string | undefined;
  path: string | undefined;
  scheme: string | undefined;
  authority: string | undefined;
  protocol: string | undefined;
}

/**
 * Reads the fields of a request into `head`. `ended`: no body follows. What stands in names and values is judged by
 * the reader of HTTP/1.1: a line more than there were fields is a refusal.
 */
export function readHttp2Request(
  head: RequestHead,
  fields: readonly HeaderField[],
  ended: boolean,
  secure: boolean,
): Http2Read {
  const pseudo: Pseudo = {
    method: undefined,
    path: undefined,
    scheme: undefined,
    authority: undefined,
    protocol: undefined,
  };
  let lines = '';
  let count = 1;
  let cookies: string | undefined;
  let host: string | undefined;
  let length: string | undefined;
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i] as HeaderField;
    switch (field.kind) {
      case FIELD_KIND.plain:
        break;
      case FIELD_KIND.method:
      case FIELD_KIND.path:
      case FIELD_KIND.scheme:
      case FIELD_KIND.authority:
      case FIELD_KIND.protocol:
        // RFC 9113 section 8.3: each once, and before the other fields.
        if (count > 1 || host !== undefined || cookies !== undefined || !takePseudo(pseudo, field)) {
          return refused('a pseudo-header field does not belong there');
        }
        continue;
      case FIELD_KIND.cookie:
        // RFC 9113 section 8.2.3: crumbs are one field again.
        cookies = cookies === undefined ? field.value : `${cookies}; ${field.value}`;
        continue;
      case FIELD_KIND.host:
        if (host !== undefined) return refused('there is more than one Host');
        host = field.value;
        continue;
      case FIELD_KIND.contentLength:
        length = field.value;
        break;
      case FIELD_KIND.te:
        if (field.value.toLowerCase() !== 'trailers') return refused('TE is something else than trailers');
        break;
      case FIELD_KIND.connection:
        return refused('a field speaks of the connection');
      default:
        return refused('a header field is malformed');
    }
    lines += field.line;
    count++;
  }
  const { method, path, scheme, authority, protocol } = pseudo;
  if (method === undefined || path === undefined || scheme === undefined) {
    return refused('a pseudo-header field is missing');
  }
  if (host !== undefined && authority !== undefined && host !== authority)
    return refused('Host differs from :authority');
  const connect = method === 'CONNECT' && protocol === 'websocket';
  if (protocol !== undefined && !connect) return refused('only websocket can be connected to');
  if (scheme !== 'http' && scheme !== 'https') return refused('the scheme is not http or https');
  if (!path.startsWith('/') && !(path === '*' && method === 'OPTIONS')) {
    return refused('the request target is malformed');
  }
  // RFC 9113 section 8.1.1: nothing follows that could be so long.
  if (ended && length !== undefined && length !== '0') return refused('the body is shorter than Content-Length');
  if (cookies !== undefined) {
    lines += `cookie: ${cookies}\r\n`;
    count++;
  }
  if (connect) {
    if (length !== undefined) return refused('a WebSocket has no Content-Length');
    // RFC 8441 section 5: the backend is asked as HTTP/1.1 asks for a WebSocket.
    lines += `Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n`;
    count += 3;
  } else if (!ended && length === undefined) {
    lines += 'Transfer-Encoding: chunked\r\n';
    count++;
  }
  const text = `${connect ? 'GET' : method} ${path} HTTP/1.1\r\nHost: ${authority ?? host ?? ''}\r\n${lines}\r\n`;
  return readText(head, text, count, secure, connect);
}

function readText(head: RequestHead, text: string, count: number, secure: boolean, connect: boolean): Http2Read {
  if (text.length > scratch.length) scratch = Buffer.allocUnsafe(text.length);
  const end = scratch.write(text, 'latin1');
  const result = head.read(scratch, 0, end, secure);
  if (result.kind === 'refused') return result;
  // A line break in a value would have made another line or another request.
  if (result.kind === 'more' || head.fields.count !== count || head.end !== end) {
    return refused('a header field is malformed');
  }
  return connect ? READ_CONNECT : READ;
}

/** False for a second one. */
function takePseudo(pseudo: Pseudo, { kind, value }: HeaderField): boolean {
  switch (kind) {
    case FIELD_KIND.method:
      if (pseudo.method !== undefined) return false;
      pseudo.method = value;
      return true;
    case FIELD_KIND.path:
      if (pseudo.path !== undefined) return false;
      pseudo.path = value;
      return true;
    case FIELD_KIND.scheme:
      if (pseudo.scheme !== undefined) return false;
      pseudo.scheme = value;
      return true;
    case FIELD_KIND.authority:
      if (pseudo.authority !== undefined) return false;
      pseudo.authority = value;
      return true;
    default:
      if (pseudo.protocol !== undefined) return false;
      pseudo.protocol = value;
      return true;
  }
}

/** More fields, or more bytes of them, than a request may have. */
export const TOO_LARGE: Http2Read = {
  kind: 'refused',
  refusal: { status: 431, reason: 'the header fields are too large' },
};

function refused(reason: string): Http2Read {
  return { kind: 'refused', refusal: { status: 400, reason } };
}
