import type { Edit, Origin } from './forward.ts';
import type { MessageRules } from './message-rules.ts';
import type { RequestHead } from './request-head.ts';
import { requestIdLine } from './request-id.ts';

/** The head that the backend gets: what stays of the client's, framed anew, and the forwarding fields. */
export function requestText(
  head: RequestHead,
  requestId: string,
  origin: Origin,
  edit: Edit | undefined,
  rules: MessageRules,
): string {
  const { path, query } = edit ?? head;
  const named = origin.host ?? head.host;
  const host = edit?.host ?? named;
  const connection = head.upgrade ? 'Connection: upgrade\r\n' : '';
  const length = head.body === 'length' ? `Content-Length: ${head.contentLength}\r\n` : '';
  const framing = head.body === 'chunked' ? 'Transfer-Encoding: chunked\r\n' : length;
  const hasBody = head.body === 'chunked' || head.contentLength > 0;
  const expect = head.expectContinue && hasBody ? 'Expect: 100-continue\r\n' : '';
  const original = head.forwardedFor === '' ? '' : `X-Original-Forwarded-For: ${head.forwardedFor}\r\n`;
  const originalHost = head.forwardedHost === '' ? '' : `X-Original-Forwarded-Host: ${head.forwardedHost}\r\n`;
  const originalUri = rules.originalUri ? `X-Original-URI: ${head.path}${head.query}\r\n` : '';
  return (
    `${head.method} ${path}${query} HTTP/1.1\r\nHost: ${host}\r\n${head.kept()}${connection}${framing}${expect}` +
    `${requestIdLine(requestId)}${origin.forwarding}X-Forwarded-Host: ${named}\r\n${original}${originalHost}${originalUri}${edit?.fields ?? ''}\r\n`
  );
}
