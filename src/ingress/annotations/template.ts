// URLs with nginx' variables in them, as a closed set: a text is read once into parts, never pasted anywhere.

/** What the variables are read from. */
export interface TemplateRequest {
  readonly secure: boolean;
  /** Host as the client gave it. */
  readonly host: string;
  readonly method: string;
  readonly path: string;
  /** With its `?`, or empty. */
  readonly query: string;
  readonly remoteAddress: string;
  readonly localPort: number;
  header(name: string): string | undefined;
  /** Of `set` in a snippet. */
  readonly variables?: ReadonlyMap<string, string>;
}

type Part = string | ((request: TemplateRequest) => string);

export class Template {
  readonly text: string;
  readonly #parts: readonly Part[];

  constructor(text: string, parts: readonly Part[]) {
    this.text = text;
    this.#parts = parts;
  }

  render(request: TemplateRequest): string {
    return this.#parts.map((part) => (typeof part === 'string' ? part : part(request))).join('');
  }
}

const bareHost = (host: string): string => host.replace(/:[0-9]*$/, '').toLowerCase();
const requestUri = (request: TemplateRequest): string => request.path + request.query;

const VARIABLES: Readonly<Record<string, (request: TemplateRequest) => string>> = {
  scheme: ({ secure }) => (secure ? 'https' : 'http'),
  pass_access_scheme: ({ secure }) => (secure ? 'https' : 'http'),
  host: ({ host }) => bareHost(host),
  best_http_host: ({ host }) => host,
  http_host: ({ host }) => host,
  request_uri: requestUri,
  escaped_request_uri: (request) => escapeUri(requestUri(request)),
  uri: ({ path }) => path,
  document_uri: ({ path }) => path,
  args: ({ query }) => query.slice(1),
  query_string: ({ query }) => query.slice(1),
  is_args: ({ query }) => (query.length > 1 ? '?' : ''),
  request_method: ({ method }) => method,
  remote_addr: ({ remoteAddress }) => remoteAddress,
  binary_remote_addr: ({ remoteAddress }) => remoteAddress,
  the_real_ip: ({ remoteAddress }) => remoteAddress,
  server_port: ({ localPort }) => String(localPort),
  remote_user: (request) => userOf(request.header('authorization')),
  https: ({ secure }) => (secure ? 'on' : ''),
  server_name: ({ host }) => bareHost(host),
  content_type: (request) => request.header('content-type') ?? '',
  content_length: (request) => request.header('content-length') ?? '',
};

export type ParsedTemplate =
  | { readonly kind: 'template'; readonly template: Template }
  | { readonly kind: 'unknown'; readonly variable: string };

const NO_NAMES: ReadonlySet<string> = new Set();

/** Variables as `$name` or `${name}`; `$http_…` and `$arg_…` too. */
export function parseTemplate(text: string, own: ReadonlySet<string> = NO_NAMES): ParsedTemplate {
  const parts: Part[] = [];
  let end = 0;
  for (const match of text.matchAll(/\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))/g)) {
    const name = match[1] ?? match[2] ?? '';
    const read = own.has(name) ? ownVariable(name) : variable(name);
    if (!read) return { kind: 'unknown', variable: name };
    parts.push(text.slice(end, match.index), read);
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return { kind: 'template', template: new Template(text, parts) };
}

function ownVariable(name: string): (request: TemplateRequest) => string {
  return ({ variables }) => variables?.get(name) ?? '';
}

function variable(name: string): ((request: TemplateRequest) => string) | undefined {
  if (Object.hasOwn(VARIABLES, name)) return VARIABLES[name];
  if (name.startsWith('http_')) {
    const field = name.slice(5).replaceAll('_', '-').toLowerCase();
    return (request) => request.header(field) ?? '';
  }
  if (name.startsWith('cookie_')) {
    const wanted = name.slice(7);
    return (request) => cookieValue(request.header('cookie'), wanted) ?? '';
  }
  if (name.startsWith('arg_')) {
    const wanted = name.slice(4).toLowerCase();
    return ({ query }) => {
      const pair = query
        .slice(1)
        .split('&')
        .find((part) => part.slice(0, Math.max(0, part.indexOf('='))).toLowerCase() === wanted);
      return pair?.slice(pair.indexOf('=') + 1) ?? '';
    };
  }
  return undefined;
}

/** The user of a Basic Authorization field. */
function userOf(field: string | undefined): string {
  const match = /^basic +([A-Za-z0-9+/=]+)$/i.exec(field ?? '');
  const pair = match?.[1] === undefined ? '' : Buffer.from(match[1], 'base64').toString('utf8');
  return pair.slice(0, Math.max(0, pair.indexOf(':')));
}

/** The value of a cookie in a Cookie field. */
export function cookieValue(field: string | undefined, name: string): string | undefined {
  for (const pair of field?.split(';') ?? []) {
    const equals = pair.indexOf('=');
    if (equals > 0 && pair.slice(0, equals).trim() === name) return pair.slice(equals + 1).trim();
  }
  return undefined;
}

/** As nginx' escape_uri: all but unreserved characters. */
export function escapeUri(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
