import type { OutgoingHttpHeaders } from 'node:http2';
import { textOf } from './octets.ts';
import type { ResponseHead } from './response-head.ts';

/** The fields of a backend's answer that go on, for HTTP/2. */
export function answerHeaders(head: ResponseHead, bytes: Buffer, lines: string): OutgoingHttpHeaders {
  const headers = newHeaders(head.status);
  const { fields, drop } = head;
  for (let i = 0; i < fields.count; i++) {
    if (drop[i] !== 0) continue;
    add(headers, textOf(bytes, fields.lineStart[i], fields.nameEnd[i]).toLowerCase(), fields.value(bytes, i));
  }
  return addLines(headers, lines);
}

/** Header fields from lines of HTTP/1.1. */
export function linesAsHeaders(status: number, lines: string): OutgoingHttpHeaders {
  return addLines(newHeaders(status), lines);
}

/** Trailer fields from lines of HTTP/1.1. */
export function linesAsTrailers(lines: string): OutgoingHttpHeaders {
  // A name may be `__proto__`.
  return addLines(Object.create(null) as OutgoingHttpHeaders, lines);
}

function newHeaders(status: number): OutgoingHttpHeaders {
  const headers = Object.create(null) as OutgoingHttpHeaders;
  headers[':status'] = status;
  return headers;
}

function addLines(headers: OutgoingHttpHeaders, lines: string): OutgoingHttpHeaders {
  if (lines === '') return headers;
  for (const line of lines.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) add(headers, line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return headers;
}

function add(headers: OutgoingHttpHeaders, name: string, value: string): void {
  const before = headers[name];
  if (before === undefined) headers[name] = value;
  else if (Array.isArray(before)) before.push(value);
  else headers[name] = [String(before), value];
}
