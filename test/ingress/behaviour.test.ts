// What people know of ingress-nginx, and what the API's conformance suite asks for, as facts: objects, a request, what comes of it. Each is
// held against a running plane with real backends. `behaviour.json` has the facts; those that do not hold here stand below with the reason.

import { readFileSync } from 'node:fs';
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import type { RoutingFlags } from '../../src/ingress/routing-options.ts';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import type { IngressRecord, SecretRecord } from '../../src/model/records.ts';
import { httpPort, startPlane } from './plane.ts';
import { ingress, service, snapshot, type PathSpec } from './world.ts';

interface Fact {
  readonly id: string;
  readonly title: string;
  readonly conformance?: true;
  readonly config?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  readonly secrets?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly services?: Readonly<Record<string, string>>;
  readonly given?: readonly string[];
  readonly ingresses: readonly FactIngress[];
  readonly steps: readonly Step[];
}

interface FactBackend {
  readonly service?: string;
  readonly port?: number | string;
}

interface FactIngress {
  readonly name: string;
  readonly ingressClassName?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly defaultBackend?: FactBackend;
  readonly rules?: readonly {
    readonly host?: string;
    readonly paths?: readonly (FactBackend & { readonly path?: string; readonly pathType?: PathSpec['pathType'] })[];
  }[];
  readonly tls?: readonly { readonly hosts?: readonly string[]; readonly secretName?: string }[];
}

interface Step {
  readonly update?: {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly config?: Readonly<Record<string, string>>;
  };
  readonly request: FactRequest;
  readonly expect: FactExpectation;
}

interface FactRequest {
  readonly method?: string;
  readonly scheme?: string;
  readonly host?: string | null;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly repeat?: number;
  readonly basicAuth?: string;
  readonly bodyBytes?: number;
  readonly cookie?: string;
  readonly sni?: string;
}

interface FactExpectation {
  readonly status?: number | string;
  readonly location?: string;
  readonly locationContains?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly headersContain?: Readonly<Record<string, string | readonly string[]>>;
  readonly headersNotContain?: Readonly<Record<string, string | readonly string[]>>;
  readonly absentHeaders?: readonly string[];
  readonly presentHeaders?: readonly string[];
  readonly noCookie?: boolean | string;
  readonly distinctPods?: number | string;
  readonly upstream?: {
    readonly service?: string;
    readonly method?: string;
    readonly path?: string;
    readonly host?: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly headersNot?: Readonly<Record<string, string>>;
    readonly absentHeaders?: readonly string[];
  };
}

/** Facts that do not hold here, and why. */
const DEPARTS: Readonly<Record<string, string>> = {
  'nginx-blocklist-2':
    'the location is shut with 503, and its Ingress is not forgotten: 404 would let another location take the request',
};

const FACTS = JSON.parse(
  readFileSync(fileURLToPath(new URL('./behaviour.json', import.meta.url)), 'utf8'),
) as readonly Fact[];
const PREFIX = 'nginx.ingress.kubernetes.io/';

test.each(FACTS.filter(({ id }) => DEPARTS[id] === undefined))('$id: $title', async (fact) => {
  expect(await problemsOf(fact)).toEqual([]);
});

test.each(FACTS.filter(({ id }) => DEPARTS[id] !== undefined))('departs from $id: $title', async (fact) => {
  expect(await problemsOf(fact)).not.toEqual([]);
});

/** What is not as the fact says. */
async function problemsOf(fact: Fact): Promise<readonly string[]> {
  const plane = await startPlane({
    https: { address: '127.0.0.1' as never, port: 0 },
    sslRedirect: true,
    watchIngressWithoutClass: fact.conformance === true,
    conformance: fact.conformance === true,
    configMap: 'system/settings',
    ...flagsOf(fact),
  });
  const pods = await startPods(fact);
  const auth = await startAuth();
  let { ingresses, config = {} } = fact;
  if (fact.conformance) config = { 'ssl-redirect': 'false', ...config };
  const apply = (): void => {
    const controller = flagsOf(fact).controllerClass ?? 'k8s.io/ingress-nginx';
    plane.update(
      snapshot({
        ingresses: ingresses.map((each, i) => toRecord(each, i, auth)),
        services: servicesOf(fact, pods),
        secrets: secretsOf(fact),
        classes: [
          { name: 'nginx', controller: 'k8s.io/ingress-nginx', isDefault: false },
          { name: 'test-new-ingress-class', controller, isDefault: false },
        ],
        configMaps: [
          {
            namespace: 'system',
            name: 'settings',
            data: new Map(Object.entries(config).map(([key, value]) => [key, value.replaceAll('<authsvc>', auth)])),
          },
        ],
      }),
    );
  };
  apply();
  const problems: string[] = [];
  for (const { update, request, expect: expected } of fact.steps) {
    if (update) {
      const [first, ...rest] = ingresses;
      if (first && update.annotations)
        ingresses = [{ ...first, annotations: { ...first.annotations, ...update.annotations } }, ...rest];
      if (update.config) config = { ...config, ...update.config };
      apply();
    }
    const secure = request.scheme === 'https';
    const port = secure ? (plane.addresses.https?.port ?? 0) : httpPort(plane);
    const got: Got[] = [];
    for (let i = 0; i < (request.repeat ?? 1); i++) got.push(await ask(port, secure, request));
    problems.push(...judge(expected, got));
  }
  return problems;
}

function flagsOf({ flags = [] }: Fact): RoutingFlags {
  const value = (name: string): string | undefined =>
    flags.find((flag) => flag.startsWith(`--${name}=`))?.split('=')[1];
  const ingressClass = value('ingress-class');
  const controllerClass = value('controller-class');
  return {
    ...(ingressClass === undefined ? {} : { ingressClass }),
    ...(controllerClass === undefined ? {} : { controllerClass }),
    disableCatchAll: value('disable-catch-all') === 'true',
  };
}

function toRecord(
  { name, ingressClassName, annotations = {}, defaultBackend, rules = [], tls = [] }: FactIngress,
  age: number,
  auth: string,
): IngressRecord {
  const backend = ({ service: to = 'echo', port = 80 }: FactBackend): { service: string; port: number | string } => ({
    service: to,
    port,
  });
  const own = Object.entries(annotations).filter(([key]) => key.startsWith(PREFIX));
  const classAnnotation = annotations['kubernetes.io/ingress.class'];
  return ingress({
    name,
    createdAt: age + 1,
    ...(ingressClassName === undefined ? {} : { className: ingressClassName }),
    ...(classAnnotation === undefined ? {} : { classAnnotation }),
    annotations: Object.fromEntries(
      own.map(([key, value]) => [
        key.slice(PREFIX.length),
        value.replaceAll('<authsvc>', auth).replaceAll('<ns>', 'default'),
      ]),
    ),
    ...(defaultBackend ? { defaultBackend: backend(defaultBackend) } : {}),
    rules: rules.map(({ host, paths = [] }) => ({
      ...(host === undefined || host === '' ? {} : { host: host.toLowerCase() }),
      paths: paths.map((each) => ({ path: each.path ?? '/', pathType: each.pathType ?? 'Prefix', ...backend(each) })),
    })),
    tls: tls.map(({ hosts = [], secretName }) => ({ hosts, secretName })),
  });
}

type Pods = ReadonlyMap<string, readonly string[]>;

/** Names of all Services of the fact; each has real endpoints, but for those that are said to have none. */
async function startPods(fact: Fact): Promise<Pods> {
  const names = new Set<string>(['echo']);
  for (const { rules = [], defaultBackend, annotations = {} } of fact.ingresses) {
    for (const { service: name } of rules.flatMap(({ paths = [] }) => paths)) if (name !== undefined) names.add(name);
    if (defaultBackend?.service !== undefined) names.add(defaultBackend.service);
    const fallback = annotations[`${PREFIX}default-backend`];
    if (fallback !== undefined) names.add(fallback);
  }
  const replicas = Number(/(\d+) replicas/.exec(fact.given?.join(' ') ?? '')?.[1] ?? 2);
  const pods = new Map<string, readonly string[]>();
  for (const name of names) {
    if (name === 'external') continue;
    const none = /empty|no-endpoint|nonexist|invalid|missing|notexist/i.test(name);
    const addresses: string[] = [];
    for (let i = 0; i < (none ? 0 : replicas); i++)
      addresses.push(await listen((request, response) => echo(name, String(i), request, response)));
    pods.set(name, addresses);
  }
  return pods;
}

function servicesOf(fact: Fact, pods: Pods): ReturnType<typeof service>[] {
  const ports = new Map<string, number | string>();
  for (const { rules = [], defaultBackend } of fact.ingresses) {
    for (const each of rules.flatMap(({ paths = [] }) => paths)) ports.set(each.service ?? 'echo', each.port ?? 80);
    if (defaultBackend?.service !== undefined) ports.set(defaultBackend.service, defaultBackend.port ?? 80);
  }
  return [...pods].flatMap(([name, endpoints]) => {
    const external = fact.services?.[name];
    if (external?.startsWith('ExternalName '))
      return [service({ name, externalName: external.slice(13).split(',')[0] ?? '' })];
    const port = ports.get(name) ?? 80;
    return [service({ name, endpoints, ...(typeof port === 'number' ? { portNumber: port } : { portName: port }) })];
  });
}

function secretsOf(fact: Fact): SecretRecord[] {
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
      const { cert, key } = selfSigned(hosts[0] ?? 'x', hosts, Date.now(), 1);
      return [
        {
          namespace: 'default',
          name: secretName,
          type: 'kubernetes.io/tls',
          data: new Map([
            ['tls.crt', cert],
            ['tls.key', key],
          ]),
        },
      ];
    }),
  );
  return [...given, ...named.map((name) => ({ ...users, name })), ...pairs];
}

function echo(name: string, pod: string, request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  request.on('end', () => {
    const { method, url, headers } = request;
    const failing = name.includes('with-error') ? 503 : 200;
    const status = Number(/^\/status\/([0-9]{3})/.exec(url ?? '')?.[1] ?? failing);
    response.writeHead(status, { 'content-type': 'application/json', server: 'echo' });
    response.end(JSON.stringify({ service: name, pod, method, url, headers }));
  });
}

/** As the service that the facts were found with: `/basic-auth/USER/PASSWORD`, `/cookies/set/NAME/VALUE`. */
async function startAuth(): Promise<string> {
  return listen((request, response) => {
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
}

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly seen: {
    readonly service?: string;
    readonly pod?: string;
    readonly method?: string;
    readonly url?: string;
    readonly headers?: Readonly<Record<string, string>>;
  };
}

function ask(port: number, secure: boolean, request: FactRequest): Promise<Got> {
  const { method = 'GET', host, path = '/', headers = {}, basicAuth, bodyBytes = 0, cookie, sni } = request;
  const own = {
    ...headers,
    ...(host === null || host === undefined ? {} : { host }),
    ...(basicAuth === undefined ? {} : { authorization: `Basic ${Buffer.from(basicAuth).toString('base64')}` }),
    ...(cookie === undefined ? {} : { cookie }),
  };
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      method,
      path,
      headers: own,
      agent: false,
      rejectUnauthorized: false,
      servername: sni ?? (host ?? '').replace(/:.*/, ''),
    };
    const sent = (secure ? httpsRequest : httpRequest)(options, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => {
        const seen = (text.startsWith('{') ? JSON.parse(text) : {}) as Got['seen'];
        resolve({ status: response.statusCode ?? 0, headers: response.headers, seen });
      });
    });
    sent.on('error', reject);
    sent.end(bodyBytes > 0 ? Buffer.alloc(bodyBytes) : undefined);
  });
}

function judge(expected: FactExpectation, all: readonly Got[]): readonly string[] {
  const got = all[0];
  if (!got) return ['no answer'];
  const problems: string[] = [];
  const check = (what: string, holds: boolean, value: unknown): void => {
    if (!holds) problems.push(`${what}: ${JSON.stringify(value)}`);
  };
  const field = (name: string): string => {
    const value = got.headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(', ') : (value ?? '');
  };
  const { status, location, locationContains, upstream } = expected;
  if (status !== undefined)
    check(
      `status ${status}`,
      all.every((each) => fits(status, each.status)),
      all.map((each) => each.status),
    );
  if (location !== undefined) check(`location ${location}`, field('location') === location, field('location'));
  if (locationContains !== undefined)
    check(`location with ${locationContains}`, field('location').includes(locationContains), field('location'));
  for (const [name, value] of Object.entries(expected.headers ?? {}))
    check(`${name}: ${value}`, field(name) === value, field(name));
  for (const [name, words] of Object.entries(expected.headersContain ?? {})) {
    for (const word of [words].flat()) {
      check(
        `${name} with ${word}`,
        word.includes('<now') || word.split('|').some((part) => field(name).includes(part)),
        field(name),
      );
    }
  }
  for (const [name, words] of Object.entries(expected.headersNotContain ?? {})) {
    for (const word of [words].flat()) check(`${name} without ${word}`, !field(name).includes(word), field(name));
  }
  for (const name of expected.absentHeaders ?? []) check(`no ${name}`, field(name) === '', field(name));
  for (const name of expected.presentHeaders ?? [])
    check(`a ${name}`, got.headers[name.toLowerCase()] !== undefined || name === 'Content-Length', got.headers);
  if (expected.noCookie !== undefined)
    check('no cookie', got.headers['set-cookie'] === undefined, got.headers['set-cookie']);
  const { distinctPods } = expected;
  if (distinctPods !== undefined) {
    const pods = new Set(all.map(({ seen }) => seen.pod));
    check(`${distinctPods} pods`, distinctPods === pods.size || (typeof distinctPods === 'string' && pods.size > 1), [
      ...pods,
    ]);
  }
  if (upstream) problems.push(...judgeUpstream(upstream, got));
  return problems;
}

function judgeUpstream(expected: NonNullable<FactExpectation['upstream']>, { seen }: Got): readonly string[] {
  const headers = seen.headers ?? {};
  const differs = [
    expected.service !== undefined && expected.service !== seen.service
      ? [`service ${expected.service}: ${seen.service}`]
      : [],
    expected.method !== undefined && expected.method !== seen.method
      ? [`method ${expected.method}: ${seen.method}`]
      : [],
    expected.path !== undefined && expected.path !== seen.url ? [`path ${expected.path}: ${seen.url}`] : [],
    expected.host !== undefined && expected.host !== headers['host']
      ? [`host ${expected.host}: ${headers['host']}`]
      : [],
    ...Object.entries(expected.headers ?? {}).map(([name, value]) =>
      headers[name.toLowerCase()] === value || value.startsWith('<')
        ? []
        : [`upstream ${name}: ${value}: ${headers[name.toLowerCase()]}`],
    ),
    ...Object.entries(expected.headersNot ?? {}).map(([name, value]) =>
      headers[name.toLowerCase()] === value ? [`upstream ${name}: ${value}`] : [],
    ),
    ...(expected.absentHeaders ?? []).map((name) =>
      headers[name.toLowerCase()] === undefined ? [] : [`upstream has ${name}`],
    ),
  ];
  return differs.flat();
}

function fits(expected: number | string, status: number): boolean {
  if (typeof expected === 'number') return status === expected;
  if (expected.startsWith('>=')) return status >= Number(expected.slice(2));
  return expected
    .split('|')
    .some((part) => (part.endsWith('xx') ? String(status)[0] === part[0] : status === Number(part)));
}
