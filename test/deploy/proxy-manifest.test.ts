// The manifest asks for what the program uses: no flag that it does not have, no port that it does not listen on, no right too many or too few.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { parseArguments } from '../../src/cli/args.ts';
import { configurationOf } from '../../src/cli/kube-proxy/schema.ts';
import { kubeconfigOf } from '../support/api-server/kubeconfig.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';
import { manifestFile } from './manifest-file.ts';
import { grantedBy, guardOf, sorted, usedOf, type Role } from './rights.ts';

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

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules: Role['rules'];
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

const manifest = manifestFile('proxy.yaml') as (kind: string) => Manifest;
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
  const granted = grantedBy(manifest('ClusterRole'));
  const { may, refused } = guardOf(granted);
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
    async () => sorted(usedOf(server)) === sorted(granted),
    30_000,
    () => `granted:\n${sorted(granted)}\nused:\n${sorted(usedOf(server))}`,
  );
  expect(refused).toEqual([]);
});

function start(server: TestApiServer): FairleadProcess {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-deploy-'));
  closing.push(() => rmSync(dir, { recursive: true }));
  const kubeconfig = join(dir, 'kubeconfig.conf');
  writeFileSync(kubeconfig, kubeconfigOf(server.url, 'secret'));
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
