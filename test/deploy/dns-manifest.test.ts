// The manifests ask for what the program uses: no flag that it does not have, no port that it does not listen on, no right too many or too few.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { parseArguments } from '../../src/cli/args.ts';
import { nodeLocalSettings } from '../../src/cli/node-local.ts';
import { loadCorefile } from '../../src/dns/corefile/load.ts';
import { fillTemplate } from '../../src/dns/node-local/template.ts';
import { systemFiles } from '../../src/system/files.ts';
import { freePort } from '../support/free-port.ts';
import { kubeconfigOf } from '../support/api-server/kubeconfig.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';
import { manifestFile } from './manifest-file.ts';
import { grantedBy, guardOf, sorted, usedOf, type Role } from './rights.ts';

interface Container {
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number; readonly protocol: string }[];
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly securityContext: object;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string | number };
}

interface PodSpec {
  readonly serviceAccountName: string;
  readonly dnsPolicy: string;
  readonly priorityClassName: string;
  readonly hostNetwork?: boolean;
  readonly containers: readonly Container[];
  readonly volumes: readonly { readonly name: string; readonly configMap?: { readonly name: string } }[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules: Role['rules'];
  readonly data: Readonly<Record<string, string>>;
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: PodSpec;
    };
  };
}

/** As kubeadm writes it, and with every kind of object that kubernetes may read. */
function corefile(ports: { dns: number; health: number; ready: number; metrics: number }, more = ''): string {
  return `.:${ports.dns} {
    errors
    health 127.0.0.1:${ports.health} {
       lameduck 1s
    }
    ready 127.0.0.1:${ports.ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods verified
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
       ${more}
    }
    prometheus 127.0.0.1:${ports.metrics}
    cache 30
    loop
    reload
    loadbalance
}
`;
}

const closing: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const deployment = manifestFile('dns.yaml') as (kind: string) => Manifest;
const pod = deployment('Deployment').spec.template.spec;
const [server] = pod.containers;

describe('the Deployment', () => {
  test('has flags that exist, serves the ConfigMap of CoreDNS, and is what the Service kube-dns selects', () => {
    const [command, ...words] = server?.args ?? [];
    expect(command).toBe('dns');
    const conf = parseArguments('dns', words).text('conf') ?? '';
    const mount = server?.volumeMounts.find(({ mountPath }) => conf.startsWith(`${mountPath}/`));
    expect(conf).toBe('/etc/coredns/Corefile');
    expect(pod.volumes.find(({ name }) => name === mount?.name)?.configMap?.name).toBe('coredns');
    expect(deployment('Deployment').spec.template.metadata.labels['k8s-app']).toBe('kube-dns');
    expect(pod).toMatchObject({ dnsPolicy: 'Default', priorityClassName: 'system-cluster-critical' });
    expect(pod.serviceAccountName).toBe(deployment('ServiceAccount').metadata.name);
    expect(server?.securityContext).toMatchObject({
      runAsNonRoot: true,
      runAsUser: expect.any(Number),
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE'] },
    });
  });

  test("has the ports that kubeadm's Corefile listens on, and probes ask there", () => {
    const ports = Object.fromEntries(server?.ports.map(({ name, containerPort }) => [name, containerPort]) ?? []);
    expect(ports).toEqual({ dns: 53, 'dns-tcp': 53, metrics: 9153, health: 8080, ready: 8181 });
    expect(server?.livenessProbe.httpGet).toEqual({ path: '/health', port: 'health' });
    expect(server?.readinessProbe.httpGet).toEqual({ path: '/ready', port: 'ready' });
  });

  test('has the rights that it uses, each of them and no other, all of them rights of system:coredns', async () => {
    const granted = grantedBy(deployment('ClusterRole'));
    const ofCoreDns = ['endpointslices.discovery.k8s.io', 'services.', 'pods.', 'namespaces.'].flatMap((name) => [
      `list ${name}`,
      `watch ${name}`,
    ]);
    expect([...granted].every((each) => ofCoreDns.includes(each))).toBe(true);
    const { may, refused } = guardOf(granted);
    const api = await startTestApiServer({ users: new Map([['secret', { name: 'fairlead-dns', may }]]) });
    closing.push(() => api.stop());
    const ports = {
      dns: await freePort(),
      health: await freePort(),
      ready: await freePort(),
      metrics: await freePort(),
    };
    const running = start(api, ports);
    closing.push(() => running.close());
    await until(async () => {
      const answer = await fetch(`http://127.0.0.1:${ports.ready}/ready`).catch(() => undefined);
      return answer?.status === 200;
    });
    expect((await fetch(`http://127.0.0.1:${ports.health}/health`)).status).toBe(200);
    await until(async () => sorted(usedOf(api)) === sorted(granted));
    expect(refused).toEqual([]);
    running.kill();
    expect(await running.exited).toEqual({ code: 0, signal: null });
  });
});

function start(api: TestApiServer, ports: Parameters<typeof corefile>[0]): FairleadProcess {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-deploy-'));
  closing.push(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'kubeconfig'), kubeconfigOf(api.url, 'secret'));
  writeFileSync(
    join(dir, 'Corefile'),
    corefile(ports, `kubeconfig ${join(dir, 'kubeconfig')}`).replace(/\n/, '\n    bind 127.0.0.1\n'),
  );
  const args = (server?.args ?? []).map((word) => word.replace('/etc/coredns/Corefile', join(dir, 'Corefile')));
  return new FairleadProcess(args);
}

describe('the DaemonSet of nodes', () => {
  const documents = manifestFile('dns-node-local.yaml') as (kind: string) => Manifest;
  const node = documents('DaemonSet').spec.template.spec;
  const [own] = node.containers;
  const [, ...words] = own?.args ?? [];
  const settings = nodeLocalSettings(parseArguments('dns', words));

  test('has flags that exist, on the network of the node, with the account of the Deployment', () => {
    expect(settings?.ips).toEqual(['169.254.20.10']);
    expect(node).toMatchObject({ hostNetwork: true, dnsPolicy: 'Default', priorityClassName: 'system-node-critical' });
    expect(node.serviceAccountName).toBe(deployment('ServiceAccount').metadata.name);
    expect(own?.securityContext).toMatchObject({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_BIND_SERVICE'] },
    });
  });

  test('has a template that can be served, and the ports and probes that it says', async () => {
    const template = settings?.template ?? '';
    const mount = own?.volumeMounts.find(({ mountPath }) => template.startsWith(`${mountPath}/`));
    const { name } = documents('ConfigMap').metadata;
    expect(node.volumes.find((volume) => volume.name === mount?.name)?.configMap?.name).toBe(name);
    const filled = fillTemplate(
      documents('ConfigMap').data[template.slice((mount?.mountPath ?? '').length + 1)] ?? '',
      {
        localIps: settings?.ips ?? [],
        clusterDns: undefined,
        upstreamServers: ['192.0.2.53'],
        clusterDomain: 'cluster.local',
        stubDomains: new Map(),
      },
    );
    const text = filled.kind === 'corefile' ? filled.text : '';
    const files = { ...systemFiles, readText: async () => text };
    const loaded = await loadCorefile({ path: '/Corefile', files, env: () => undefined });
    if (loaded.kind === 'mistake') throw new Error(loaded.message);
    const [block] = loaded.corefile.blocks;
    expect(block).toMatchObject({
      port: 53,
      bind: ['169.254.20.10'],
      health: [{ address: { port: own?.livenessProbe.httpGet.port } }],
      ready: [{ port: own?.readinessProbe.httpGet.port }],
      prometheus: [{ port: own?.ports.find(({ name: port }) => port === 'metrics')?.containerPort }],
    });
    expect(own?.livenessProbe.httpGet.port).toBe(settings?.healthPort);
  });
});
