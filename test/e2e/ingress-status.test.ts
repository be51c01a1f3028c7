// What `fairlead ingress` writes to the API server: status as the leader, Events, and what happens without the rights.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import { child, isJson, list, text, type Json } from '../support/api-server/json.ts';
import { RESOURCES } from '../support/api-server/resource-table.ts';
import { kubeconfigOf } from '../support/api-server/kubeconfig.ts';
import { startTestApiServer, type TestApiServer, type TestApiServerOptions } from '../support/api-server/server.ts';
import { freePort } from '../support/free-port.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function api(options: TestApiServerOptions = {}): Promise<TestApiServer> {
  const server = await startTestApiServer(options);
  closing.push(() => server.stop());
  server.apply(
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'IngressClass',
      metadata: { name: 'nginx' },
      spec: { controller: 'k8s.io/ingress-nginx' },
    },
    ingress('cafe', { 'nginx.ingress.kubernetes.io/auth-type': 'magic' }),
    ingress('theirs', {}, 'other'),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'ingress', name: 'front' },
      spec: {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.9',
        clusterIPs: ['10.96.0.9'],
        externalIPs: ['203.0.113.9'],
        ports: [{ port: 80, protocol: 'TCP' }],
      },
      status: { loadBalancer: { ingress: [{ hostname: 'lb.example.com' }, { ip: '198.51.100.7' }] } },
    },
    pod('one', 'node-a'),
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'node-a' },
      status: {
        addresses: [
          { type: 'InternalIP', address: '192.168.0.2' },
          { type: 'ExternalIP', address: '203.0.113.2' },
        ],
      },
    },
  );
  return server;
}

function ingress(name: string, annotations: Json = {}, className = 'nginx'): Json {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { namespace: 'shop', name, uid: `uid-of-${name}`, annotations },
    spec: {
      ingressClassName: className,
      rules: [
        {
          host: `${name}.example.com`,
          http: {
            paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'tea', port: { number: 80 } } } }],
          },
        },
      ],
    },
  };
}

function pod(name: string, nodeName: string): Json {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'ingress', name, labels: { app: 'fairlead', 'pod-template-hash': name } },
    spec: { nodeName },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

function start(server: TestApiServer, name: string, ...words: readonly string[]): FairleadProcess {
  const running = new FairleadProcess(
    [
      'ingress',
      `--master=${server.url}`,
      '--http-port=0',
      '--https-port=0',
      '--healthz-port=0',
      '--election-ttl=2s',
      '--logging-format=json',
      ...words,
    ],
    { env: { POD_NAME: name, POD_NAMESPACE: 'ingress' } },
  );
  closing.push(() => running.close());
  return running;
}

function published(server: TestApiServer, name: string): string {
  const object = server.objects('Ingress').get(`shop/${name}`) ?? {};
  return list(child(child(object, 'status'), 'loadBalancer'), 'ingress')
    .filter(isJson)
    .map((entry) => text(entry, 'ip') ?? text(entry, 'hostname'))
    .join(' ');
}

const becomes = (server: TestApiServer, name: string, addresses: string): Promise<unknown> =>
  until(
    () => published(server, name) === addresses,
    15_000,
    () => `the status of ${name} is "${published(server, name)}"`,
  );

function events(server: TestApiServer): readonly string[] {
  const resource = RESOURCES.find(({ group }) => group === 'events.k8s.io');
  const found = resource ? [...server.storage.current(resource).values()] : [];
  return found.map((event) => {
    const regarding = child(event, 'regarding');
    return `${text(regarding, 'kind')} ${text(regarding, 'name')} ${text(regarding, 'uid')} ${text(event, 'type')} ${text(event, 'reason')}: ${text(event, 'note')}`;
  });
}

test('the leader writes the addresses of the Service in front, another takes over, and the last one clears them', async () => {
  const server = await api();
  const first = start(server, 'one', '--publish-service=ingress/front');
  await becomes(server, 'cafe', '198.51.100.7 203.0.113.9 lb.example.com');
  expect(published(server, 'theirs')).toBe('');
  server.apply(pod('two', 'node-a'), ingress('tea'));
  const second = start(server, 'two', '--publish-service=ingress/front');
  await second.logged(({ message }) => message === 'routes updated');
  await becomes(server, 'tea', '198.51.100.7 203.0.113.9 lb.example.com');
  expect(second.log.some(({ message }) => message === 'leading')).toBe(false);

  first.kill('SIGKILL');
  await first.exited;
  server.delete('Pod', 'ingress/one');
  await second.logged(({ message }) => message === 'leading', 15_000);
  server.apply(ingress('coffee'));
  await becomes(server, 'coffee', '198.51.100.7 203.0.113.9 lb.example.com');

  second.kill();
  expect((await second.exited).code).toBe(0);
  expect(['cafe', 'tea', 'coffee'].map((name) => published(server, name))).toEqual(['', '', '']);
  const lease = server.objects('Lease').get('ingress/ingress-controller-leader') ?? {};
  expect(child(lease, 'spec')).toMatchObject({ holderIdentity: '', leaseTransitions: 1 });
}, 60_000);

test('given addresses go before the Service, and without both the nodes of ready controller Pods count', async () => {
  const server = await api();
  const given = start(
    server,
    'one',
    '--publish-service=ingress/front',
    '--publish-status-address=192.0.2.1,edge.example.com',
    '--disable-leader-election',
  );
  await becomes(server, 'cafe', '192.0.2.1 edge.example.com');
  await given.close();
  const nodes = start(server, 'one');
  await becomes(server, 'cafe', '203.0.113.2');
  await nodes.close();
  start(server, 'one', '--report-node-internal-ip-address');
  await becomes(server, 'cafe', '192.168.0.2');
  expect(published(server, 'theirs')).toBe('');
}, 60_000);

test('Events stand on the Ingress: that it is seen, and why an annotation shuts it', async () => {
  const server = await api();
  start(server, 'one', '--update-status=false');
  await until(() => events(server).length >= 2, 15_000);
  expect([...events(server)].sort()).toEqual([
    'Ingress cafe uid-of-cafe Normal Sync: Scheduled for sync',
    'Ingress cafe uid-of-cafe Warning AnnotationParsingFailed: nginx.ingress.kubernetes.io/auth-type: "magic" is neither basic nor digest; its locations answer 503',
  ]);
  expect(server.objects('Lease').size).toBe(0);
});

test('where only Events of the core group may be written, those are', async () => {
  const server = await api();
  server.faults.plan(
    { kind: 'status', code: 403, reason: 'Forbidden' },
    ({ method, path }) => method === 'POST' && path.startsWith('/apis/events.k8s.io/'),
    100,
  );
  start(server, 'one', '--update-status=false', '--disable-sync-events');
  await until(() => server.objects('Event').size > 0, 15_000);
  expect([...server.objects('Event').values()][0]).toMatchObject({
    involvedObject: { kind: 'Ingress', name: 'cafe', uid: 'uid-of-cafe' },
    reason: 'AnnotationParsingFailed',
    count: 1,
  });
});

test('without the rights to write it serves all the same, and says once what is missing', async () => {
  const may = (verb: string): boolean => ['get', 'list', 'watch'].includes(verb);
  const server = await api({ users: new Map([['secret', { name: 'viewer', may }]]) });
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-status-'));
  closing.push(() => rmSync(dir, { recursive: true }));
  writeFileSync(`${dir}/kubeconfig`, kubeconfigOf(server.url, 'secret'));
  const running = start(
    server,
    'one',
    `--kubeconfig=${dir}/kubeconfig`,
    '--publish-service=ingress/front',
    `--http-port=${port}`,
  );
  await running.logged(({ message }) => message.startsWith('the Lease of the election'));
  await running.logged(({ message }) => message.startsWith('Events cannot be written'));
  const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { host: 'unknown.example.com' } });
  expect(answer.status).toBe(404);
  const warned = running.log.filter(({ message }) => message.startsWith('the Lease'));
  expect(warned).toHaveLength(1);
  expect(warned[0]?.['reason']).toContain('viewer');
}, 30_000);

test('with a selector of namespaces the Ingresses of those count, and a label brings in more', async () => {
  const server = await api();
  const namespace = (name: string, labels: Json): Json => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels },
  });
  server.apply(namespace('shop', { team: 'red' }), namespace('ingress', { team: 'blue' }));
  const running = start(server, 'one', '--update-status=false', '--watch-namespace-selector=team=blue');
  await running.logged(({ message }) => message === 'resolved');
  expect(running.log.some(({ message, hosts }) => message === 'routes updated' && Number(hosts) > 0)).toBe(false);
  server.apply(namespace('shop', { team: 'blue' }));
  await running.logged(({ message, hosts }) => message === 'routes updated' && hosts === 1, 15_000);
});

test('a Secret that is slow to be read is not said to be missing, and nothing is served before', async () => {
  const server = await api();
  const { cert, key } = selfSigned('cafe.example.com', ['cafe.example.com'], Date.now(), 1);
  const base64 = (value: string): string => Buffer.from(value).toString('base64');
  const cafe = ingress('cafe');
  server.apply(
    { ...cafe, spec: { ...child(cafe, 'spec'), tls: [{ hosts: ['cafe.example.com'], secretName: 'cafe' }] } },
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { namespace: 'shop', name: 'cafe' },
      type: 'kubernetes.io/tls',
      data: { 'tls.crt': base64(cert), 'tls.key': base64(key) },
    },
  );
  server.faults.plan({ kind: 'slow', delayMs: 700 }, ({ resource, watch }) => resource === 'secrets' && !watch);
  const running = start(server, 'one', '--update-status=false');
  await running.logged(({ message }) => message === 'routes updated');
  expect(running.log.filter(({ message }) => message.startsWith('the TLS Secret'))).toEqual([]);
  const events = [...server.objects('Event').values()].map((event) => text(event, 'reason'));
  expect(events).not.toContain('SecretUnusable');
});
