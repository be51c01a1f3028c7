import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { Laptop, get } from '../support/laptop.ts';
import { FairleadProcess, until } from '../support/process.ts';

let laptop: Laptop;
let server: TestApiServer;
let url = '';
const processes: FairleadProcess[] = [];

beforeEach(async () => {
  laptop = new Laptop();
  server = await startTestApiServer();
  ({ url } = server);
});

afterEach(async () => {
  await Promise.all(processes.splice(0).map((each) => each.close()));
  await server.stop().catch(() => undefined);
  laptop.close();
});

function proxy(...words: readonly string[]): FairleadProcess {
  const running = new FairleadProcess([
    'proxy',
    '--master',
    url,
    '--mode=userspace',
    '--node-name=node-a',
    '--logging-format=json',
    '--metrics-bind-address=127.0.0.1:0',
    '--healthz-bind-address=127.0.0.1:0',
    ...words,
  ]);
  processes.push(running);
  return running;
}

async function answers(address: string, expected: string): Promise<void> {
  let last = '';
  await until(
    async () => ((last = await get(address, 8000)) === expected ? true : undefined),
    10_000,
    () => `expected "${expected}", got "${last}"`,
  );
}

const service = (clusterIP: string) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'shop', name: 'web' },
  spec: {
    clusterIP,
    clusterIPs: [clusterIP],
    type: 'ClusterIP',
    ports: [{ name: 'main', port: 8000, protocol: 'TCP' }],
  },
});

const slice = (...addresses: readonly string[]) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { namespace: 'shop', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ name: 'main', port: 8080, protocol: 'TCP' }],
  endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
});

async function pod(name: string): Promise<string> {
  const manifest = await laptop.httpPod(name, 'app: web');
  return /podIP: ([\d.]+)/.exec(manifest)?.[1] ?? '';
}

describe('fairlead proxy over an API server', () => {
  test('Service addresses connect, and follow the slices through dropped watches', async () => {
    const web = laptop.address();
    const [a, b] = [await pod('a'), await pod('b')];
    server.apply(service(web), slice(a));
    const running = proxy();
    await answers(web, 'a / ');
    server.apply(slice(b));
    await answers(web, 'b / ');
    server.dropWatches();
    server.apply(slice(a));
    await answers(web, 'a / ');
    server.delete('Service', 'shop/web');
    await answers(web, 'ECONNREFUSED');
    running.kill();
    expect(await running.exited).toEqual({ code: 0, signal: null });
  });

  test('it reads no more than the role of kube-proxy may: services, slices, ServiceCIDRs and its own node', async () => {
    const web = laptop.address();
    server.apply(service(web), slice(await pod('a')));
    proxy();
    await answers(web, 'a / ');
    const paths = new Set(server.requests.map(({ path }) => path));
    expect([...paths].sort()).toEqual([
      '/api/v1/nodes',
      '/api/v1/services',
      '/apis/discovery.k8s.io/v1/endpointslices',
      '/apis/events.k8s.io/v1/namespaces/default/events',
      '/apis/networking.k8s.io/v1/servicecidrs',
    ]);
  });

  test('an API server that is not there is named, waited for, and the probes say what is missing', async () => {
    const web = laptop.address();
    server.apply(service(web), slice(await pod('a')));
    const port = Number(new URL(url).port);
    await server.stop();
    const running = proxy();
    const line = await running.logged(({ level }) => level === 'warn' || level === 'error');
    expect(`${line.message} ${JSON.stringify(line)}`).toContain(`127.0.0.1:${port}`);
    const probe = await running.logged(({ message }) => message === 'listening for health');
    const readyz = await fetch(`http://127.0.0.1:${String(probe['port'])}/readyz`);
    expect([readyz.status, await readyz.text()]).toEqual([503, 'not ready: source, rules\n']);
    await server.listen(port);
    await answers(web, 'a / ');
  });

  test('no kubeconfig, no cluster around: code 2 and the mend', async () => {
    const running = new FairleadProcess(
      ['proxy', '--metrics-bind-address=127.0.0.1:0', '--healthz-bind-address=127.0.0.1:0', '--mode=userspace'],
      {
        env: { KUBECONFIG: '', KUBERNETES_SERVICE_HOST: '', HOME: '/nonexistent' },
      },
    );
    processes.push(running);
    expect(await running.exited).toEqual({ code: 2, signal: null });
    expect(running.stderr).toMatch(/--manifests|--kubeconfig/);
    expect(running.stderr).not.toMatch(/\n\s+at /);
  });
});
