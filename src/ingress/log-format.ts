// log-format-upstream: a line for each request, in nginx' words. The format is read once; of the request head only what it names is kept.

import type { SettingReader } from './annotations/reader.ts';
import { cookieValue } from './annotations/template.ts';
import { portText } from './backend.ts';
import type { ClientFacts, RequestRecord } from './http/forward.ts';

export const DEFAULT_LOG_FORMAT =
  '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" ' +
  '$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr ' +
  '$upstream_response_length $upstream_response_time $upstream_status $req_id';

/** What is read of a request while its head is there. */
interface LoggedHead {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  readonly minor: number;
  header(name: string): string | undefined;
}

type Escape = 'default' | 'json' | 'none';
type OfHead = (head: LoggedHead, client: ClientFacts) => string;
type OfRecord = (record: RequestRecord, now: number) => string;
type Part =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'head'; readonly index: number }
  | { readonly kind: 'record'; readonly read: OfRecord };

const OF_HEAD: Readonly<Record<string, OfHead>> = {
  request: ({ method, path, query, minor }) => `${method} ${path}${query} HTTP/1.${minor}`,
  request_uri: ({ path, query }) => path + query,
  uri: ({ path }) => path,
  args: ({ query }) => query.slice(1),
  query_string: ({ query }) => query.slice(1),
  host: ({ host }) => host.replace(/:[0-9]*$/, '').toLowerCase(),
  http_host: ({ host }) => host,
  server_protocol: ({ minor }) => `HTTP/1.${minor}`,
  scheme: (_head, { secure }) => (secure ? 'https' : 'http'),
  server_port: (_head, { localPort }) => String(localPort),
  remote_user: (head) => {
    const match = /^basic +([A-Za-z0-9+/=]+)$/i.exec(head.header('authorization') ?? '');
    return match?.[1] === undefined ? '' : (Buffer.from(match[1], 'base64').toString('utf8').split(':')[0] ?? '');
  },
};

const seconds = (ms: number | undefined): string => (ms === undefined ? '' : (ms / 1000).toFixed(3));
const upstreamName: OfRecord = ({ location }) => {
  const backend = location?.backend.backend;
  return location && backend?.kind === 'service'
    ? `${location.ingress.namespace}-${backend.service}-${portText(backend.port)}`
    : '';
};

const OF_RECORD: Readonly<Record<string, OfRecord>> = {
  remote_addr: ({ remoteAddress }) => remoteAddress,
  the_real_ip: ({ remoteAddress }) => remoteAddress,
  proxy_add_x_forwarded_for: ({ remoteAddress }) => remoteAddress,
  time_local: (_record, now) => localTime(now),
  time_iso8601: (_record, now) => new Date(now).toISOString().replace(/\.\d+Z$/, '+00:00'),
  msec: (_record, now) => (now / 1000).toFixed(3),
  request_method: ({ method }) => method,
  status: ({ status }) => String(status),
  body_bytes_sent: ({ sent }) => String(sent),
  bytes_sent: ({ sent }) => String(sent),
  request_length: ({ received }) => String(received),
  request_time: ({ duration }) => seconds(duration),
  proxy_upstream_name: upstreamName,
  proxy_alternative_upstream_name: ({ canary }) => canary ?? '',
  upstream_addr: ({ endpoint }) => (endpoint ? `${endpoint.ip}:${endpoint.port}` : ''),
  upstream_response_length: ({ endpoint, sent }) => (endpoint ? String(sent) : ''),
  upstream_response_time: ({ upstreamDuration }) => seconds(upstreamDuration),
  upstream_header_time: ({ headDuration }) => seconds(headDuration),
  upstream_connect_time: ({ connectDuration }) => seconds(connectDuration),
  upstream_status: ({ endpoint, status }) => (endpoint ? String(status) : ''),
  req_id: ({ requestId }) => requestId,
  request_id: ({ requestId }) => requestId,
  namespace: ({ location }) => location?.ingress.namespace ?? '',
  ingress_name: ({ location }) => location?.ingress.name ?? '',
  service_name: ({ location }) =>
    location?.backend.backend.kind === 'service' ? location.backend.backend.service : '',
  service_port: ({ location }) =>
    location?.backend.backend.kind === 'service' ? portText(location.backend.backend.port) : '',
  location_path: ({ location }) => location?.path ?? '',
};

export class LogFormat {
  readonly #parts: readonly Part[];
  readonly #captures: readonly OfHead[];
  readonly #escape: Escape;
  /** Names in the format that are not known; `-` stands for them. */
  readonly unknown: readonly string[];

  constructor(text: string, escape: Escape) {
    this.#escape = escape;
    const parts: Part[] = [];
    const captures: OfHead[] = [];
    const unknown: string[] = [];
    let end = 0;
    for (const match of text.matchAll(/\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))/g)) {
      const name = match[1] ?? match[2] ?? '';
      parts.push({ kind: 'text', text: text.slice(end, match.index) });
      end = match.index + match[0].length;
      const read = Object.hasOwn(OF_RECORD, name) ? OF_RECORD[name] : undefined;
      const capture = ofHead(name);
      if (read) parts.push({ kind: 'record', read });
      else if (capture) parts.push({ kind: 'head', index: captures.push(capture) - 1 });
      else {
        unknown.push(name);
        parts.push({ kind: 'text', text: '-' });
      }
    }
    parts.push({ kind: 'text', text: `${text.slice(end)}\n` });
    this.#parts = parts;
    this.#captures = captures;
    this.unknown = unknown;
  }

  /** What the line needs of a head, while that is there. */
  capture(client: ClientFacts, head: LoggedHead): readonly string[] {
    return this.#captures.map((read) => read(head, client));
  }

  /** With its line break. `now` in milliseconds. */
  line(record: RequestRecord, now: number): string {
    const { captured = [] } = record;
    let line = '';
    for (const part of this.#parts) {
      if (part.kind === 'text') line += part.text;
      else line += escaped(part.kind === 'head' ? (captured[part.index] ?? '') : part.read(record, now), this.#escape);
    }
    return line;
  }
}

function ofHead(name: string): OfHead | undefined {
  if (Object.hasOwn(OF_HEAD, name)) return OF_HEAD[name];
  if (name.startsWith('http_')) {
    const field = name.slice(5).replaceAll('_', '-');
    return (head) => head.header(field) ?? '';
  }
  if (name.startsWith('cookie_')) return (head) => cookieValue(head.header('cookie'), name.slice(7)) ?? '';
  return undefined;
}

/** Values come from clients: none may end the line or forge another. */
function escaped(value: string, escape: Escape): string {
  if (escape === 'json') return JSON.stringify(value).slice(1, -1);
  if (value === '') return escape === 'none' ? '' : '-';
  if (escape === 'none') return value.replace(/[\r\n]/g, ' ');
  return value.replace(
    /[^ !#-[\]-~]/g,
    (char) => `\\x${(char.charCodeAt(0) & 0xff).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** As nginx in a container has it: UTC. */
function localTime(now: number): string {
  const date = new Date(now);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${two(date.getUTCDate())}/${MONTHS[date.getUTCMonth()] ?? ''}/${date.getUTCFullYear()}:${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`;
}

export interface LogSettings {
  /** Undefined: no access log. */
  readonly format: LogFormat | undefined;
  /** Starts of paths that are not logged. */
  readonly skip: readonly string[];
  /** Requests that no Ingress takes. */
  readonly unrouted: boolean;
}

export const DEFAULT_LOG: LogSettings = {
  format: new LogFormat(DEFAULT_LOG_FORMAT, 'default'),
  skip: [],
  unrouted: false,
};

export function readLogSettings(reader: SettingReader): LogSettings {
  const text = reader.text('log-format-upstream') ?? DEFAULT_LOG_FORMAT;
  const json = reader.bool('log-format-escape-json') ?? false;
  const none = reader.bool('log-format-escape-none') ?? false;
  const off = (reader.bool('disable-access-log') ?? false) || (reader.bool('disable-http-access-log') ?? false);
  const path = reader.text('http-access-log-path') ?? reader.text('access-log-path');
  if (path !== undefined && !/^\/(var\/log\/nginx\/access\.log|dev\/stdout)$/.test(path)) {
    reader.ignored('access-log-path', 'the access log is written to standard output');
  }
  const format = new LogFormat(text, json ? 'json' : none ? 'none' : 'default');
  for (const name of format.unknown) reader.ignored('log-format-upstream', `the variable $${name} is not known`);
  return {
    format: off ? undefined : format,
    skip: reader.list('skip-access-log-urls') ?? [],
    unrouted: reader.bool('enable-access-log-for-default-backend') ?? false,
  };
}

/** Whether a request is told of. */
export function isLogged(settings: LogSettings, record: RequestRecord): boolean {
  if (!settings.format || record.method === '') return false;
  if (record.location ? !record.location.settings.accessLog : !settings.unrouted) return false;
  return !settings.skip.some((start) => record.path.startsWith(start));
}
