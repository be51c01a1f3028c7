import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { Resolver } from 'node:dns/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Laptop, get, podManifest, serviceManifest } from '../support/laptop.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const INGRESS = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: shop}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /web, pathType: Prefix, backend: {service: {name: web, port: {name: main}}}}
`;

interface Ports {
  readonly metrics: number;
  readonly dns: number;
  readonly http: number;
}

let laptop: Laptop;
const processes: FairleadProcess[] = [];

beforeEach(() => {
  laptop = new Laptop();
});

afterEach(async () => {
  await Promise.all(processes.splice(0).map((each) => each.close()));
  laptop.close();
});

const ANY_PORT = ['dns', 'http', 'https', 'metrics'].map((name) => `--${name}-bind-address=127.0.0.1:0`);

function start(...words: readonly string[]): FairleadProcess {
  const running = new FairleadProcess([
    'up',
    '--manifests',
    laptop.dir,
    '--logging-format',
    'json',
    ...ANY_PORT,
    ...words,
  ]);
  processes.push(running);
  return running;
}

async function metricsPort(running: FairleadProcess): Promise<number> {
  const line = await running.logged(({ message }) => message.startsWith('listening for metrics'));
  return Number(line['port']);
}

/** Waits until it is ready, and finds its ports by asking it. */
async function ready(running: FairleadProcess): Promise<Ports> {
  const metrics = await metricsPort(running);
  await until(
    async () => (await fetch(`http://127.0.0.1:${metrics}/readyz`)).ok,
    30_000,
    () => `not ready:\n${running.stderr}`,
  );
  const state = (await (await fetch(`http://127.0.0.1:${metrics}/state`)).json()) as {
    planes: {
      dns: { listen: { port: number }[] };
      ingress: { addresses: { http: { port: number } } };
    };
  };
  return {
    metrics,
    dns: state.planes.dns.listen[0]?.port ?? 0,
    http: state.planes.ingress.addresses.http.port,
  };
}

function resolver(port: number): Resolver {
  const found = new Resolver({ timeout: 2_000, tries: 1 });
  found.setServers([`127.0.0.1:${port}`]);
  return found;
}

function sendDatagram(address: string, port: number, text: string): Promise<string> {
  const socket = createSocket('udp4');
  return new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no answer')), 3_000);
    socket.once('message', (data) => {
      clearTimeout(timer);
      resolve(data.toString());
    });
    socket.send(text, port, address);
  }).finally(() => socket.close());
}

describe('fairlead up over a folder', () => {
  test('Service addresses connect, names resolve, URLs route', async () => {
    const [web, echo] = [laptop.address(), laptop.address()];
    laptop.write('web.yaml', `${serviceManifest('web', web)}---\n${await laptop.httpPod('web-1', 'app: web')}`);
    laptop.write(
      'echo.yaml',
      `${serviceManifest('echo', echo, 'UDP')}---\n${await laptop.udpPod('echo-1', 'app: echo')}`,
    );
    laptop.write('ingress.yaml', INGRESS);
    const { dns, http } = await ready(start());

    expect(await get(web, 8000, '/x')).toBe('web-1 /x ');
    expect(await sendDatagram(echo, 8000, 'hello')).toBe('echo-1: hello');
    expect(await resolver(dns).resolve4('web.shop.svc.cluster.local')).toEqual([web]);
    expect(await get('127.0.0.1', http, '/web/y', 'shop.example.com')).toBe('web-1 /web/y http');
    expect(await get('127.0.0.1', http, '/other', 'shop.example.com')).toBe('404');
  });

  test('traffic follows Pods that come and go, and no new connection meets one that left', async () => {
    const web = laptop.address();
    const pods = await Promise.all(['a', 'b', 'c'].map((name) => laptop.httpPod(name, 'app: web')));
    laptop.write('web.yaml', serviceManifest('web', web));
    laptop.write('a.yaml', pods[0] ?? '');
    await ready(start());
    const seen = async (): Promise<string> => {
      const answers = await Promise.all(Array.from({ length: 30 }, () => get(web, 8000)));
      return [...new Set(answers.map((answer) => answer.split(' ')[0] ?? ''))].sort().join(' ');
    };
    const follows = async (expected: string): Promise<void> => {
      await until(
        async () => (await seen()) === expected,
        30_000,
        () => `never ${expected}`,
      );
      for (let i = 0; i < 5; i++) expect(await seen()).toBe(expected);
    };
    expect(await seen()).toBe('a');
    laptop.write('b.yaml', pods[1] ?? '');
    laptop.write('c.yaml', pods[2] ?? '');
    await follows('a b c');
    laptop.remove('a.yaml');
    await follows('b c');
  });

  test('a bad edit is told with file and line, and what worked goes on working', async () => {
    const web = laptop.address();
    laptop.write('web.yaml', `${serviceManifest('web', web)}---\n${await laptop.httpPod('web-1', 'app: web')}`);
    const running = start();
    const { dns } = await ready(running);
    laptop.write('web.yaml', `${serviceManifest('web', web)}---\napiVersion: v1\nkind: [Pod\n`);
    const line = await running.logged(({ level, message }) => level === 'error' && message.includes('web.yaml'));
    expect(line.message).toMatch(/web\.yaml:\d+: not valid YAML/);
    expect(await get(web, 8000)).toBe('web-1 / ');
    expect(await resolver(dns).resolve4('web.shop.svc.cluster.local')).toEqual([web]);
  });

  test('SIGTERM ends it with code 0, and nothing listens any more', async () => {
    const web = laptop.address();
    laptop.write('web.yaml', `${serviceManifest('web', web)}---\n${await laptop.httpPod('web-1', 'app: web')}`);
    const running = start();
    const { metrics, http } = await ready(running);
    running.kill();
    expect(await running.exited).toEqual({ code: 0, signal: null });
    expect(running.log.at(-1)?.message).toBe('stopped');
    for (const [address, port] of [
      [web, 8000],
      ['127.0.0.1', http],
      ['127.0.0.1', metrics],
    ] as const) {
      expect(await get(address, port)).toBe('ECONNREFUSED');
    }
  });

  test('a connection that is open when a Pod leaves goes on to its end', async () => {
    const web = laptop.address();
    const pod = laptop.address();
    const server = createServer((socket) => socket.on('error', () => socket.destroy()).pipe(socket));
    await new Promise<void>((resolve) => server.listen(8080, pod, resolve));
    laptop.write('web.yaml', serviceManifest('web', web));
    laptop.write('pod.yaml', podManifest('web-1', 'app: web', pod));
    const running = start();
    await ready(running);
    const socket = connect({ host: web, port: 8000 });
    const echo = (text: string): Promise<string> =>
      new Promise((resolve, reject) => {
        socket.once('data', (data) => resolve(data.toString()));
        socket.once('error', reject);
        socket.write(text);
      });
    expect(await echo('before')).toBe('before');
    const revisions = running.log.filter(({ message }) => message === 'resolved').length;
    laptop.remove('pod.yaml');
    await until(
      () => running.log.filter(({ message }) => message === 'resolved').length > revisions,
      5_000,
      () => 'the removal was not seen',
    );
    await until(
      async () => (await get(web, 8000)) === 'ECONNREFUSED',
      5_000,
      () => 'still answered',
    );
    expect(await echo('after')).toBe('after');
    socket.destroy();
    server.close();
  });
});

describe('a plane that cannot start', () => {
  test('a port in use is named with the mend, the rest works, and it starts when the port is free', async () => {
    const web = laptop.address();
    laptop.write('web.yaml', `${serviceManifest('web', web)}---\n${await laptop.httpPod('web-1', 'app: web')}`);
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const address = taken.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const running = start(`--http-bind-address=127.0.0.1:${port}`);
    const line = await running.logged(({ level, part }) => level === 'error' && part === 'ingress');
    expect(line.message).toMatch(new RegExp(`127\\.0\\.0\\.1:${port}`));
    const metrics = await metricsPort(running);
    await until(
      async () => (await get(web, 8000)) === 'web-1 / ',
      5_000,
      () => running.stderr,
    );
    const readyz = await fetch(`http://127.0.0.1:${metrics}/readyz`);
    expect([readyz.status, await readyz.text()]).toEqual([503, 'not ready: ingress\n']);
    await new Promise((resolve) => taken.close(resolve));
    await until(
      async () => (await fetch(`http://127.0.0.1:${metrics}/readyz`)).ok,
      30_000,
      () => running.stderr,
    );
  });

  test('a Service address that is not of this machine is named in one notice, and the rest works', async () => {
    const web = laptop.address();
    laptop.write('web.yaml', `${serviceManifest('web', web)}---\n${await laptop.httpPod('web-1', 'app: web')}`);
    const far = [serviceManifest('far', '10.96.0.10'), podManifest('far-1', 'app: far', laptop.address())];
    const near = [serviceManifest('near', '10.96.0.11'), podManifest('near-1', 'app: near', laptop.address())];
    laptop.write('far.yaml', [...far, ...near].join('---\n'));
    const running = start();
    await ready(running);
    expect(await get(web, 8000)).toBe('web-1 / ');
    const notices = running.log.filter(({ message }) => message.includes('10.96.0.10'));
    expect(notices).toHaveLength(1);
    expect(notices[0]?.message).toContain('10.96.0.11');
    expect(JSON.stringify(notices[0])).toMatch(/mend|--service-cluster-ip-range/i);
  });
});

describe('the endpoints of probes', () => {
  test('metrics, the status page, and what is not there', async () => {
    laptop.write('web.yaml', serviceManifest('web', laptop.address()));
    const { metrics } = await ready(start());
    const page = async (path: string): Promise<[number, string]> => {
      const response = await fetch(`http://127.0.0.1:${metrics}${path}`);
      return [response.status, await response.text()];
    };
    expect((await page('/metrics'))[1]).toMatch(/^fairlead_snapshot_revision 1$/m);
    expect((await page('/'))[1]).toContain('shop/web:main/TCP/IPv4');
    expect(await page('/healthz')).toEqual([200, 'ok']);
    expect(await page('/livez')).toEqual([200, 'ok']);
    expect((await page('/nothing'))[0]).toBe(404);
  });
});
