// An API server for tests: the real protocol over real sockets, in one process, with faults on demand.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { gzipSync } from 'node:zlib';
import { Faults, type Fault } from './faults.ts';
import { child, copy, text, type Json } from './json.ts';
import { answerList, type Answer } from './list.ts';
import { apiVersionOf, RESOURCES, route, type ServedResource, type Target } from './resource-table.ts';
import { forbidden, methodNotAllowed, noResource, notAcceptable, notFound, status, unauthorized } from './status.ts';
import { Storage } from './storage.ts';
import { OpenWatch, parseWatch, type WatchEnd } from './watch.ts';
import { create, objectKeyOf, patch, remove, replace, type WriteRequest } from './write.ts';

export interface TestUser {
  readonly name: string;
  readonly may: (verb: string, resource: string, namespace: string) => boolean;
}

export interface TestApiServerOptions {
  /** Users by token. Without it everybody may do everything. */
  readonly users?: ReadonlyMap<string, TestUser>;
  readonly bookmarkMs?: number;
  /** PEM; without it the server speaks plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** From this size on an answer is compressed, when asked for. */
const GZIP_BYTES = 128 * 1024;
/** A shorter answer has a Content-Length, a longer one is chunked. */
const LENGTH_BYTES = 2048;

/** Between bookmarks of a quiet watch. */
const BOOKMARK_MS = 60_000;

export async function startTestApiServer(options: TestApiServerOptions = {}): Promise<TestApiServer> {
  const server = new TestApiServer(options);
  await server.listen();
  return server;
}

export class TestApiServer {
  readonly storage = new Storage();
  readonly faults = new Faults();
  /** Every request that came, in order. */
  readonly requests: RecordedRequest[] = [];
  readonly #options: TestApiServerOptions;
  readonly #server: ReturnType<typeof createServer>;
  readonly #watches = new Set<OpenWatch>();
  readonly #delays = new Set<NodeJS.Timeout>();
  #counter = 0;
  #port = 0;

  constructor(options: TestApiServerOptions) {
    this.#options = options;
    const listener = (request: IncomingMessage, response: ServerResponse): void => void this.#handle(request, response);
    this.#server = options.tls ? createSecureServer(options.tls, listener) : createServer(listener);
  }

  get url(): string {
    return `${this.#options.tls ? 'https' : 'http'}://127.0.0.1:${this.#port}`;
  }

  /** Listens again after `stop`, by default where it did before; what it holds is kept. */
  async listen(port = this.#port): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
    const address = this.#server.address();
    if (typeof address === 'object' && address) this.#port = address.port;
  }

  async stop(): Promise<void> {
    for (const timer of this.#delays) clearTimeout(timer);
    for (const watch of this.#watches) watch.end('reset');
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Creates or replaces objects, past validation, as if another client had. */
  apply(...objects: readonly Json[]): void {
    for (const object of objects) {
      const resource = resourceOf(object);
      const metadata = child(object, 'metadata');
      const namespace = resource.namespaced ? (text(metadata, 'namespace') ?? 'default') : '';
      const name = text(metadata, 'name') ?? '';
      const stored = { ...copy(object), metadata: { ...metadata, ...(namespace === '' ? {} : { namespace }) } };
      this.storage.put(resource, objectKeyOf({ resource, namespace, name, subresource: undefined }, name), stored);
    }
  }

  delete(kind: string, key: string): boolean {
    return this.storage.delete(resourceNamed(kind), key) !== undefined;
  }

  /** Objects of a kind by key. */
  objects(kind: string): ReadonlyMap<string, Json> {
    return new Map(this.storage.current(resourceNamed(kind)).entries());
  }

  /** Ends every open watch, of one kind when given. Returns how many there were. */
  dropWatches(how: WatchEnd = 'end', kind?: string): number {
    const open = [...this.#watches].filter(({ target }) => kind === undefined || target.resource.kind === kind);
    for (const watch of open) watch.end(how);
    return open.length;
  }

  openWatches(kind?: string): number {
    return [...this.#watches].filter(({ target }) => kind === undefined || target.resource.kind === kind).length;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://server');
    const query = url.searchParams;
    const path = url.pathname;
    const method = request.method ?? 'GET';
    this.requests.push({ method, path, query, headers: request.headers });
    const body = await readBody(request);
    const routed = route(path);
    const watch = query.get('watch') === '1' || query.get('watch') === 'true';
    const plural = routed.kind === 'target' ? routed.target.resource.plural : '';
    const fault = this.faults.take({ method, path, query, resource: plural, watch });
    if (fault?.kind === 'slow') await this.#delay(fault.delayMs);
    else if (fault && fault.kind !== 'truncate') return this.#fail(fault, response);
    const truncate = fault?.kind === 'truncate' ? fault.bytes : undefined;
    const accept = request.headers.accept ?? '*/*';
    if (!/application\/json|application\/\*|\*\/\*/.test(accept)) return this.#send(request, response, notAcceptable());
    switch (routed.kind) {
      case 'unknown-group':
        return plain404(response);
      case 'unknown-resource':
        return this.#send(request, response, noResource());
      case 'discovery':
        return this.#send(request, response, discovery(routed.group, routed.version), truncate);
      case 'target':
        break;
    }
    const { target } = routed;
    const denied = this.#authorize(request, verbOf(method, target, watch), target);
    if (denied) return this.#send(request, response, denied);
    if (method === 'GET' && watch) return this.#watch(request, response, target, query, truncate);
    const contentType = request.headers['content-type'] ?? '';
    return this.#send(request, response, this.#answer(method, { target, contentType, body }, query), truncate);
  }

  #answer(method: string, request: WriteRequest, query: URLSearchParams): Answer {
    const { target } = request;
    const { resource, name } = target;
    const writing = { resource, storage: this.storage, now: new Date(), next: () => ++this.#counter };
    if (name === undefined) {
      if (method === 'GET') return answerList(this.storage, target, query);
      return method === 'POST' ? create(request, this.storage, writing) : methodNotAllowed();
    }
    switch (method) {
      case 'GET': {
        const object = this.storage.current(resource).get(objectKeyOf(target, name));
        return object ? { code: 200, body: object } : notFound(resource, name);
      }
      case 'PUT':
        return replace(request, name, this.storage, writing);
      case 'PATCH':
        return patch(request, name, this.storage, writing);
      case 'DELETE':
        return remove(target, name, this.storage);
      default:
        return methodNotAllowed();
    }
  }

  #authorize(request: IncomingMessage, verb: string, target: Target): Answer | undefined {
    const { users } = this.#options;
    if (!users) return undefined;
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1];
    const user = token === undefined ? { name: 'system:anonymous', may: () => false } : users.get(token);
    if (!user) return unauthorized();
    const { resource, namespace, name, subresource } = target;
    const plural = subresource === undefined ? resource.plural : `${resource.plural}/${subresource}`;
    if (user.may(verb, plural, namespace)) return undefined;
    return forbidden(resource, { user: user.name, verb, namespace, name, subresource });
  }

  #watch(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    query: URLSearchParams,
    truncate: number | undefined,
  ): void {
    const parsed = parseWatch(target, query);
    if ('code' in parsed) return this.#send(request, response, parsed);
    response.writeHead(200, { 'Cache-Control': 'no-cache, private', 'Content-Type': 'application/json' });
    response.flushHeaders();
    if (truncate !== undefined) cutAfter(response, truncate);
    const watch: OpenWatch = new OpenWatch(parsed, response, this.storage, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    watch.begin(this.#options.bookmarkMs ?? BOOKMARK_MS);
  }

  #send(request: IncomingMessage, response: ServerResponse, answer: Answer, truncate?: number): void {
    const json = Buffer.from(JSON.stringify(answer.body));
    const zipped = json.length > GZIP_BYTES && /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    const body = zipped ? gzipSync(json) : json;
    response.writeHead(answer.code, {
      'Cache-Control': 'no-cache, private',
      'Content-Type': 'application/json',
      ...(zipped ? { 'Content-Encoding': 'gzip' } : {}),
      ...('headers' in answer ? answer.headers : {}),
      ...(body.length <= LENGTH_BYTES ? { 'Content-Length': body.length } : {}),
    });
    if (truncate === undefined) response.end(body);
    else response.write(body.subarray(0, Math.min(truncate, body.length - 1)), () => response.socket?.destroy());
  }

  #fail(fault: Exclude<Fault, { kind: 'slow' | 'truncate' }>, response: ServerResponse): void {
    switch (fault.kind) {
      case 'status': {
        const { code, reason, retryAfterSeconds } = fault;
        const body = JSON.stringify(
          status({ code, message: 'planned failure', ...(reason === undefined ? {} : { reason }) }),
        );
        response.writeHead(code, {
          'Content-Type': 'application/json',
          ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
        });
        response.end(body);
        return;
      }
      case 'plain-404':
        plain404(response);
        return;
      case 'html':
        response.writeHead(fault.code, { 'Content-Type': 'text/html' }).end('<html><body>gateway</body></html>');
        return;
      case 'reset':
        response.socket?.destroy();
        return;
      case 'hang':
    }
  }

  #delay(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#delays.delete(timer);
        resolve();
      }, ms);
      this.#delays.add(timer);
    });
  }
}

function verbOf(method: string, target: Target, watch: boolean): string {
  switch (method) {
    case 'GET':
      return target.name === undefined ? (watch ? 'watch' : 'list') : 'get';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    default:
      return method.toLowerCase();
  }
}

function plain404(response: ServerResponse): void {
  response.writeHead(404, {
    'Cache-Control': 'no-cache, private',
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': 19,
  });
  response.end('404 page not found\n');
}

/** Closes the connection once so many bytes of the body have been written. */
function cutAfter(response: ServerResponse, bytes: number): void {
  let left = bytes;
  const write = response.write.bind(response);
  response.write = (chunk: unknown): boolean => {
    const data = Buffer.from(String(chunk));
    if (left <= 0) return false;
    const part = data.subarray(0, left);
    left -= part.length;
    return write(part, () => {
      if (left <= 0) response.socket?.destroy();
    });
  };
}

function discovery(group: string, version: string): Answer {
  const own = RESOURCES.filter((resource) => resource.group === group && resource.version === version);
  return {
    code: 200,
    body: {
      kind: 'APIResourceList',
      apiVersion: 'v1',
      groupVersion: group === '' ? version : `${group}/${version}`,
      resources: own.map(({ plural, kind, namespaced }) => ({
        name: plural,
        singularName: kind.toLowerCase(),
        namespaced,
        kind,
        verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
      })),
    },
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) if (chunk instanceof Uint8Array) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function resourceOf(object: Json): ServedResource {
  const found = RESOURCES.find(
    (resource) => resource.kind === object['kind'] && apiVersionOf(resource) === object['apiVersion'],
  );
  if (!found) throw new Error(`not served: ${String(object['apiVersion'])} ${String(object['kind'])}`);
  return found;
}

function resourceNamed(kind: string): ServedResource {
  const found = RESOURCES.find((resource) => resource.kind === kind);
  if (!found) throw new Error(`not served: ${kind}`);
  return found;
}
