import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RESOURCES } from '../support/api-server/resource-table.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { freePort } from '../support/free-port.ts';
import { Laptop, get } from '../support/laptop.ts';
import { FairleadProcess, runFairlead } from '../support/process.ts';
import { eventually } from '../support/until.ts';

let laptop: Laptop;
let server: TestApiServer;
const processes: FairleadProcess[] = [];
const others: Server[] = [];

beforeEach(async () => {
  laptop = new Laptop();
  server = await startTestApiServer();
});

afterEach(async () => {
  await Promise.all(processes.splice(0).map((each) => each.close()));
  for (const other of others.splice(0)) other.close();
  await server.stop();
  laptop.close();
});

/** The ConfigMap of kubeadm with a few fields of its own, as the kubelet mounts it. */
function configuration(fields: Readonly<Record<string, string>> = {}): string {
  const all: Record<string, string> = {
    bindAddress: '0.0.0.0',
    clientConnection: '{acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: "", qps: 0}',
    clusterCIDR: '10.244.0.0/16',
    configSyncPeriod: '0s',
    conntrack: '{maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpTimeout: 0s}',
    detectLocalMode: '""',
    healthzBindAddress: '127.0.0.1:0',
    metricsBindAddress: '127.0.0.1:0',
    iptables: '{masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}',
    ipvs: '{excludeCIDRs: null, scheduler: "", strictARP: false}',
    mode: 'userspace',
    nodePortAddresses: 'null',
    oomScoreAdj: '0',
    logging: '{flushFrequency: 0, format: json, verbosity: 0}',
    winkernel: '{enableDSR: false, networkName: "", sourceVip: ""}',
    ...fields,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\n`);
  return `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n${lines.join('')}`;
}

function file(): string {
  return join(laptop.dir, 'config.conf');
}

function start(fields: Readonly<Record<string, string>> = {}, ...words: readonly string[]): FairleadProcess {
  writeFileSync(file(), configuration(fields));
  const running = new FairleadProcess(['proxy', '--config', file(), '--master', server.url, ...words]);
  processes.push(running);
  return running;
}

function edit(fields: Readonly<Record<string, string>>): void {
  writeFileSync(`${file()}.new`, configuration(fields));
  renameSync(`${file()}.new`, file());
}

async function urlOf(running: FairleadProcess, what: 'health' | 'metrics and state'): Promise<string> {
  const line = await running.logged(({ message }) => message === `listening for ${what}`);
  return `http://127.0.0.1:${String(line['port'])}`;
}

async function json(
  url: string,
): Promise<{ readonly status: number; readonly headers: Headers; readonly body: unknown }> {
  const response = await fetch(url);
  return { status: response.status, headers: response.headers, body: await response.json() };
}

const node = (more: object = {}, spec: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-a', ...more },
  spec: { podCIDRs: ['10.244.1.0/24'], ...spec },
  status: { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }] },
});

describe('proxy --config', () => {
  test('answers what kube-proxy answers: /configz, /proxyMode, /healthz, /livez, metrics', async () => {
    server.apply({ ...node() });
    const running = start({ hostnameOverride: '" Node-A "' });
    const metrics = await urlOf(running, 'metrics and state');
    const probes = await urlOf(running, 'health');
    await eventually('ready', async () => (await fetch(`${probes}/readyz`)).status === 200);
    const { body } = await json(`${metrics}/configz`);
    expect(body).toMatchObject({
      'kubeproxy.config.k8s.io': {
        clusterCIDR: '10.244.0.0/16',
        mode: 'userspace',
        configSyncPeriod: '15m0s',
        iptables: { masqueradeBit: 14, syncPeriod: '30s' },
        conntrack: { maxPerCore: 32768, tcpEstablishedTimeout: '24h0m0s' },
      },
    });
    const mode = await fetch(`${metrics}/proxyMode`);
    expect([mode.headers.get('content-type'), await mode.text()]).toEqual(['text/plain', 'userspace']);
    expect(await (await fetch(`${metrics}/healthz`)).text()).toBe('ok');
    const healthz = await json(`${probes}/healthz`);
    expect(healthz.status).toBe(200);
    expect(healthz.headers.get('content-type')).toBe('application/json');
    expect(healthz.headers.get('x-content-type-options')).toBe('nosniff');
    expect(Object.keys(healthz.body as object)).toEqual([
      'lastUpdated',
      'currentTime',
      'nodeEligible',
      'healthy',
      'status',
    ]);
    expect(healthz.body).toMatchObject({ nodeEligible: true, healthy: true, status: { IPv4: { healthy: true } } });
    server.apply({ ...node({}, { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] }) });
    await eventually('tainted', async () => (await fetch(`${probes}/healthz`)).status === 503);
    expect(await json(`${probes}/livez`)).toMatchObject({ status: 200, body: { healthy: true } });
    const flagz = await (await fetch(`${metrics}/flagz`)).text();
    expect(flagz).toMatch(/^\nfairlead-proxy flagz\n/);
    expect(flagz).toContain(`\nmaster: ${server.url}\n`);
    expect(flagz).toContain('\nconntrack-max-per-core: 32768\n');
    expect(await (await fetch(`${metrics}/statusz`)).text()).toMatch(/\nUp {2}0 hr 0\d min \d\d sec\n/);
    const slis = await fetch(`${metrics}/metrics/slis`);
    expect(await slis.text()).toMatch(/\nprocess_start_time_seconds [1-9]/);
    expect(Number(slis.headers.get('process-start-time-unix'))).toBeGreaterThan(1_700_000_000);
    const text = await (await fetch(`${metrics}/metrics`)).text();
    const host = new URL(server.url).host;
    expect(text).toMatch(new RegExp(`rest_client_requests_total\\{code="200",host="${host}",method="GET"\\} [1-9]`));
    expect(text).toContain(`rest_client_request_duration_seconds_bucket{le="0.005",host="${host}",verb="GET"}`);
    expect(text).toMatch(/kubeproxy_proxy_healthz_total\{code="503"\} [1-9]/);
    expect(text).toMatch(/kubeproxy_proxy_livez_total\{code="200"\} 1/);
  });

  test('before the Node is seen, /healthz is 503 and /livez 200', async () => {
    const running = start({ hostnameOverride: 'node-a' });
    const probes = await urlOf(running, 'health');
    expect(await json(`${probes}/healthz`)).toMatchObject({
      status: 503,
      body: { nodeEligible: false, healthy: true },
    });
    expect((await fetch(`${probes}/livez`)).status).toBe(200);
  });

  test('flags that do nothing are told, once each kind', async () => {
    const running = start(
      { featureGates: '{A: true}' },
      '--cluster-cidr=10.0.0.0/8',
      '--kube-api-qps=7',
      '--node-name=node-a',
    );
    const told = async (text: string): Promise<string> =>
      (await running.logged(({ level, message }) => level === 'warn' && message.includes(text))).message;
    expect(await told('flags have no effect here')).toMatch(/: --kube-api-qps$/);
    expect(await told('beside --config')).toMatch(/: --cluster-cidr$/);
    expect(await told('fields have no effect here')).toMatch(/: featureGates$/);
  });

  test('it says that it starts, as an Event on the Node', async () => {
    start({ hostnameOverride: 'node-a' });
    const [event] = await eventually('an Event', async () => {
      const found = events();
      return found.length > 0 ? found : undefined;
    });
    expect(event).toMatchObject({
      reason: 'Starting',
      type: 'Normal',
      action: 'StartKubeProxy',
      regarding: { kind: 'Node', name: 'node-a', uid: 'node-a' },
      metadata: { namespace: 'default' },
    });
  });
});

function events(): readonly object[] {
  const resource = RESOURCES.find(({ group, plural }) => group === 'events.k8s.io' && plural === 'events');
  return resource ? [...server.storage.current(resource).values()] : [];
}

describe('a bad configuration ends with code 2, file and line', () => {
  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    [
      'an unknown field',
      { clusterCdir: '10.0.0.0/8' },
      /config\.conf:\d+: clusterCdir: unknown field; did you mean clusterCIDR\?/,
    ],
    [
      'a range of IPVS',
      { mode: 'ipvs', ipvs: '{excludeCIDRs: [10.0.0.0/33]}' },
      /config\.conf:12: ipvs\.excludeCIDRs: "10\.0\.0\.0\/33" is no address range/,
    ],
    ['an address', { metricsBindAddress: 'here' }, /config\.conf:10: metricsBindAddress: "here" is not IP:PORT/],
    ['a duration', { configSyncPeriod: '5' }, /config\.conf:6: configSyncPeriod: must be a duration/],
  ])('%s', async (_what, fields, message) => {
    const running = start(fields);
    expect(await running.exited).toEqual({ code: 2, signal: null });
    expect(running.stderr).toMatch(message);
    expect(running.stderr).not.toMatch(/\n\s+at /);
  });

  test('a file that is not there', async () => {
    const { code, stderr } = await runFairlead(['proxy', '--config', '/nowhere/config.conf']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^fairlead: flag --config: \/nowhere\/config\.conf cannot be read/);
  });

  test('a flag, without a file', async () => {
    const { code, stderr } = await runFairlead(['proxy', '--iptables-masquerade-bit=32']);
    expect([code, stderr]).toEqual([2, 'fairlead: flag --iptables-masquerade-bit: must be from 0 to 31, not 32\n']);
  });
});

describe('commands of kube-proxy', () => {
  test('--write-config-to writes all defaults, and what it writes is read again', async () => {
    const target = join(laptop.dir, 'written.yaml');
    const first = await runFairlead(['proxy', '--cluster-cidr=10.0.0.0/8,fd00::/64', '--write-config-to', target]);
    expect(first).toMatchObject({ code: 0, stdout: '', stderr: '' });
    const text = readFileSync(target, 'utf8');
    expect(text).toContain('clusterCIDR: 10.0.0.0/8,fd00::/64\n');
    expect(text).toContain('tcpEstablishedTimeout: 24h0m0s\n');
    const again = join(laptop.dir, 'again.yaml');
    expect(await runFairlead(['proxy', '--config', target, '--write-config-to', again])).toMatchObject({ code: 0 });
    expect(readFileSync(again, 'utf8')).toBe(text);
  });

  test('--version', async () => {
    expect((await runFairlead(['proxy', '--version'])).stdout).toMatch(/^fairlead \d/);
  });

  test('--init-only with nothing to set ends at once', async () => {
    const words = ['--conntrack-max-per-core=0', '--conntrack-min=0', '--conntrack-tcp-timeout-established=0s'];
    const result = await runFairlead(['proxy', '--init-only', ...words, '--conntrack-tcp-timeout-close-wait=0s']);
    expect(result).toMatchObject({ code: 0, stdout: '' });
  });

  test('--metrics-port=0 and --healthz-port=0: no such endpoints', async () => {
    const words = ['--mode=userspace', '--master', server.url, '--node-name=node-a', '--logging-format=json'];
    const running = new FairleadProcess(['proxy', ...words, '--metrics-port=0', '--healthz-port=0']);
    processes.push(running);
    await running.logged(({ message }) => message === 'rules in force');
    expect(running.log.filter(({ message }) => message.startsWith('listening'))).toEqual([]);
  });
});

describe('an address that is taken', () => {
  async function taken(): Promise<number> {
    const other = createServer();
    others.push(other);
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const address = other.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  test('ends the program with bindAddressHardFail', async () => {
    const port = await taken();
    const running = start({ metricsBindAddress: `127.0.0.1:${port}`, bindAddressHardFail: 'true' });
    expect(await running.exited).toEqual({ code: 1, signal: null });
    expect(running.stderr).toMatch(
      /cannot listen on 127\.0\.0\.1:\d+ for metrics and state: another process listens there/,
    );
  });

  test('is tried again otherwise', async () => {
    const port = await taken();
    const running = start({ metricsBindAddress: `127.0.0.1:${port}` });
    await running.logged(({ message }) => message.includes('trying again'));
    for (const other of others.splice(0)) other.close();
    await running.logged(({ message }) => message === 'listening for metrics and state');
    expect(await (await fetch(`http://127.0.0.1:${port}/healthz`)).text()).toBe('ok');
  });
});

describe('an edit of the file while it runs', () => {
  const base = { hostnameOverride: 'node-a' };

  async function configz(running: FairleadProcess): Promise<Readonly<Record<string, unknown>>> {
    const { body } = await json(`${await urlOf(running, 'metrics and state')}/configz`);
    return (body as Record<string, Record<string, unknown>>)['kubeproxy.config.k8s.io'] ?? {};
  }

  test('is applied at once where that is possible', async () => {
    server.apply({ ...node() });
    const running = start(base);
    await running.logged(({ message }) => message === 'rules in force');
    edit({ ...base, clusterCIDR: '10.9.0.0/16', logging: '{format: json, verbosity: 4}' });
    const line = await running.logged(({ message }) => message === 'configuration changed, applied at once');
    expect(line['fields']).toBe('logging.verbosity,clusterCIDR');
    expect(await configz(running)).toMatchObject({ clusterCIDR: '10.9.0.0/16', logging: { verbosity: 4 } });
    await running.logged(({ level }) => level === 'debug');
  });

  test('is seen when a kubelet swaps the folder of a ConfigMap', async () => {
    const version = (name: string, fields: Readonly<Record<string, string>>): void => {
      mkdirSync(join(laptop.dir, name));
      writeFileSync(join(laptop.dir, name, 'config.conf'), configuration({ ...base, ...fields }));
      symlinkSync(name, join(laptop.dir, '..data_tmp'));
      renameSync(join(laptop.dir, '..data_tmp'), join(laptop.dir, '..data'));
    };
    version('..1', {});
    symlinkSync('..data/config.conf', file());
    const running = new FairleadProcess(['proxy', '--config', file(), '--master', server.url]);
    processes.push(running);
    await urlOf(running, 'metrics and state');
    version('..2', { clusterCIDR: '10.9.0.0/16' });
    await running.logged(({ message }) => message === 'configuration changed, applied at once');
    expect(await configz(running)).toMatchObject({ clusterCIDR: '10.9.0.0/16' });
  });

  test('that is bad leaves the last good configuration, and is told with file and line', async () => {
    const running = start(base);
    await urlOf(running, 'metrics and state');
    edit({ ...base, clusterCIDR: '10.9.0.0' });
    const line = await running.logged(({ level }) => level === 'error');
    expect(line.message).toMatch(/config\.conf:5: clusterCIDR: .*The last good configuration stays in force/);
    expect(await configz(running)).toMatchObject({ clusterCIDR: '10.244.0.0/16' });
    edit({ ...base, clusterCIDR: '10.9.0.0/16' });
    await running.logged(({ message }) => message === 'the configuration file is good again');
    expect(await configz(running)).toMatchObject({ clusterCIDR: '10.9.0.0/16' });
  });

  test('that needs a restart says so and ends with code 1, for the supervisor', async () => {
    const running = start(base);
    await urlOf(running, 'health');
    edit({ ...base, healthzBindAddress: '127.0.0.1:1' });
    const line = await running.logged(({ message }) => message.startsWith('restart needed'));
    expect(line.message).toMatch(/^restart needed: healthzBindAddress changed in /);
    expect(await running.exited).toEqual({ code: 1, signal: null });
  });

  test('NodePorts move to other addresses without a restart', async () => {
    const pod = await laptop.httpPod('a', 'app: web');
    const ip = /podIP: ([\d.]+)/.exec(pod)?.[1] ?? '';
    const port = await freePort();
    server.apply({ ...node() }, service(port), slice(ip));
    const running = start({ ...base, nodePortAddresses: '[203.0.113.0/24]' });
    await running.logged(({ message }) => message === 'rules in force');
    expect(await get('127.0.0.1', port)).toBe('ECONNREFUSED');
    edit({ ...base, nodePortAddresses: '[127.0.0.0/8]' });
    await eventually('the NodePort', async () => (await get('127.0.0.1', port)) === 'a / ');
  });
});

const service = (nodePort: number, healthCheckNodePort?: number, web = laptop.address()): Record<string, unknown> => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'shop', name: 'web' },
  spec: {
    clusterIP: web,
    clusterIPs: [web],
    type: 'LoadBalancer',
    externalTrafficPolicy: healthCheckNodePort === undefined ? 'Cluster' : 'Local',
    ...(healthCheckNodePort === undefined ? {} : { healthCheckNodePort }),
    ports: [{ name: 'main', port: 8000, nodePort, protocol: 'TCP' }],
  },
});

const slice = (address: string, conditions: object = { ready: true }): Record<string, unknown> => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { namespace: 'shop', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ports: [{ name: 'main', port: 8080, protocol: 'TCP' }],
  endpoints: [{ addresses: [address], nodeName: 'node-a', conditions }],
});

describe('healthCheckNodePort', () => {
  const body = (count: number): string =>
    `{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": ${count},\n\t"serviceProxyHealthy": true\n}`;

  test('answers in the words of kube-proxy, follows the endpoints, and is gone with the Service', async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/any/path`;
    server.apply({ ...node() }, service(await freePort(), port), slice('127.0.0.9'));
    start({ hostnameOverride: 'node-a', nodePortAddresses: '[127.0.0.0/8]' });
    const first = await eventually('an answer', async () => fetch(url, { method: 'POST' }).catch(() => undefined));
    expect([first.status, await first.text()]).toEqual([200, body(1)]);
    expect(Object.fromEntries(first.headers)).toMatchObject({
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': '1',
    });
    server.apply(slice('127.0.0.9', { ready: false, serving: true, terminating: true }));
    const later = await eventually('503', async () => {
      const response = await fetch(url);
      return response.status === 503 ? response : undefined;
    });
    expect(await later.text()).toBe(body(0));
    expect(later.headers.get('x-load-balancing-endpoint-weight')).toBe('0');
    server.delete('Service', 'shop/web');
    await eventually('closed', async () => (await get('127.0.0.1', port)) === 'ECONNREFUSED');
  });

  test('a port that is taken is told once, with an Event, and opened when it is free', async () => {
    const port = await freePort();
    const other = createServer((_request, response) => response.end('other'));
    others.push(other);
    await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve));
    server.apply({ ...node() }, service(await freePort(), port), slice('127.0.0.9'));
    const running = start({ hostnameOverride: 'node-a', nodePortAddresses: '[127.0.0.0/8]' });
    const line = await running.logged(
      ({ level, message }) => level === 'warn' && message.includes(`node port ${port} `),
    );
    expect(line.message).toMatch(
      /Service shop\/web: node port \d+ of its health check cannot be listened on at 127\.0\.0\.1:\d+ \(EADDRINUSE\)/,
    );
    await eventually('the Event', async () =>
      events().some((event) => Reflect.get(event, 'reason') === 'FailedToStartServiceHealthcheck'),
    );
    others.splice(0);
    other.close();
    other.closeAllConnections();
    const answer = await eventually('an answer', async () => fetch(`http://127.0.0.1:${port}/`).catch(() => undefined));
    expect(await answer.text()).toBe(body(1));
    expect(
      running.log.filter(({ level, message }) => level === 'warn' && message.includes(`node port ${port} `)),
    ).toHaveLength(1);
  });
});
