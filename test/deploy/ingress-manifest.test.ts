// The manifest asks for what the program uses: no flag that it does not have, no port that it does not listen on, no right too many or too few.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseArguments } from '../../src/cli/args.ts';
import { child, text, type Json } from '../support/api-server/json.ts';
import { route } from '../support/api-server/resource-table.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

interface Container {
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly livenessProbe: { readonly httpGet: { readonly path: string; readonly port: string } };
  readonly readinessProbe: { readonly httpGet: { readonly path: string; readonly port: string } };
  readonly securityContext: object;
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules: readonly Rule[];
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: { readonly serviceAccountName: string; readonly containers: readonly Container[] };
    };
  };
}

const FILE = fileURLToPath(new URL('../../deploy/manifests/ingress.yaml', import.meta.url));
const parsed = parseAllDocuments(readFileSync(FILE, 'utf8'), { uniqueKeys: true });
const documents = (Array.isArray(parsed) ? parsed : []).map((document) => document.toJS() as Manifest);

function manifest(kind: string): Manifest {
  const found = documents.find((each) => each.kind === kind);
  if (!found) throw new Error(`no ${kind} in ${FILE}`);
  return found;
}

const { template } = manifest('Deployment').spec;
const [container] = template.spec.containers;
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

test('every flag exists, and the Service, the ConfigMap and the labels are those of ingress-nginx', () => {
  const [command, ...words] = container?.args ?? [];
  expect(command).toBe('ingress');
  const args = parseArguments('ingress', words);
  expect(args.text('configmap')).toBe('ingress-nginx/ingress-nginx-controller');
  expect(args.text('publish-service')).toBe('ingress-nginx/ingress-nginx-controller');
  expect(template.metadata.labels).toMatchObject({
    'app.kubernetes.io/name': 'ingress-nginx',
    'app.kubernetes.io/instance': 'ingress-nginx',
    'app.kubernetes.io/component': 'controller',
  });
});

test('every port is one that the defaults listen on, and nothing is privileged', () => {
  expect(Object.fromEntries((container?.ports ?? []).map(({ name, containerPort }) => [name, containerPort]))).toEqual({
    http: 80,
    https: 443,
    metrics: 10254,
  });
  expect(container?.securityContext).toMatchObject({ privileged: false, capabilities: { drop: ['ALL'] } });
  expect(template.spec.serviceAccountName).toBe(manifest('ServiceAccount').metadata.name);
});

test('the rights are those that it uses, each of them and no other, and the probes answer', async () => {
  const granted = new Set([...rights(manifest('ClusterRole')), ...rights(manifest('Role'))]);
  const refused: string[] = [];
  const everywhere = rights(manifest('ClusterRole'));
  const inOwn = rights(manifest('Role'));
  const may = (verb: string, resource: string, namespace: string): boolean => {
    const own = namespace === manifest('Role').metadata.namespace ? inOwn : new Set<string>();
    const allowed = [...everywhere, ...own].some((each) => each.startsWith(`${verb} ${resource}.`));
    if (!allowed) refused.push(`${verb} ${resource} in ${namespace}`);
    return allowed;
  };
  const server = await startTestApiServer({ users: new Map([['secret', { name: 'fairlead-ingress', may }]]) });
  closing.push(() => server.stop());
  server.apply(...OBJECTS);
  const running = start(server);
  closing.push(() => running.close());
  const { port } = await running.logged(({ message }) => message === 'listening for metrics and health');
  await until(() => server.objects('Lease').size > 0 && published(server) === '203.0.113.9', 20_000);
  for (const probe of [container?.livenessProbe, container?.readinessProbe]) {
    expect((await fetch(`http://127.0.0.1:${String(port)}${probe?.httpGet.path}`)).status).toBe(200);
  }
  await until(
    () => [...granted].every((each) => !/ (secrets|configmaps)\./.test(each) || used(server).has(each)),
    20_000,
  );
  running.kill();
  expect((await running.exited).code).toBe(0);
  expect(published(server)).toBe('');
  expect(sorted(used(server))).toBe(sorted(granted));
  expect(refused).toEqual([]);
}, 60_000);

function rights({ rules }: Manifest): ReadonlySet<string> {
  return new Set(
    rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}.${group}`)),
      ),
    ),
  );
}

function sorted(words: Iterable<string>): string {
  return [...words].sort().join('\n');
}

/** `verb resource.group` of every request that came. */
function used(server: TestApiServer): ReadonlySet<string> {
  const verbs: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update' };
  return new Set(
    server.requests.map(({ method, path, query }) => {
      const routed = route(path);
      if (routed.kind !== 'target') throw new Error(`${method} ${path} is no resource`);
      const { resource, name, subresource } = routed.target;
      const reading = query.has('watch') ? 'watch' : name === undefined ? 'list' : 'get';
      const what = subresource === undefined ? resource.plural : `${resource.plural}/${subresource}`;
      return `${verbs[method] ?? reading} ${what}.${resource.group}`;
    }),
  );
}

function published(server: TestApiServer): string {
  const ingress = server.objects('Ingress').get('shop/cafe') ?? {};
  const [first] = (child(child(ingress, 'status'), 'loadBalancer')['ingress'] ?? []) as Json[];
  return first ? (text(first, 'ip') ?? '') : '';
}

const OBJECTS: readonly Json[] = [
  {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'IngressClass',
    metadata: { name: 'nginx' },
    spec: { controller: 'k8s.io/ingress-nginx' },
  },
  {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { namespace: 'shop', name: 'cafe', uid: 'u' },
    spec: {
      ingressClassName: 'nginx',
      tls: [{ hosts: ['cafe.example.com'], secretName: 'cafe' }],
      rules: [
        {
          host: 'cafe.example.com',
          http: {
            paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'tea', port: { number: 80 } } } }],
          },
        },
      ],
    },
  },
  {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'ingress-nginx', name: 'ingress-nginx-controller' },
    data: {},
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'ingress-nginx', name: 'ingress-nginx-controller' },
    spec: { type: 'LoadBalancer', ports: [{ port: 80, protocol: 'TCP' }] },
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } },
  },
  {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'ingress-nginx', name: 'one', labels: { app: 'fairlead-ingress' } },
    spec: { nodeName: 'node-a' },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  },
];

function start(server: TestApiServer): FairleadProcess {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-deploy-'));
  closing.push(() => rmSync(dir, { recursive: true }));
  const kubeconfig = join(dir, 'kubeconfig.conf');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'it',
    contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
    clusters: [{ name: 'it', cluster: { server: server.url } }],
    users: [{ name: 'it', user: { token: 'secret' } }],
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
  const args = (container?.args ?? []).map((word) =>
    word.replace('--shutdown-grace-period=10', '--shutdown-grace-period=0'),
  );
  const words = [
    '--http-port=0',
    '--https-port=0',
    '--healthz-port=0',
    '--logging-format=json',
    `--kubeconfig=${kubeconfig}`,
  ];
  return new FairleadProcess([...args, ...words], { env: { POD_NAME: 'one', POD_NAMESPACE: 'ingress-nginx' } });
}
