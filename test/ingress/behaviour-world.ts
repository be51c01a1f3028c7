// The world of a fact: backends that say what they were asked, a service that decides on access, Secrets and requests.

import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { onTestFinished } from 'vitest';
import { selfSigned, type CertificatePair } from '../../src/ingress/self-signed.ts';
import type { SecretRecord } from '../../src/model/records.ts';
import type { Fact, FactRequest } from './behaviour-fact.ts';
import type { Got } from './behaviour-judge.ts';
import { service } from './world.ts';

export const PREFIX = 'nginx.ingress.kubernetes.io/';

/** Of clients that show one; their own authority. */
const CLIENT = selfSigned('authtls', ['authtls'], Date.now(), 30);

export interface Pods {
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  /** Requests to `slowecho` that wait for their answer. */
  readonly held: (() => void)[];
  /** Requests to backends so far. */
  readonly counts: { requests: number };
}

/** Names of all Services of the fact; each has real endpoints, but for those that are said to have none. */
export async function startPods(fact: Fact): Promise<Pods> {
  const names = new Set<string>(['echo']);
  for (const { rules = [], defaultBackend, annotations = {} } of fact.ingresses) {
    for (const { service: name } of rules.flatMap(({ paths = [] }) => paths)) if (name !== undefined) names.add(name);
    if (defaultBackend?.service !== undefined) names.add(defaultBackend.service);
    const fallback = annotations[`${PREFIX}default-backend`];
    if (fallback !== undefined) names.add(fallback);
  }
  const replicas = Number(/(\d+) replicas/.exec(fact.given?.join(' ') ?? '')?.[1] ?? 2);
  const addresses = new Map<string, readonly string[]>();
  const pods: Pods = { addresses, held: [], counts: { requests: 0 } };
  for (const name of names) {
    if (name === 'external') continue;
    const none = /empty|no-endpoint|nonexist|invalid|missing|notexist/i.test(name);
    const own: string[] = [];
    for (let i = 0; i < (none ? 0 : replicas); i++) own.push(await startPod(name, String(i), pods));
    addresses.set(name, own);
  }
  return pods;
}

async function startPod(name: string, pod: string, pods: Pods): Promise<string> {
  if (name.startsWith('grpc')) return startGrpcPod(name, pod);
  const { address } = await listen((request, response) => {
    pods.counts.requests++;
    const answer = (): void => echo(name, pod, pods, request, response);
    if (name === 'slowecho' && request.url?.startsWith('/sleep/')) pods.held.push(answer);
    else answer();
  });
  return address;
}

/** One call that is answered with OK in its trailers. */
async function startGrpcPod(name: string, pod: string): Promise<string> {
  const server = createHttp2Server((request, response) => {
    const { method, url, headers } = request;
    const seen = Object.fromEntries(Object.entries(headers).map(([key, value]) => [key, String(value)]));
    response.writeHead(200, { 'content-type': 'application/grpc', trailer: 'grpc-status' });
    response.addTrailers({ 'grpc-status': '0' });
    response.end(JSON.stringify({ service: name, pod, method, url, headers: seen }));
  });
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function servicesOf(fact: Fact, { addresses }: Pods): ReturnType<typeof service>[] {
  const ports = new Map<string, number | string>();
  for (const { rules = [], defaultBackend } of fact.ingresses) {
    for (const each of rules.flatMap(({ paths = [] }) => paths)) ports.set(each.service ?? 'echo', each.port ?? 80);
    if (defaultBackend?.service !== undefined) ports.set(defaultBackend.service, defaultBackend.port ?? 80);
  }
  return [...addresses].flatMap(([name, endpoints]) => {
    const external = fact.services?.[name];
    if (external?.startsWith('ExternalName '))
      return [service({ name, externalName: external.slice(13).split(',')[0] ?? '' })];
    const port = ports.get(name) ?? 80;
    return [service({ name, endpoints, ...(typeof port === 'number' ? { portNumber: port } : { portName: port }) })];
  });
}

export function secretsOf(fact: Fact): SecretRecord[] {
  const given = Object.entries(fact.secrets ?? {}).map(([name, data]) => ({
    namespace: 'default',
    name,
    type: 'Opaque',
    data: new Map(Object.entries(data)),
  }));
  const users = { namespace: 'default', type: 'Opaque', data: new Map([['auth', 'foo:{PLAIN}bar\n']]) };
  const named = fact.ingresses
    .flatMap(({ annotations = {} }) => annotations[`${PREFIX}auth-secret`] ?? [])
    .filter((name) => !fact.secrets?.[name]);
  const pairs = fact.ingresses.flatMap(({ tls = [] }) =>
    tls.flatMap(({ hosts = [], secretName }) => {
      if (secretName === undefined || fact.secrets?.[secretName] || /invalid|missing|bad/.test(secretName)) return [];
      const other = new RegExp(`certificate of ${secretName} for (\\S+)`).exec(fact.given?.join(' ') ?? '')?.[1];
      const names = other === undefined ? hosts : [other];
      return [pairSecret(secretName, selfSigned(names[0] ?? 'x', names, Date.now(), 1))];
    }),
  );
  const own = defaultCertificateOf(fact);
  const name = own?.split('/')[1];
  const certificate = name === undefined ? [] : [pairSecret(name, selfSigned(name, [name], Date.now(), 1))];
  return [...given, ...named.map((each) => ({ ...users, name: each })), ...pairs, ...certificate];
}

/** `--default-ssl-certificate`. */
export function defaultCertificateOf({ flags = [] }: Fact): string | undefined {
  return flags.find((flag) => flag.startsWith('--default-ssl-certificate='))?.split('=')[1];
}

/** With the authority of the client's certificate. */
function pairSecret(name: string, { cert, key }: CertificatePair): SecretRecord {
  const data = new Map([
    ['tls.crt', cert],
    ['tls.key', key],
    ['ca.crt', CLIENT.cert],
  ]);
  return { namespace: 'default', name, type: 'kubernetes.io/tls', data };
}

function echo(name: string, pod: string, pods: Pods, request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  request.on('end', () => {
    const { method, url, headers } = request;
    const plain = plainAnswer(url ?? '');
    if (plain) {
      response.writeHead(200, { 'content-type': plain.type, 'content-length': plain.body.length }).end(plain.body);
      return;
    }
    const failing =
      name.includes('with-error') || pods.counts.requests <= Number(/fail=([0-9])/.exec(url ?? '')?.[1] ?? 0);
    const status = Number(/^\/status\/([0-9]{3})/.exec(url ?? '')?.[1] ?? (failing ? 503 : 200));
    response.writeHead(status, { 'content-type': 'application/json', server: 'echo' });
    response.end(JSON.stringify({ service: name, pod, method, url, headers }));
  });
}

/** `/xml`, `/html`, and `/bytes/N` of no kind in particular. */
function plainAnswer(url: string): { readonly type: string; readonly body: string } | undefined {
  const bytes = /^\/bytes\/([0-9]+)$/.exec(url)?.[1];
  if (bytes !== undefined) return { type: 'application/octet-stream', body: 'x'.repeat(Number(bytes)) };
  const kind = /^\/(xml|html)$/.exec(url)?.[1];
  if (kind === undefined) return undefined;
  return { type: kind === 'xml' ? 'application/xml' : 'text/html', body: '<p>text</p>'.repeat(100) };
}

export interface AuthService {
  readonly address: string;
  stop(): void;
}

/** As the service that the facts were found with: `/basic-auth/USER/PASSWORD`, `/cookies/set/NAME/VALUE`. */
export async function startAuth(): Promise<AuthService> {
  const { address, server } = await listen((request, response) => {
    const [, what, first = '', second = ''] = (request.url ?? '')
      .split(/[/?]/)
      .filter((part, i) => i === 0 || part !== '');
    if (what === 'cookies') {
      response.writeHead(200, { 'set-cookie': `alma=armud` }).end();
      return;
    }
    const pair = Buffer.from((request.headers.authorization ?? '').replace(/^Basic /, ''), 'base64').toString();
    const denied = what === 'deny' || (what === 'basic-auth' && pair !== `${first}:${second}`);
    response.writeHead(denied ? 401 : 200).end();
  });
  return {
    address,
    stop: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { address: `127.0.0.1:${portOf(server)}`, server };
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** `port` is that of the scheme. */
export async function ask(port: number, asked: FactRequest): Promise<Got> {
  if (asked.protocol === 'grpc-h2c') return call(port, asked);
  const { method = 'GET', scheme, host, path = '/', headers = {}, basicAuth, bodyBytes = 0, cookie } = asked;
  const secure = scheme === 'https';
  const own = {
    ...headers,
    ...(host === null || host === undefined ? {} : { host }),
    ...(basicAuth === undefined ? {} : { authorization: `Basic ${Buffer.from(basicAuth).toString('base64')}` }),
    ...(cookie === undefined ? {} : { cookie }),
  };
  const tls = tlsOf(asked);
  const behind = asked.proxyProtocol === undefined ? undefined : await openBehind(port, secure, asked);
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      method,
      path,
      headers: own,
      ...tls,
      ...(behind ? { createConnection: () => behind } : { agent: false }),
    };
    // What is behind a line of the PROXY protocol is TLS already, where it is to be.
    const sent = (secure && !behind ? httpsRequest : httpRequest)(options, (response) => {
      const certificate =
        'getPeerCertificate' in response.socket ? (response.socket as TLSSocket).getPeerCertificate() : undefined;
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => {
        const seen = (text.startsWith('{') ? JSON.parse(text) : {}) as Got['seen'];
        const names = { subject: nameIn(certificate?.subject?.CN), issuer: nameIn(certificate?.issuer?.CN) };
        resolve({ status: response.statusCode ?? 0, headers: response.headers, seen, ...names });
      });
    });
    sent.on('error', reject);
    sent.end(bodyBytes > 0 ? Buffer.alloc(bodyBytes) : undefined);
  });
}

function nameIn(name: string | readonly string[] | undefined): string | undefined {
  return typeof name === 'string' ? name : name?.[0];
}

function tlsOf({ sni, host, clientCert }: FactRequest) {
  return {
    rejectUnauthorized: false,
    servername: sni ?? (host ?? '').replace(/:.*/, ''),
    ...(clientCert === undefined ? {} : CLIENT),
  };
}

/** A connection whose first line is that of the PROXY protocol. */
async function openBehind(port: number, secure: boolean, asked: FactRequest): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.write(`${asked.proxyProtocol}\r\n`);
  if (!secure) return socket;
  const tls = connectTls({ socket, ...tlsOf(asked) });
  await new Promise<void>((resolve, reject) => {
    tls.once('secureConnect', resolve);
    tls.once('error', reject);
  });
  return tls;
}

/** A call of gRPC over HTTP/2 with prior knowledge. */
function call(port: number, { host, path = '/' }: FactRequest): Promise<Got> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  onTestFinished(() => session.destroy());
  return new Promise((resolve, reject) => {
    session.on('error', reject);
    const headers = {
      ':method': 'POST',
      ':path': path,
      ':authority': host ?? '',
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    const stream = session.request(headers);
    const got: Record<string, string> = {};
    let status = 0;
    let text = '';
    stream.on('response', (fields) => (status = Number(fields[':status'])));
    stream.on('trailers', (fields) => (got['grpc-status'] = String(fields['grpc-status'])));
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    stream.on('error', reject);
    stream.on('end', () => resolve({ status, headers: got, seen: JSON.parse(text) as Got['seen'] }));
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
  });
}
