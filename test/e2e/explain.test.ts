import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { FairleadProcess, runFairlead } from '../support/process.ts';
import { until } from '../support/until.ts';

const SHOP = `apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {topology.kubernetes.io/zone: zone-a}}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.10
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  sessionAffinity: ClientIP
  loadBalancerSourceRanges: [203.0.113.0/24]
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.9}, {ip: 192.0.2.10, ipMode: Proxy}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], nodeName: node-a, targetRef: {kind: Pod, name: web-1}}
- {addresses: [10.0.0.2], nodeName: node-b}
- {addresses: [10.0.0.3], nodeName: node-b, conditions: {ready: false}, targetRef: {kind: Pod, name: web-3}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: front}
spec:
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
---
apiVersion: v1
kind: Secret
metadata: {namespace: shop, name: key}
stringData: {word: swordfish}
`;

const dir = mkdtempSync(join(tmpdir(), 'fairlead-explain-'));
const FOLDER = ['--manifests', dir, '--node-name', 'node-a'];
beforeAll(() => writeFileSync(join(dir, 'shop.yaml'), SHOP));
afterAll(() => rmSync(dir, { recursive: true }));

const running: FairleadProcess[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((each) => each.close()));
});

/** `proxy` over the folder in userspace, and the address of its metrics. */
async function startProxy(): Promise<string> {
  const words = ['--mode=userspace', '--logging-format=json', '--metrics-bind-address=127.0.0.1:0'];
  const proxy = new FairleadProcess(['proxy', ...FOLDER, ...words, '--healthz-bind-address=127.0.0.1:0']);
  running.push(proxy);
  const { port } = await proxy.logged(({ message }) => message === 'listening for metrics and state');
  const address = `127.0.0.1:${String(port)}`;
  await until(
    async () => (await fetch(`http://${address}/trace?from=node&to=node:1`)).status === 200,
    30_000,
    () => proxy.stderr,
  );
  return address;
}

describe('explain service', () => {
  test('of a folder says everything about the Service, and nothing of Secrets', async () => {
    const { code, stdout } = await runFairlead(['explain', 'service', 'shop/web', ...FOLDER]);
    expect(code).toBe(0);
    for (const part of [
      'Service shop/web (LoadBalancer), as node node-a sees it in zone zone-a',
      'carried   yes',
      'web.shop.svc.cluster.local (172.30.0.10)',
      'shop.example.com/ (shop/front)',
      '192.0.2.9:80    loadBalancerIP: only from 203.0.113.0/24',
      'NODE:30080      nodePort',
      'ipMode Proxy',
      'internal traffic, policy Cluster: forwarded to one of 2 endpoints',
      'external traffic, policy Local: forwarded to 1 endpoint',
      'external traffic from Pods and this node, policy Local: forwarded to one of 2',
      'stays with its endpoint for 10800 s',
      'health check NodePort 32000',
      '10.0.0.3:8080  on node-b, Pod web-3: it is not ready',
      'mend: see what its readiness waits for (kubectl -n shop describe pod web-3)',
      '10.0.0.2:8080  on node-b: policy Local takes endpoints on node-a only',
      'What nftables programs for it',
      '172.30.0.10 . tcp . 80 . 0 : 10.0.0.1 . 8080',
      'What userspace programs for it',
    ]) {
      expect(stdout).toContain(part);
    }
    expect(stdout).not.toContain('swordfish');
  });

  test('an address that another Service has is told', async () => {
    const other = mkdtempSync(join(tmpdir(), 'fairlead-explain-'));
    const claim = (name: string, ip: string) =>
      `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec: {clusterIP: ${ip}, externalIPs: [192.0.2.1], ports: [{port: 80}]}\n`;
    writeFileSync(join(other, 'a.yaml'), `${claim('first', '172.30.0.1')}---\n${claim('second', '172.30.0.2')}`);
    const { stdout } = await runFairlead(['explain', 'service', 'second', '--manifests', other]);
    rmSync(other, { recursive: true });
    expect(stdout).toContain(
      '192.0.2.1:80   externalIP: default/first/TCP/IPv4 claims it too and has it, as the first by name',
    );
    expect(stdout).toContain('REJECT: it has no endpoints at all');
  });

  test('as JSON', async () => {
    const { stdout } = await runFairlead(['explain', 'service', 'shop/web', ...FOLDER, '-o', 'json']);
    const explanation = JSON.parse(stdout) as {
      ports: { sets: { policy: string; leftOut: { reason: string }[] }[] }[];
    };
    const reasons = explanation.ports[0]?.sets.map(({ policy, leftOut }) => [
      policy,
      leftOut.map(({ reason }) => reason),
    ]);
    expect(reasons).toEqual([
      ['Cluster', ['not-ready']],
      ['Local', ['not-local', 'not-local']],
    ]);
  });

  test('a Service that is not there: code 1, and what may have been meant', async () => {
    const { code, stdout, stderr } = await runFairlead(['explain', 'service', 'shop/wep', ...FOLDER]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^fairlead: no Service shop\/wep\. Did you mean shop\/web\?$/m);
  });

  test('of a running process: its own mode, and the same refusals', async () => {
    const address = await startProxy();
    const { code, stdout } = await runFairlead(['explain', 'service', 'shop/web', '--address', address]);
    expect(code).toBe(0);
    expect(stdout).toContain('What userspace programs for it');
    expect(stdout).not.toContain('nftables');
    const unknown = await runFairlead(['explain', 'service', 'shop/wep', '--address', address]);
    expect(unknown).toMatchObject({ code: 1, stderr: 'fairlead: no Service shop/wep. Did you mean shop/web?\n' });
    const trace = await runFairlead(['trace', 'nobody', '172.30.0.10:80', '--address', address]);
    expect(trace).toMatchObject({ code: 2, stderr: expect.stringContaining('SRC is an address') });
  });
});

describe('trace', () => {
  const CIDR = '--cluster-cidr=10.0.0.0/8';
  test.each<[string, readonly string[], RegExp]>([
    [
      'the node to a ClusterIP',
      ['node', '172.30.0.10:80/TCP'],
      /verdict: 10\.0\.0\.1:8080, 10\.0\.0\.2:8080\nmasquerade: yes\n/,
    ],
    [
      'a Pod by its name, to a Service by its name',
      ['shop/web-1', 'shop/web:http'],
      /masquerade {3}only when 10\.0\.0\.1/,
    ],
    ['an outside client to a NodePort', ['203.0.113.2', 'node:30080'], /verdict: 10\.0\.0\.1:8080\nmasquerade: no\n/],
    ['a source outside the ranges', ['198.51.100.1', '192.0.2.9:80/TCP'], /source ranges .*\nverdict: DROP\n/],
    ['a load balancer address without rules', ['203.0.113.2', '192.0.2.10:80'], /verdict: untouched/],
    ['another port of the ClusterIP', ['203.0.113.2', '172.30.0.10:81'], /verdict: REJECT/],
    ['a Pod of another node', ['10.0.0.2', '172.30.0.10:80'], /runs on node-b: that node judges its packets first/],
  ])('%s', async (_what, words, expected) => {
    const { code, stdout } = await runFairlead(['trace', ...words, ...FOLDER, CIDR]);
    expect(stdout).toMatch(expected);
    expect(code).toBe(0);
  });

  test('as JSON, of a running process', async () => {
    const address = await startProxy();
    const { code, stdout } = await runFairlead([
      'trace',
      '10.0.0.9',
      'shop/web:80',
      '--output=json',
      '--address',
      address,
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      mode: 'userspace',
      verdict: 'forward',
      targets: [{ endpoint: '10.0.0.1:8080' }, { endpoint: '10.0.0.2:8080' }],
    });
  });

  test('a Pod that nobody knows: code 1', async () => {
    const { code, stderr } = await runFairlead(['trace', 'shop/nobody', 'shop/web:80', ...FOLDER]);
    expect(stderr).toMatch(/no Pod shop\/nobody with an IPv4 address is known/);
    expect(code).toBe(1);
  });
});

describe('explain ingress', () => {
  test('of a folder and of a running process says the same', async () => {
    const folder = await runFairlead(['explain', 'ingress', 'http://shop.example.com/tea', ...FOLDER]);
    expect(folder.stderr).toBe('');
    expect(folder.stdout).toContain('rule        shop.example.com/ (Prefix) of shop/front');
    expect(folder.stdout).toContain('10.0.0.1:8080');
    const words = ['--http-port=0', '--https-port=0', '--healthz-port=0', '--logging-format=json'];
    const ingress = new FairleadProcess(['ingress', ...FOLDER, ...words]);
    running.push(ingress);
    const { port } = await ingress.logged(({ message }) => message === 'listening for metrics and health');
    await ingress.logged(({ message }) => message === 'routes updated');
    const asked = ['explain', 'ingress', 'http://shop.example.com/tea', `--address=127.0.0.1:${String(port)}`];
    // A running process is what it is; of a folder it is said whose answer this would be.
    const ofProcess = folder.stdout.replace(/^ {2}that of .*\n/m, '');
    expect(ofProcess).not.toBe(folder.stdout);
    expect((await runFairlead(asked)).stdout).toBe(ofProcess);
    const json = JSON.parse((await runFairlead([...asked, '-o', 'json'])).stdout) as { status?: number };
    expect(json).toMatchObject({ location: { ingress: 'shop/front' } });
  });

  test('of a folder it says whose answer it is, and gives that of the other command', async () => {
    const cafe = mkdtempSync(join(tmpdir(), 'fairlead-explain-tls-'));
    onTestFinished(() => rmSync(cafe, { recursive: true }));
    const tls = SHOP.replace('  rules:', '  tls: [{hosts: [shop.example.com], secretName: key}]\n  rules:');
    writeFileSync(join(cafe, 'shop.yaml'), tls);
    const explained = async (...words: readonly string[]): Promise<string> =>
      (await runFairlead(['explain', 'ingress', 'http://shop.example.com/tea', '--manifests', cafe, ...words])).stdout;
    const ingress = await explained();
    expect(ingress).toContain('answer      308 to https://shop.example.com/tea');
    expect(ingress).toMatch(/that of {5}fairlead ingress\. fairlead up .* what .* says to \/tea \(--as up\)/);
    const up = await explained('--as', 'up');
    expect(up).toMatch(/answer {6}what .* says to \/tea/);
    expect(up).toMatch(/that of {5}fairlead up\. fairlead ingress .* 308 to https/);
    expect(await explained('--ssl-redirect=false')).toContain('fairlead up gives the same');
    const wrong = await runFairlead(['explain', 'ingress', 'x/', ...FOLDER, '--as', 'proxy']);
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('--as is ingress or up')]);
  });

  test('what is no URL, and a ConfigMap that is not there, is refused with the mend', async () => {
    const wrong = await runFairlead(['explain', 'ingress', 'shop front', ...FOLDER]);
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('a URL is http://HOST/PATH')]);
    const missing = await runFairlead(['explain', 'ingress', 'shop/x', ...FOLDER, '--configmap=a/b']);
    expect([missing.code, missing.stderr]).toEqual([2, expect.stringContaining('no ConfigMap a/b')]);
  });
});
