import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ObjectKey } from '../../src/model/records.ts';
import { silentLogger, type Logger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import type { Credentials } from '../../src/source/api/credentials.ts';
import { RESOURCES } from '../../src/source/api/resource.ts';
import { startApiSource, type ApiSource, type ApiSourceOptions } from '../../src/source/api/source.ts';
import { Store, type Kind } from '../../src/source/store.ts';
import { systemClock, type Clock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import type { Fault } from '../support/api-server/faults.ts';
import type { Json } from '../support/api-server/json.ts';
import {
  startTestApiServer,
  type TestApiServer,
  type TestApiServerOptions,
  type TestUser,
} from '../support/api-server/server.ts';
import type { WatchEnd } from '../support/api-server/watch.ts';

/** How many times faster backoffs and deadlines pass; sockets are as they are, so that a busy machine must not take too long for them. */
const FAST = 50;
/** For tests that wait for deadlines. */
const VERY_FAST = 200;
let speed = FAST;
/** Of this machine's own time. */
const PATIENCE = { timeout: 30_000, interval: 5 };
const fastClock: Clock = {
  now: () => systemClock.now(),
  monotonic: () => systemClock.monotonic() * speed,
  after: (ms, call) => systemClock.after(ms / speed, call),
  sleep: (ms, signal) => systemClock.sleep(ms / speed, signal),
};

const metrics = createMetrics();

let server: TestApiServer;
let store: Store;
let lines: string[] = [];
const sources: ApiSource[] = [];

const recorder: Logger = {
  ...silentLogger,
  info: (message) => void lines.push(message),
  warn: (message) => void lines.push(message),
  error: (message) => void lines.push(message),
};

beforeEach(async () => {
  server = await startTestApiServer();
  store = new Store();
  lines = [];
  speed = FAST;
});

afterEach(async () => {
  for (const source of sources.splice(0)) await source.stop();
  await server.stop();
});

async function restartServer(options: TestApiServerOptions): Promise<void> {
  await server.stop();
  server = await startTestApiServer(options);
}

async function start(options: Partial<ApiSourceOptions> = {}): Promise<ApiSource> {
  const source = await startApiSource({
    target: { master: server.url },
    kinds: [{ kind: 'services' }, { kind: 'endpointSlices' }],
    store,
    log: recorder,
    metrics,
    clock: fastClock,
    random: Math.random,
    files: systemFiles,
    ...options,
  });
  sources.push(source);
  return source;
}

const service = (name: string, port = 80, spec: object = {}): Json => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1'], ports: [{ port }], ...spec },
});

const slice = (name: string, serviceName: string, address: string): Json => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, namespace: 'default', labels: { 'kubernetes.io/service-name': serviceName } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080, protocol: 'TCP' }],
  endpoints: [{ addresses: [address] }],
});

/** The store that one fresh reading of the server would give. */
function expected(kinds: readonly (readonly [Kind, string])[]): Store {
  const fresh = new Store();
  const put = (kind: Kind, objects: ReadonlyMap<ObjectKey, Json>): void => {
    for (const [key, object] of objects) {
      const parsed = RESOURCES[kind].parse(object);
      if (parsed.ok) fresh.apply(kind, key, parsed.record);
    }
  };
  for (const [kind, name] of kinds) put(kind, server.objects(name));
  return fresh;
}

const BOTH: readonly (readonly [Kind, string])[] = [
  ['services', 'Service'],
  ['endpointSlices', 'EndpointSlice'],
];

const plain = (of: Store): unknown => [
  new Map(of.records.services.entries()),
  new Map(of.records.endpointSlices.entries()),
];

const mirrored = (): Promise<void> => vi.waitFor(() => expect(plain(store)).toEqual(plain(expected(BOTH))), PATIENCE);

const watching = (count = 2): Promise<void> => vi.waitFor(() => expect(server.openWatches()).toBe(count), PATIENCE);

const lists = (resource = 'services'): number =>
  server.requests.filter(({ path, query }) => path.endsWith(`/${resource}`) && !query.has('watch')).length;

const portOf = (name: string): number | undefined => store.records.services.get(`default/${name}`)?.ports[0]?.port;

test('lists in pages, then follows every change', async () => {
  server.apply(...Array.from({ length: 1203 }, (_, i) => service(`s${i}`)));
  server.apply(slice('a', 's1', '10.1.0.1'));
  const source = await start();
  await source.synced();
  expect(store.records.services.size).toBe(1203);
  expect(lists()).toBe(3);
  await watching();
  server.apply(service('s0', 81), service('new'), slice('a', 's2', '10.1.0.2'));
  server.delete('Service', 'default/s1');
  await mirrored();
  expect(lists()).toBe(3);
  expect(await metrics.text()).toContain('fairlead_source_events_total{kind="services",type="DELETED"}');
});

test('asks for bookmarks and a bounded watch, from the version of the list', async () => {
  server.apply(service('a'));
  const version = String(server.storage.revision);
  await start({ kinds: [{ kind: 'services' }] });
  await watching(1);
  const query = server.requests.find((request) => request.query.has('watch'))?.query;
  expect(query?.get('allowWatchBookmarks')).toBe('true');
  expect(query?.get('resourceVersion')).toBe(version);
  expect(Number(query?.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300);
  expect(Number(query?.get('timeoutSeconds'))).toBeLessThanOrEqual(600);
});

test.each<WatchEnd>(['end', 'reset', 'cut-line'])(
  'a watch that is dropped (%s) is resumed, without a list and without a loss',
  async (how) => {
    server.apply(service('a'));
    await start();
    await watching();
    server.apply(service('a', 81));
    server.dropWatches(how);
    server.apply(service('b'));
    server.delete('Service', 'default/a');
    server.apply(service('a', 82));
    await mirrored();
    expect(portOf('a')).toBe(82);
    await watching();
    expect(lists()).toBe(1);
  },
);

test('a watch that is told it is too old lists again', async () => {
  server.apply(service('a'));
  await start();
  await watching();
  server.dropWatches('expire');
  server.apply(service('b'));
  await mirrored();
  expect(lists()).toBe(2);
});

test('a version that is compacted while no watch is open lists again', async () => {
  server.apply(service('a'));
  await start();
  await watching();
  server.faults.plan({ kind: 'status', code: 503 }, ({ watch }) => watch, 4);
  server.dropWatches('reset');
  server.delete('Service', 'default/a');
  server.apply(service('b'));
  server.storage.compact();
  await mirrored();
  expect(portOf('a')).toBeUndefined();
});

test('a continue token that went stale between two pages still gives a consistent whole', async () => {
  server.apply(...Array.from({ length: 600 }, (_, i) => service(`s${i}`)));
  server.faults.plan({ kind: 'slow', delayMs: 100 }, ({ query }) => query.has('continue'));
  await start({ kinds: [{ kind: 'services' }] });
  await vi.waitFor(() => expect(server.requests.some(({ query }) => query.has('continue'))).toBe(true), {
    timeout: 30_000,
    interval: 1,
  });
  server.delete('Service', 'default/s0');
  server.apply(service('late'));
  server.storage.compact();
  await mirrored();
  expect(store.records.services.size).toBe(600);
});

test('a watch that stays silent for all its time is not trusted: it lists again', async () => {
  speed = VERY_FAST;
  server.apply(service('a'), service('b'));
  await start({ kinds: [{ kind: 'services' }] });
  await watching(1);
  // The server was restored from a backup: its versions begin anew, and the watch waits for one that is far away.
  server.dropWatches('end');
  server.storage.revision = 1;
  server.apply(service('c'));
  await mirrored();
  expect(lists()).toBe(2);
}, 15_000);

test.each<[string, Fault]>([
  ['429', { kind: 'status', code: 429, reason: 'TooManyRequests', retryAfterSeconds: 1 }],
  ['500', { kind: 'status', code: 500, reason: 'InternalError' }],
  ['503', { kind: 'status', code: 503, retryAfterSeconds: 1 }],
  ['504 too large', { kind: 'status', code: 504, reason: 'Timeout', retryAfterSeconds: 1 }],
  ['410', { kind: 'status', code: 410, reason: 'Expired' }],
  ['plain 404', { kind: 'plain-404' }],
  ['a page of a gateway', { kind: 'html', code: 502 }],
  ['a page that says 200', { kind: 'html', code: 200 }],
  ['no answer', { kind: 'hang' }],
  ['a late answer', { kind: 'slow', delayMs: 50 }],
  ['a closed connection', { kind: 'reset' }],
  ['a body cut off', { kind: 'truncate', bytes: 40 }],
])('gets over %s, of lists and of watches', async (_title, fault) => {
  speed = VERY_FAST;
  server.apply(service('a'), slice('a', 'a', '10.1.0.1'));
  server.faults.plan(fault, ({ watch }) => !watch, 2);
  server.faults.plan(fault, ({ watch }) => watch, 2);
  await start();
  await mirrored();
  server.apply(service('a', 81));
  await mirrored();
  expect(portOf('a')).toBe(81);
});

test('a server that is not there yet is named, with what to check; it is read when it comes', async () => {
  const port = Number(new URL(server.url).port);
  await server.stop();
  await start({ target: { master: `http://127.0.0.1:${port}` }, kinds: [{ kind: 'services' }] });
  await vi.waitFor(() => expect(lines).toHaveLength(1), PATIENCE);
  expect(lines[0]).toMatch(
    new RegExp(
      `^cannot list services at http://127\\.0\\.0\\.1:${port}: connect ECONNREFUSED .*: is the API server running`,
    ),
  );
  server.apply(service('a'));
  await server.listen(port);
  await vi.waitFor(() => expect(store.isSynced('services')).toBe(true), PATIENCE);
  expect(lines.at(-1)).toContain('works again');
});

const viewer = (allowed: (resource: string) => boolean): TestUser => ({
  name: 'system:serviceaccount:kube-system:fairlead',
  may: (_verb, resource) => allowed(resource),
});

const withToken = (token: string): Credentials => ({
  server: server.url,
  caPem: undefined,
  certPem: undefined,
  keyPem: undefined,
  token,
  tokenFile: undefined,
  username: undefined,
  password: undefined,
  impersonateUser: undefined,
  serverName: undefined,
  skipTlsVerify: false,
  expiresAt: undefined,
});

test('refused credentials are renewed, and the reading goes on', async () => {
  const users = new Map([['old', viewer(() => true)]]);
  await restartServer({ users });
  const tokens = ['old', 'new'];
  let renewals = 0;
  const readCredentials = async (): Promise<Credentials> => withToken(tokens[Math.min(renewals++, 1)] ?? '');
  const source = await start({ readCredentials });
  await source.synced();
  await watching();
  // RENEW_INTERVAL_MS has to pass on the fast clock.
  await systemClock.sleep(60);
  users.clear();
  users.set(
    'new',
    viewer(() => true),
  );
  server.apply(service('a'));
  server.dropWatches('end');
  server.apply(service('b'));
  await mirrored();
  expect(renewals).toBe(2);
});

test('a right that is missing is told once, with the rule to grant, and the other kinds are read', async () => {
  await restartServer({ users: new Map([['t', viewer((resource) => resource !== 'endpointslices')]]) });
  server.apply(service('a'));
  await start({ readCredentials: async () => withToken('t') });
  await store.synced('services');
  await vi.waitFor(() => expect(lists('endpointslices')).toBeGreaterThan(3), PATIENCE);
  expect(lines).toEqual([
    expect.stringContaining(
      'cannot list resource "endpointslices" in API group "discovery.k8s.io" at the cluster scope: grant this account a rule {apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["get", "list", "watch"]}',
    ),
  ]);
});

test('a kind that is optional and not served counts as read, and empty', async () => {
  server.faults.plan({ kind: 'plain-404' }, ({ resource }) => resource === 'ingresses', 1000);
  await start({ kinds: [{ kind: 'ingresses', optional: true }] });
  await store.synced('ingresses');
  expect(lines).toEqual(['ingresses are not served by this API server; going on without']);
});

test('what is left out of an object is told once, not at each of its changes', async () => {
  const broken = (annotation: string): Json => ({
    ...service('a', 80, { externalIPs: ['nowhere'] }),
    metadata: { name: 'a', namespace: 'default', annotations: { n: annotation } },
  });
  server.apply(broken('1'));
  await start();
  await mirrored();
  for (const annotation of ['2', '3']) server.apply(broken(annotation));
  server.apply(service('b'));
  await vi.waitFor(() => expect(store.records.services.has('default/b')).toBe(true), PATIENCE);
  expect(lines).toEqual([expect.stringMatching(/^services default\/a: spec\.externalIPs\[0\]: .*\(left out\)$/)]);
});

test('ServiceCIDRs are read where the account may, and done without where it may not', async () => {
  server.apply({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 'kubernetes' },
    spec: { cidrs: ['10.96.0.0/12', 'fd00::/108'] },
  });
  const wanted = { kind: 'serviceCIDRs', optional: true, dispensable: true } as const;
  await start({ kinds: [wanted] });
  await store.synced('serviceCIDRs');
  expect([...store.records.serviceCIDRs.values()]).toEqual([
    { name: 'kubernetes', cidrs: ['10.96.0.0/12', 'fd00::/108'] },
  ]);
  for (const source of sources.splice(0)) await source.stop();
  store = new Store();
  await restartServer({ users: new Map([['t', viewer((resource) => resource !== 'servicecidrs')]]) });
  await start({ kinds: [wanted], readCredentials: async () => withToken('t') });
  await store.synced('serviceCIDRs');
  expect(lines.at(-1)).toMatch(/^servicecidrs may not be read; going on without/);
});

test('only the node of a name is read, when asked for so', async () => {
  const node = (name: string): Json => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } });
  server.apply(node('n1'), node('n2'));
  await start({ kinds: [{ kind: 'nodes', scope: { name: 'n1' } }] });
  await store.synced('nodes');
  expect([...store.records.nodes.keys()]).toEqual(['n1']);
});

const secret = (name: string, value: string, type = 'Opaque'): Json => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name, namespace: 'default' },
  type,
  data: { a: Buffer.from(value).toString('base64') },
});

const held = (): Record<string, string | undefined> =>
  Object.fromEntries([...store.records.secrets.entries()].map(([key, { data }]) => [key, data.get('a')]));

test('Secrets are read by name alone, and the names may change', async () => {
  server.apply(secret('one', '1'), secret('two', '2'), secret('other', 'x'));
  const source = await start({ kinds: [] });
  source.watchNamed('secrets', ['default/one', 'default/missing']);
  await source.synced();
  expect(held()).toEqual({ 'default/one': '1' });
  await watching(2);
  server.apply(secret('missing', 'now'), secret('one', '1b'), secret('other', 'y'));
  await vi.waitFor(() => expect(held()).toEqual({ 'default/one': '1b', 'default/missing': 'now' }), PATIENCE);
  source.watchNamed('secrets', ['default/two']);
  await vi.waitFor(() => expect(held()).toEqual({ 'default/two': '2' }), PATIENCE);
  await watching(1);
  server.delete('Secret', 'default/two');
  await vi.waitFor(() => expect(held()).toEqual({}), PATIENCE);
  expect(
    server.requests.every(({ path, query }) => path.includes('/namespaces/default/') && query.has('fieldSelector')),
  ).toBe(true);
});

const numbered = (count: number): readonly string[] => Array.from({ length: count }, (_, index) => `default/s${index}`);
const applyNumbered = (count: number): void =>
  server.apply(...Array.from({ length: count }, (_, index) => secret(`s${index}`, String(index))));

test('many named Secrets are read by one watch, and those not named are not kept', async () => {
  applyNumbered(300);
  server.apply(secret('other', 'x'), secret('release', 'big', 'helm.sh/release.v1'));
  const source = await start({ kinds: [] });
  source.watchNamed('secrets', [...numbered(200), 'default/other']);
  await source.synced();
  expect(Object.keys(held())).toHaveLength(201);
  await watching(1);
  expect(server.requests.every(({ query }) => query.get('fieldSelector') === 'type!=helm.sh/release.v1')).toBe(true);
  source.watchNamed('secrets', [...numbered(202)]);
  await source.synced();
  await watching(3);
  expect(held()['default/other']).toBeUndefined();
  server.apply(secret('s7', 'new'), secret('s201', 'newer'), secret('other', 'y'), secret('s250', 'z'));
  await vi.waitFor(() => expect(held()).toMatchObject({ 'default/s7': 'new', 'default/s201': 'newer' }), PATIENCE);
  expect(Object.keys(held())).toHaveLength(202);
  source.watchNamed('secrets', numbered(300));
  await source.synced();
  await watching(1);
  expect(held()).toMatchObject({ 'default/s7': 'new', 'default/s250': 'z' });
  expect(Object.keys(held())).toHaveLength(300);
  source.watchNamed('secrets', []);
  await watching(0);
  expect(held()).toEqual({});
});

test('an account that may not list every Secret reads each by its name', async () => {
  const may: TestUser['may'] = (_verb, _resource, namespace) => namespace === 'default';
  await restartServer({ users: new Map([['t', { name: 'ingress', may }]]) });
  applyNumbered(50);
  const source = await start({ kinds: [], readCredentials: async () => withToken('t') });
  source.watchNamed('secrets', numbered(40));
  await source.synced();
  expect(Object.keys(held())).toHaveLength(40);
  await watching(40);
  server.apply(secret('s3', 'new'));
  await vi.waitFor(() => expect(held()['default/s3']).toBe('new'), PATIENCE);
  source.watchNamed('secrets', numbered(41));
  await source.synced();
  await watching(41);
  expect(lines.filter((line) => line.includes('secrets may not be read'))).toHaveLength(1);
});

test('a Secret that may not be read is told of by name and keeps nobody waiting, and is there once it may be', async () => {
  let granted = false;
  const may: TestUser['may'] = (_verb, _resource, namespace) => granted || namespace === 'default';
  await restartServer({ users: new Map([['t', { name: 'ingress', may }]]) });
  server.apply(secret('one', '1'), { ...secret('shut', '2'), metadata: { name: 'shut', namespace: 'other' } });
  const source = await start({ kinds: [], readCredentials: async () => withToken('t') });
  source.watchNamed('secrets', ['default/one', 'other/shut']);
  await source.synced();
  expect(held()).toEqual({ 'default/one': '1' });
  const told = (): readonly string[] => lines.filter((line) => line.includes('cannot list secrets other/shut'));
  await vi.waitFor(() => expect(told()).toHaveLength(1), PATIENCE);
  expect(told()[0]).toMatch(/grant this account a rule .*secrets.*get.*list.*watch.*it counts as not there/);
  granted = true;
  await vi.waitFor(() => expect(held()).toEqual({ 'default/one': '1', 'other/shut': '2' }), PATIENCE);
});

test('an object that cannot be understood harms nobody', async () => {
  server.apply(
    service('odd', 80, { ports: 'none', clusterIP: 7, clusterIPs: [{}], externalIPs: [null, 'x'] }),
    service('a'),
  );
  await start();
  await mirrored();
  server.apply(service('odd', 80, { type: 'Nonsense', ports: [{ port: -1 }, null, 'x'] }), service('a', 81));
  await mirrored();
  expect(portOf('a')).toBe(81);
});

test('it stops at once, whatever it is doing', async () => {
  server.faults.plan({ kind: 'hang' }, ({ resource }) => resource === 'services', 100);
  const source = await start();
  await watching(1);
  const started = performance.now();
  await source.stop();
  expect(performance.now() - started).toBeLessThan(10_000);
});

type Step =
  | { readonly kind: 'change'; readonly name: number; readonly port: number }
  | { readonly kind: 'delete'; readonly name: number }
  | { readonly kind: 'slice'; readonly name: number; readonly of: number }
  | { readonly kind: 'drop'; readonly how: WatchEnd }
  | { readonly kind: 'compact' }
  | { readonly kind: 'pause' }
  | { readonly kind: 'fault'; readonly fault: Fault; readonly watch: boolean };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('change' as const),
      name: fc.nat(5),
      port: fc.integer({ min: 1, max: 99 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), name: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('slice' as const), name: fc.nat(3), of: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('drop' as const),
      how: fc.constantFrom<WatchEnd>('end', 'reset', 'cut-line', 'expire'),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'compact' as const }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'pause' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('fault' as const),
      watch: fc.boolean(),
      fault: fc.constantFrom<Fault>(
        { kind: 'status', code: 429, retryAfterSeconds: 1 },
        { kind: 'status', code: 500 },
        { kind: 'status', code: 410 },
        { kind: 'reset' },
        { kind: 'truncate', bytes: 150 },
        { kind: 'slow', delayMs: 5 },
        { kind: 'html', code: 502 },
      ),
    }),
  },
);

function play(action: Step): Promise<void> | undefined {
  switch (action.kind) {
    case 'change':
      server.apply(service(`s${action.name}`, action.port));
      return undefined;
    case 'delete':
      server.delete('Service', `default/s${action.name}`);
      return undefined;
    case 'slice':
      server.apply(slice(`e${action.name}`, `s${action.of}`, `10.1.0.${action.name + 1}`));
      return undefined;
    case 'drop':
      server.dropWatches(action.how);
      return undefined;
    case 'compact':
      server.storage.compact();
      return undefined;
    case 'pause':
      return systemClock.sleep(8);
    case 'fault':
      server.faults.plan(action.fault, ({ watch }) => watch === action.watch);
      return undefined;
  }
}

test('no event is lost: after any changes and any faults the store is what the server holds', async () => {
  speed = VERY_FAST;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      store = new Store();
      const source = await start();
      for (const action of steps) await play(action);
      await mirrored();
      server.faults.clear();
      await source.stop();
      sources.splice(sources.indexOf(source), 1);
      expect(plain(store)).toEqual(plain(expected(BOTH)));
    }),
    { numRuns: 25, endOnFailure: true },
  );
}, 60_000);
