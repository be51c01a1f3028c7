// The manifest asks for what the program uses: no flag that it does not have, no port that it does not listen on, no right too many or too few.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { parseArguments } from '../../src/cli/args.ts';
import { child, text, type Json } from '../support/api-server/json.ts';
import { kubeconfigOf } from '../support/api-server/kubeconfig.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';
import { manifestFile } from './manifest-file.ts';
import { grantedBy, guardOf, sorted, usedOf, type Role } from './rights.ts';

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
  readonly rules: Role['rules'];
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: { readonly serviceAccountName: string; readonly containers: readonly Container[] };
    };
  };
}

const manifest = manifestFile('ingress.yaml') as (kind: string) => Manifest;
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
  const everywhere = grantedBy(manifest('ClusterRole'));
  const within = { namespace: manifest('Role').metadata.namespace, rights: grantedBy(manifest('Role')) };
  const granted = new Set([...everywhere, ...within.rights]);
  const { may, refused } = guardOf(everywhere, within);
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
    () => [...granted].every((each) => !/ (secrets|configmaps)\./.test(each) || usedOf(server).has(each)),
    20_000,
  );
  running.kill();
  expect((await running.exited).code).toBe(0);
  expect(published(server)).toBe('');
  expect(sorted(usedOf(server))).toBe(sorted(granted));
  expect(refused).toEqual([]);
}, 60_000);

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
  writeFileSync(kubeconfig, kubeconfigOf(server.url, 'secret'));
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
