// A request of HTTP/2 in the words of HTTP/1.1: one strict reader then serves both, and one set of rules after it.

import { randomBytes } from 'node:crypto';
import type { Refusal, RequestHead } from './request-head.ts';

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** RFC 9113 section 8.2.2: fields that speak of a connection, which a request of HTTP/2 must not have. */
const CONNECTION_FIELDS = /^(connection|keep-alive|proxy-connection|transfer-encoding|upgrade|http2-settings)$/;

export type Http2Read =
  | { readonly kind: 'head'; readonly connect: boolean }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

interface Pseudo {
  method: string;
  path: string;
  scheme: string;
  authority: string | undefined;
  protocol: string | undefined;
}

/**
 * Reads the fields of a HEADERS frame, `[name, value, name, value, …]` as they came, into `head`. `ended`: no body
 * follows. Nothing is believed of what the library has checked before: a line more than there were fields is a refusal.
 */
export function readHttp2Request(
  head: RequestHead,
  raw: readonly string[],
  ended: boolean,
  secure: boolean,
): Http2Read {
  const pseudo: Pseudo = { method: '', path: '', scheme: '', authority: undefined, protocol: undefined };
  let lines = '';
  let count = 1;
  let cookies = '';
  let host: string | undefined;
  let length: string | undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string;
    const value = raw[i + 1] as string;
    if (name.startsWith(':')) {
      if (!takePseudo(pseudo, name, value)) return refused('a pseudo-header field is not known');
    } else if (name === 'cookie') {
      // RFC 9113 section 8.2.3: crumbs are one field again.
      cookies = cookies === '' ? value : `${cookies}; ${value}`;
    } else if (name === 'host') {
      if (host !== undefined && host !== value) return refused('there is more than one Host');
      host = value;
    } else if (CONNECTION_FIELDS.test(name)) return refused('a field speaks of the connection');
    else if (name === 'te' && value.toLowerCase() !== 'trailers') return refused('TE is something else than trailers');
    else if (!NAME.test(name)) return refused('a header field is malformed');
    else {
      if (name === 'content-length') length = value;
      lines += `${name}: ${value}\r\n`;
      count++;
    }
  }
  if (host !== undefined && pseudo.authority !== undefined && host !== pseudo.authority) {
    return refused('Host differs from :authority');
  }
  const connect = pseudo.method === 'CONNECT' && pseudo.protocol === 'websocket';
  if (pseudo.protocol !== undefined && !connect) return refused('only websocket can be connected to');
  if (!/^https?$/.test(pseudo.scheme)) return refused('the scheme is not http or https');
  if (!pseudo.path.startsWith('/') && !(pseudo.path === '*' && pseudo.method === 'OPTIONS')) {
    return refused('the request target is malformed');
  }
  if (cookies !== '') {
    lines += `cookie: ${cookies}\r\n`;
    count++;
  }
  if (connect) {
    // RFC 8441 section 5: the backend is asked as HTTP/1.1 asks for a WebSocket.
    lines += `Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n`;
    count += 3;
  } else if (!ended && length === undefined) {
    lines += 'Transfer-Encoding: chunked\r\n';
    count++;
  }
  const line = `${connect ? 'GET' : pseudo.method} ${pseudo.path} HTTP/1.1\r\n`;
  const text = `${line}Host: ${pseudo.authority ?? host ?? ''}\r\n${lines}\r\n`;
  return readText(head, Buffer.from(text, 'latin1'), count, secure, connect);
}

function readText(head: RequestHead, bytes: Buffer, count: number, secure: boolean, connect: boolean): Http2Read {
  const result = head.read(bytes, 0, bytes.length, secure);
  if (result.kind === 'refused') return result;
  // A line break in a value would have made another line or another request.
  if (result.kind === 'more' || head.fields.count !== count || head.end !== bytes.length) {
    return refused('a header field is malformed');
  }
  return { kind: 'head', connect };
}

function takePseudo(pseudo: Pseudo, name: string, value: string): boolean {
  switch (name) {
    case ':method':
      pseudo.method = value;
      return true;
    case ':path':
      pseudo.path = value;
      return true;
    case ':scheme':
      pseudo.scheme = value;
      return true;
    case ':authority':
      pseudo.authority = value;
      return true;
    case ':protocol':
      pseudo.protocol = value;
      return true;
    default:
      return false;
  }
}

function refused(reason: string): Http2Read {
  return { kind: 'refused', refusal: { status: 400, reason } };
}
