// The manifest asks for what the program uses: no flag that it does not have, no port that it does not listen on, no right too many or too few.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseArguments } from '../../src/cli/args.ts';
import { configurationOf } from '../../src/cli/kube-proxy/schema.ts';
import { route } from '../support/api-server/resource-table.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
  readonly securityContext: object;
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules: readonly Rule[];
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly hostNetwork: boolean;
        readonly serviceAccountName: string;
        readonly priorityClassName: string;
        readonly initContainers: readonly Container[];
        readonly containers: readonly Container[];
        readonly volumes: readonly { readonly name: string; readonly configMap?: { readonly name: string } }[];
      };
    };
  };
}

const FILE = fileURLToPath(new URL('../../deploy/manifests/proxy.yaml', import.meta.url));
const parsed = parseAllDocuments(readFileSync(FILE, 'utf8'), { uniqueKeys: true });
const documents = (Array.isArray(parsed) ? parsed : []).map((document) => document.toJS() as Manifest);

function manifest(kind: string): Manifest {
  const found = documents.find((each) => each.kind === kind);
  if (!found) throw new Error(`no ${kind} in ${FILE}`);
  return found;
}

const pod = manifest('DaemonSet').spec.template.spec;
const [proxy] = pod.containers;
const closing: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

test('every flag exists, and the file that they name is the mounted ConfigMap of kube-proxy', () => {
  const containers = [...pod.initContainers, ...pod.containers];
  expect(containers.map(({ name }) => name)).toEqual(['limits', 'proxy']);
  for (const { args, volumeMounts } of containers) {
    const [command, ...words] = args;
    expect(command).toBe('proxy');
    const config = parseArguments('proxy', words).text('config') ?? '';
    const mount = volumeMounts.find(({ mountPath }) => config.startsWith(`${mountPath}/`));
    expect(config.slice((mount?.mountPath ?? '').length)).toBe('/config.conf');
    expect(pod.volumes.find(({ name }) => name === mount?.name)?.configMap?.name).toBe('kube-proxy');
  }
});

test('every port is one that the defaults listen on, and the probes ask there', () => {
  const { healthzBindAddress, metricsBindAddress } = configurationOf(new Map());
  const portOf = (text: string): number => Number(text.slice(text.lastIndexOf(':') + 1));
  expect(Object.fromEntries((proxy?.ports ?? []).map(({ name, containerPort }) => [name, containerPort]))).toEqual({
    healthz: portOf(healthzBindAddress),
    metrics: portOf(metricsBindAddress),
  });
  expect(proxy?.livenessProbe?.httpGet).toEqual({ path: '/livez', port: 'healthz' });
  expect(proxy?.readinessProbe?.httpGet).toEqual({ path: '/readyz', port: 'healthz' });
});

test('it is on the host network, node-critical, and not privileged', () => {
  expect(pod).toMatchObject({ hostNetwork: true, priorityClassName: 'system-node-critical' });
  expect(pod.serviceAccountName).toBe(manifest('ServiceAccount').metadata.name);
  expect(proxy?.securityContext).toMatchObject({
    privileged: false,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
  });
});

test('the rights are those that it uses, each of them and no other, and the probes answer', async () => {
  const granted = new Set(
    manifest('ClusterRole').rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}.${group}`)),
      ),
    ),
  );
  const refused: string[] = [];
  const words = [...granted].map((each) => each.replace(/\.[^ ]*$/, ''));
  const may = (verb: string, resource: string): boolean => {
    const allowed = words.includes(`${verb} ${resource}`);
    if (!allowed) refused.push(`${verb} ${resource}`);
    return allowed;
  };
  const server = await startTestApiServer({ users: new Map([['secret', { name: 'fairlead-proxy', may }]]) });
  closing.push(() => server.stop());
  server.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-a' } });
  const running = start(server);
  closing.push(() => running.close());
  const line = await running.logged(({ message }) => message === 'listening for health');
  await running.logged(({ message }) => message === 'rules in force');
  for (const probe of [proxy?.livenessProbe, proxy?.readinessProbe]) {
    expect((await fetch(`http://127.0.0.1:${String(line['port'])}${probe?.httpGet.path}`)).status).toBe(200);
  }
  await until(
    async () => (sorted(used(server)) === sorted(granted) ? true : undefined),
    30_000,
    () => `granted:\n${sorted(granted)}\nused:\n${sorted(used(server))}`,
  );
  expect(refused).toEqual([]);
});

function sorted(words: Iterable<string>): string {
  return [...words].sort().join('\n');
}

/** `verb resource.group` of every request that came. */
function used(server: TestApiServer): ReadonlySet<string> {
  const found = new Set<string>();
  for (const { method, path, query } of server.requests) {
    const routed = route(path);
    if (routed.kind !== 'target') throw new Error(`${method} ${path} is no resource`);
    const { resource, name } = routed.target;
    const reading = query.has('watch') ? 'watch' : name === undefined ? 'list' : 'get';
    found.add(
      `${method === 'GET' ? reading : method === 'POST' ? 'create' : method} ${resource.plural}.${resource.group}`,
    );
  }
  return found;
}

function start(server: TestApiServer): FairleadProcess {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-deploy-'));
  closing.push(() => rmSync(dir, { recursive: true }));
  const kubeconfig = join(dir, 'kubeconfig.conf');
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'it',
      contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
      clusters: [{ name: 'it', cluster: { server: server.url } }],
      users: [{ name: 'it', user: { token: 'secret' } }],
    }),
  );
  const config = join(dir, 'config.conf');
  writeFileSync(
    config,
    `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: userspace
clientConnection: {kubeconfig: ${kubeconfig}}
healthzBindAddress: 127.0.0.1:0
metricsBindAddress: 127.0.0.1:0
oomScoreAdj: 0
logging: {format: json}
`,
  );
  const args = (proxy?.args ?? []).map((word) =>
    word.replace('/var/lib/kube-proxy/config.conf', config).replace('$(NODE_NAME)', 'node-a'),
  );
  return new FairleadProcess(args);
}
