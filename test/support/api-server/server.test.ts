import { afterEach, beforeEach, expect, test } from 'vitest';
import { createHttpClient, type HttpClient } from '../../../src/system/http-client.ts';
import { child, type Json } from './json.ts';
import { startTestApiServer, type TestApiServer, type TestApiServerOptions } from './server.ts';

// What a real kube-apiserver 1.36 was seen to answer, so that what is tested against this server holds there.

let server: TestApiServer;
let client: HttpClient;

async function start(options: TestApiServerOptions = {}): Promise<void> {
  server = await startTestApiServer(options);
  client = createHttpClient({ server: server.url });
}

beforeEach(() => start());

afterEach(async () => {
  client.close();
  await server.stop();
});

interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Json;
}

async function ask(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answered> {
  const sent = typeof body === 'string' ? body : body === undefined ? undefined : JSON.stringify(body);
  const response = await client.request({
    method,
    path,
    headers: {
      Accept: 'application/json',
      ...(sent === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...headers,
    },
    ...(sent === undefined ? {} : { body: sent }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: response.headers['content-type'] === 'application/json' ? (JSON.parse(text) as Json) : { text },
  };
}

const SERVICES = '/api/v1/namespaces/default/services';

const service = (name: string, spec: object = {}, metadata: object = {}): Json => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, labels: { app: name }, ...metadata },
  spec: { selector: { app: name }, ports: [{ port: 80, targetPort: 'http' }], ...spec },
});

async function fill(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await ask('POST', SERVICES, service(`s${i}`));
}

async function watch(query: string): Promise<{ readonly status: number; readonly lines: readonly Json[] }> {
  const response = await client.request({ path: `/api/v1/services?watch=1&${query}` });
  const text = await response.text();
  return {
    status: response.status,
    lines: text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Json),
  };
}

const types = (lines: readonly Json[]): readonly unknown[] => lines.map((line) => line['type']);
const names = (list: Json): readonly unknown[] =>
  (list['items'] as Json[]).map((item) => child(item, 'metadata')['name']);

test('a list comes in pages of one version, whatever is written meanwhile', async () => {
  await fill(5);
  const first = await ask('GET', '/api/v1/services?limit=2');
  const metadata = child(first.body, 'metadata');
  expect(first.status).toBe(200);
  expect(first.headers).toMatchObject({ 'cache-control': 'no-cache, private', 'content-type': 'application/json' });
  expect(first.body).toMatchObject({ kind: 'ServiceList', apiVersion: 'v1' });
  expect(metadata).toMatchObject({ remainingItemCount: 3, resourceVersion: String(server.storage.revision) });
  expect((first.body['items'] as Json[])[0]).not.toHaveProperty('kind');
  server.delete('Service', 'default/s3');
  await ask('POST', SERVICES, service('s9'));
  const second = await ask('GET', `/api/v1/services?limit=2&continue=${String(metadata['continue'])}`);
  expect(child(second.body, 'metadata')).toMatchObject({
    remainingItemCount: 1,
    resourceVersion: metadata['resourceVersion'],
  });
  expect([...names(first.body), ...names(second.body)]).toEqual(['s0', 's1', 's2', 's3']);
});

test('resourceVersion=0 answers everything, without pages', async () => {
  await fill(3);
  const { body } = await ask('GET', '/api/v1/services?resourceVersion=0&limit=2');
  expect(names(body)).toHaveLength(3);
  expect(child(body, 'metadata')).not.toHaveProperty('continue');
});

test('a stale continue token is a 410 with a token that goes on at another version', async () => {
  await fill(3);
  const first = await ask('GET', '/api/v1/services?limit=2');
  const token = String(child(first.body, 'metadata')['continue']);
  await fill(1);
  server.storage.compact();
  await ask(
    'PATCH',
    `${SERVICES}/s0`,
    { metadata: { labels: { x: 'y' } } },
    { 'Content-Type': 'application/merge-patch+json' },
  );
  server.storage.compact();
  const stale = await ask('GET', `/api/v1/services?limit=2&continue=${token}`);
  expect(stale.status).toBe(410);
  expect(stale.body).toMatchObject({ kind: 'Status', reason: 'Expired', code: 410 });
  const next = String(child(stale.body, 'metadata')['continue']);
  expect(names((await ask('GET', `/api/v1/services?limit=2&continue=${next}`)).body)).toEqual(['s2']);
  const exact = await ask('GET', '/api/v1/services?resourceVersion=201&resourceVersionMatch=Exact');
  expect([exact.status, exact.body['message']]).toEqual([410, 'The resourceVersion for the provided list is too old.']);
});

test.each<[string, string, string, number, object]>([
  ['a bad continue token', 'GET', '/api/v1/services?limit=2&continue=bad', 400, { reason: 'BadRequest' }],
  [
    'an unsupported field',
    'GET',
    '/api/v1/services?fieldSelector=spec.nosuch%3Dx',
    400,
    { message: 'field label not supported: spec.nosuch' },
  ],
  [
    'a version that is not served',
    'GET',
    '/apis/networking.k8s.io/v1beta1/ingresses',
    404,
    { message: 'the server could not find the requested resource', reason: 'NotFound', details: {} },
  ],
  ['a group that is not served', 'GET', '/apis/nosuch.example/v1/things', 404, { text: '404 page not found\n' }],
  [
    'an object that is not there',
    'GET',
    `${SERVICES}/nosuch`,
    404,
    { message: 'services "nosuch" not found', reason: 'NotFound', details: { name: 'nosuch', kind: 'services' } },
  ],
  [
    'a resourceVersion that is no number',
    'GET',
    '/api/v1/services?watch=1&resourceVersion=abc',
    500,
    { message: 'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax' },
  ],
  [
    'sendInitialEvents without its companions',
    'GET',
    '/api/v1/services?watch=1&sendInitialEvents=true',
    422,
    { reason: 'Invalid' },
  ],
])('%s', async (_title, method, path, status, body) => {
  const answer = await ask(method, path);
  expect(answer.status).toBe(status);
  expect(answer.body).toMatchObject(body);
});

test('a resourceVersion of the future is a 504 for a list, and silence for a watch', async () => {
  const list = await ask('GET', '/api/v1/services?resourceVersion=999999999');
  expect(list.status).toBe(504);
  expect(list.headers['retry-after']).toBe('1');
  expect(list.body).toMatchObject({ reason: 'Timeout', details: { causes: [{ reason: 'ResourceVersionTooLarge' }] } });
  expect(await watch('timeoutSeconds=0.2&resourceVersion=999999999')).toEqual({ status: 200, lines: [] });
});

test('what the server fills in', async () => {
  const made = await ask('POST', SERVICES, service('np', { type: 'NodePort' }));
  expect(made.status).toBe(201);
  expect(child(made.body, 'spec')).toMatchObject({
    ports: [{ protocol: 'TCP', port: 80, targetPort: 'http', nodePort: 30_000 }],
    clusterIP: '10.96.0.10',
    clusterIPs: ['10.96.0.10'],
    sessionAffinity: 'None',
    externalTrafficPolicy: 'Cluster',
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
    internalTrafficPolicy: 'Cluster',
  });
  const out = await ask('POST', SERVICES, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'en' },
    spec: { type: 'ExternalName', externalName: 'www.example.com' },
  });
  expect(out.body['spec']).toEqual({ type: 'ExternalName', sessionAffinity: 'None', externalName: 'www.example.com' });
});

test('writes that are refused', async () => {
  await fill(1);
  const again = await ask('POST', SERVICES, service('s0'));
  expect([again.status, again.body['message']]).toEqual([409, 'services "s0" already exists']);
  const bad = await ask('POST', SERVICES, service('bad', { ports: [{ port: 70_000 }] }));
  expect([bad.status, bad.body['message']]).toEqual([
    422,
    'Service "bad" is invalid: [spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive]',
  ]);
  expect(child(bad.body, 'details')['causes']).toHaveLength(2);
  const taken = await ask('POST', SERVICES, service('dup', { clusterIP: '10.96.0.10' }));
  expect(taken.body['message']).toBe(
    'Service "dup" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated',
  );
  expect((await ask('POST', SERVICES, '{bad json')).status).toBe(400);
  expect((await ask('POST', SERVICES, service('x'), { 'Content-Type': 'text/plain' })).status).toBe(415);
  expect((await ask('GET', SERVICES, undefined, { Accept: 'text/xml' })).status).toBe(406);
});

test('a PUT of an old version is a conflict; patches and the status subresource do their part', async () => {
  await fill(1);
  const { body: old } = await ask('GET', `${SERVICES}/s0`);
  const merge = { 'Content-Type': 'application/merge-patch+json' };
  const patched = await ask('PATCH', `${SERVICES}/s0`, { metadata: { labels: { x: 'y' } } }, merge);
  expect(child(child(patched.body, 'metadata'), 'labels')).toEqual({ app: 's0', x: 'y' });
  const stale = await ask('PUT', `${SERVICES}/s0`, old);
  expect(stale.status).toBe(409);
  expect(stale.body).toMatchObject({ reason: 'Conflict', details: { name: 's0', kind: 'services' } });
  const failing = [{ op: 'test', path: '/metadata/labels/x', value: 'no' }];
  const json = { 'Content-Type': 'application/json-patch+json' };
  expect((await ask('PATCH', `${SERVICES}/s0`, failing, json)).status).toBe(422);
  const replacing = [{ op: 'replace', path: '/metadata/labels/x', value: 'z' }];
  expect(child(child((await ask('PATCH', `${SERVICES}/s0`, replacing, json)).body, 'metadata'), 'labels')['x']).toBe(
    'z',
  );
  const status = { status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } }, spec: { type: 'NodePort' } };
  const withStatus = await ask('PATCH', `${SERVICES}/s0/status`, status, merge);
  expect(withStatus.body['status']).toEqual({ loadBalancer: { ingress: [{ ip: '192.0.2.1', ipMode: 'VIP' }] } });
  expect(child(withStatus.body, 'spec')['type']).toBe('ClusterIP');
  const gone = await ask('DELETE', `${SERVICES}/s0`);
  expect([gone.status, gone.body['kind']]).toEqual([200, 'Service']);
});

test('times of Leases and Events need six decimals', async () => {
  const path = '/apis/coordination.k8s.io/v1/namespaces/default/leases';
  const lease = (renewTime: string): Json => ({
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: 'l' },
    spec: { renewTime },
  });
  const refused = await ask('POST', path, lease('2026-01-01T00:00:00Z'));
  expect([refused.status, refused.body['message']]).toEqual([
    400,
    'Lease in version "v1" cannot be handled as a Lease: parsing time "2026-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"',
  ]);
  expect((await ask('POST', path, lease('2026-01-01T00:00:00.000000Z'))).status).toBe(201);
  const event = { apiVersion: 'events.k8s.io/v1', kind: 'Event', metadata: { generateName: 'i1-' } };
  const events = '/apis/events.k8s.io/v1/namespaces/default/events';
  expect((await ask('POST', events, event)).body['message']).toContain('eventTime: Required value');
  expect((await ask('POST', events, { ...event, eventTime: '2026-01-01T00:00:00.000000Z' })).status).toBe(201);
});

test('a watch brings what happened since its version, and bookmarks', async () => {
  await fill(1);
  const from = server.storage.revision;
  await ask('POST', SERVICES, service('w1'));
  server.apply(service('w1', {}, { labels: { a: 'b' } }));
  server.delete('Service', 'default/w1');
  const { status, lines } = await watch(`allowWatchBookmarks=true&timeoutSeconds=0.3&resourceVersion=${from}`);
  expect(status).toBe(200);
  expect(types(lines)).toEqual(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK']);
  expect(lines.map((line) => child(child(line, 'object'), 'metadata')['resourceVersion'])).toEqual(
    [1, 2, 3, 3].map((step) => String(from + step)),
  );
});

test('without a version, or from 0, a watch begins with what is there; WatchList marks the end of that', async () => {
  await fill(2);
  expect(types((await watch('timeoutSeconds=0.1&labelSelector=app%3Ds0')).lines)).toEqual(['ADDED']);
  expect(types((await watch('timeoutSeconds=0.1&resourceVersion=0')).lines)).toEqual(['ADDED', 'ADDED']);
  const query = 'sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=0.1';
  const { lines } = await watch(`${query}&labelSelector=app%20in%20(s0,s2)`);
  expect(types(lines).slice(0, 2)).toEqual(['ADDED', 'BOOKMARK']);
  expect(child(child(lines[1] ?? {}, 'object'), 'metadata')['annotations']).toEqual({
    'k8s.io/initial-events-end': 'true',
  });
});

test('a watch from a compacted version is a 200 with an ERROR event of code 410', async () => {
  await fill(2);
  server.storage.compact();
  const { status, lines } = await watch('timeoutSeconds=1&resourceVersion=201');
  expect(status).toBe(200);
  expect(lines).toMatchObject([{ type: 'ERROR', object: { kind: 'Status', reason: 'Expired', code: 410 } }]);
});

test('to a selecting watch, an object that stops to match is deleted', async () => {
  await fill(1);
  const from = server.storage.revision;
  server.apply(service('s0', {}, { labels: { app: 'other' } }));
  server.apply(service('s0', {}, { labels: { app: 's0' } }));
  const { lines } = await watch(`timeoutSeconds=0.1&resourceVersion=${from}&labelSelector=app%3Ds0`);
  expect(types(lines)).toEqual(['DELETED', 'ADDED']);
});

test('refusals by who asks', async () => {
  await server.stop();
  client.close();
  const may = (verb: string, resource: string): boolean => verb === 'get' && resource === 'pods';
  await start({ users: new Map([['t', { name: 'viewer', may }]]) });
  const bad = await ask('GET', '/api/v1/services', undefined, { Authorization: 'Bearer wrong' });
  expect([bad.status, bad.body['message']]).toEqual([401, 'Unauthorized']);
  const nobody = await ask('GET', '/api/v1/services');
  expect([nobody.status, nobody.body['message']]).toEqual([
    403,
    'services is forbidden: User "system:anonymous" cannot list resource "services" in API group "" at the cluster scope',
  ]);
  const own = { Authorization: 'Bearer t' };
  const one = await ask('GET', `${SERVICES}/s0`, undefined, own);
  expect(one.body['message']).toBe(
    'services "s0" is forbidden: User "viewer" cannot get resource "services" in API group "" in the namespace "default"',
  );
  const ingress = '/apis/networking.k8s.io/v1/namespaces/default/ingresses/i1/status';
  const status = await ask('PATCH', ingress, {}, { ...own, 'Content-Type': 'application/merge-patch+json' });
  expect(status.body).toMatchObject({
    message:
      'ingresses.networking.k8s.io "i1" is forbidden: User "viewer" cannot patch resource "ingresses/status" in API group "networking.k8s.io" in the namespace "default"',
    details: { name: 'i1', group: 'networking.k8s.io', kind: 'ingresses' },
  });
});

test('a list over 128 KiB is compressed', async () => {
  server.apply(...Array.from({ length: 300 }, (_, i) => service(`s${i}`, {}, { annotations: { a: 'x'.repeat(500) } })));
  const { headers, body } = await ask('GET', '/api/v1/services');
  expect(headers['content-encoding']).toBe('gzip');
  expect(names(body)).toHaveLength(300);
});
