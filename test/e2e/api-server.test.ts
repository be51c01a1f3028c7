import { execFile } from 'node:child_process';
import { Resolver } from 'node:dns/promises';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { Laptop, get } from '../support/laptop.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

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
    async () => (last = await get(address, 8000)) === expected,
    30_000,
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

async function selfSigned(name: string): Promise<{ certificate: string; key: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-certificate-'));
  try {
    const [key, certificate] = [join(dir, 'key'), join(dir, 'crt')];
    const words = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=${name} -addext subjectAltName=DNS:${name}`;
    await promisify(execFile)('openssl', [...words.split(' '), '-keyout', key, '-out', certificate]);
    return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** The common name of the certificate that is served for the name. */
function peerName(port: number, servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, servername, rejectUnauthorized: false }, () => {
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      resolve(String(subject.CN));
    });
    socket.on('error', reject);
  });
}

async function pod(name: string): Promise<string> {
  const manifest = await laptop.httpPod(name, 'app: web');
  return /podIP: ([\d.]+)/.exec(manifest)?.[1] ?? '';
}

function role(command: 'dns' | 'ingress', ...words: readonly string[]): FairleadProcess {
  const running = new FairleadProcess([command, '--master', url, '--logging-format=json', ...words]);
  processes.push(running);
  return running;
}

/** The port of an endpoint, from the line that tells of it. */
async function portOf(running: FairleadProcess, what: string): Promise<number> {
  const line = await running.logged(({ message }) => message === `listening for ${what}`);
  return Number(line['port']);
}

/** The state once the process is ready. */
async function stateOf(metrics: number, readyUrl: string): Promise<{ planes: Record<string, unknown> }> {
  await until(
    async () => (await fetch(readyUrl)).ok,
    30_000,
    () => 'not ready',
  );
  return (await (await fetch(`http://127.0.0.1:${metrics}/state`)).json()) as { planes: Record<string, unknown> };
}

describe('fairlead ingress over an API server', () => {
  const secret = (crt: string, key: string) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    metadata: { namespace: 'shop', name: 'tls' },
    data: { 'tls.crt': Buffer.from(crt).toString('base64'), 'tls.key': Buffer.from(key).toString('base64') },
  });

  test('routes, reads the Secrets that Ingresses name and no others, and serves their certificate', async () => {
    const { certificate, key } = await selfSigned('shop.example.com');
    server.apply(service('10.96.0.10'), slice(await pod('a')), secret(certificate, key));
    server.apply(
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'IngressClass',
        metadata: { name: 'nginx' },
        spec: { controller: 'k8s.io/ingress-nginx' },
      },
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'Ingress',
        metadata: { namespace: 'shop', name: 'web' },
        spec: {
          ingressClassName: 'nginx',
          tls: [{ hosts: ['shop.example.com'], secretName: 'tls' }],
          rules: [
            {
              host: 'shop.example.com',
              http: {
                paths: [
                  { path: '/', pathType: 'Prefix', backend: { service: { name: 'web', port: { number: 8000 } } } },
                ],
              },
            },
          ],
        },
      },
    );
    const running = role('ingress', '--http-port=0', '--https-port=0', '--healthz-port=0', '--ssl-redirect=false');
    const metrics = await portOf(running, 'metrics and health');
    const { planes } = await stateOf(metrics, `http://127.0.0.1:${metrics}/readyz`);
    const { addresses } = planes['ingress'] as { addresses: Record<'http' | 'https', { port: number }> };
    expect(await get('127.0.0.1', addresses.http.port, '/x', 'shop.example.com')).toBe('a /x http');
    await until(
      async () => (await peerName(addresses.https.port, 'shop.example.com')) === 'shop.example.com',
      30_000,
      () => 'the certificate of the Secret was never served',
    );
    const secrets = server.requests.filter(({ path }) => path.includes('secrets'));
    expect(secrets.length).toBeGreaterThan(0);
    for (const { path, query } of secrets) {
      expect([path, query.get('fieldSelector')]).toEqual(['/api/v1/namespaces/shop/secrets', 'metadata.name=tls']);
    }
  });
});

describe('fairlead dns over an API server', () => {
  test('answers what the server holds, and follows it', async () => {
    server.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } }, service('10.96.0.10'));
    const running = role(
      'dns',
      '--dns-bind-address=127.0.0.1:0',
      '--upstream=127.0.0.1:9',
      ...['metrics', 'health', 'ready'].map((name) => `--${name}-bind-address=127.0.0.1:0`),
    );
    const metrics = await portOf(running, 'metrics and state');
    const readiness = await portOf(running, 'readiness');
    const { planes } = await stateOf(metrics, `http://127.0.0.1:${readiness}/ready`);
    const { listen } = planes['dns'] as { listen: { port: number }[] };
    const resolver = new Resolver({ timeout: 2_000, tries: 1 });
    resolver.setServers([`127.0.0.1:${listen[0]?.port ?? 0}`]);
    expect(await resolver.resolve4('web.shop.svc.cluster.local')).toEqual(['10.96.0.10']);
    server.delete('Service', 'shop/web');
    await until(
      () =>
        resolver.resolve4('web.shop.svc.cluster.local').then(
          () => undefined,
          (error: NodeJS.ErrnoException) => error.code,
        ),
      30_000,
      () => 'the name never went',
    ).then((code) => expect(code).toBe('ENOTFOUND'));
  });
});

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
