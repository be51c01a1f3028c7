// The answers that the proxy gives itself: small plain pages that say what, and nothing of who says it.

import type { Location } from '../host-routes.ts';

const REASONS: Readonly<Record<number, string>> = {
  204: 'No Content',
  300: 'Multiple Choices',
  301: 'Moved Permanently',
  302: 'Found',
  303: 'See Other',
  304: 'Not Modified',
  307: 'Temporary Redirect',
  308: 'Permanent Redirect',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  421: 'Misdirected Request',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
};

export interface Answer {
  readonly status: number;
  /** One clause for the page; never bytes of the request. */
  readonly reason: string;
  /** For a redirect. */
  readonly location?: string;
  /** Further lines of the head, each with its end. */
  readonly fields?: string;
  /** The location that answers so, for metrics and the access log. */
  readonly of?: Location;
  /** The body, as plain text, in the place of a page. */
  readonly page?: string;
}

/** The whole answer as bytes on the wire. `minor` is the client's version; HEAD gets the head alone. */
export function renderAnswer(answer: Answer, method: string, minor: 0 | 1, keepAlive: boolean): string {
  const { fields, page } = pageOf(answer);
  const connection = keepAlive ? (minor === 0 ? 'Connection: keep-alive\r\n' : '') : 'Connection: close\r\n';
  return `HTTP/1.1 ${titleOf(answer)}\r\n${fields}${connection}\r\n${method === 'HEAD' ? '' : page}`;
}

/** The fields of an answer, as lines, without those of the connection; and its page, empty for an answer without a body. */
export function pageOf(answer: Answer): { readonly fields: string; readonly page: string } {
  const location = answer.location === undefined ? '' : `Location: ${headerText(answer.location)}\r\n`;
  const fields = `${location}${answer.fields ?? ''}`;
  if (answer.status === 204 || answer.status === 304) return { fields, page: '' };
  if (answer.page !== undefined) {
    const length = Buffer.byteLength(answer.page, 'latin1');
    return { fields: `${fields}Content-Type: text/plain\r\nContent-Length: ${length}\r\n`, page: answer.page };
  }
  const title = titleOf(answer);
  const page = `<!doctype html>\n<title>${title}</title>\n<h1>${title}</h1>\n<p>${sentence(answer.reason)}</p>\n`;
  return { fields: `${fields}Content-Type: text/html; charset=utf-8\r\nContent-Length: ${page.length}\r\n`, page };
}

function titleOf({ status }: Answer): string {
  return `${status} ${REASONS[status] ?? 'Error'}`;
}

function sentence(reason: string): string {
  return `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
}

/** A URL is made of what clients and annotations give: what could end a line never gets into one. */
function headerText(text: string): string {
  return text.replace(/[^\u0020-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed()));
}
