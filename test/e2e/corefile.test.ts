// `fairlead dns -conf FILE`, as a process.

import { createServer } from 'node:net';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { dig } from '../dns/dig.ts';
import { freePort } from '../support/free-port.ts';
import { FairleadProcess, runFairlead } from '../support/process.ts';
import { until } from '../support/until.ts';

vi.setConfig({ testTimeout: 30_000 });

let folder = '';
const processes: FairleadProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-corefile-'));
});

afterEach(async () => {
  await Promise.all(processes.splice(0).map((each) => each.close()));
  rmSync(folder, { recursive: true });
});

function corefile(text: string): string {
  const path = join(folder, 'Corefile');
  writeFileSync(path, text);
  return path;
}

const status = (url: string): Promise<number> =>
  fetch(url).then(
    (response) => response.status,
    () => 0,
  );

test('what the Corefile says is served, and answered on while it stops', async () => {
  const [dns, health, ready, metrics] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const profiles = await freePort();
  const path = corefile(`.:${dns} {
  bind 127.0.0.1
  errors
  health 127.0.0.1:${health} {
    lameduck 2s
  }
  ready 127.0.0.1:${ready}
  prometheus 127.0.0.1:${metrics} {
    runtime_metrics
  }
  pprof 127.0.0.1:${profiles}
  kubernetes cluster.local
  chaos
}
`);
  const pidfile = join(folder, 'pid');
  const running = new FairleadProcess([
    'dns',
    '-conf',
    path,
    '-pidfile',
    pidfile,
    '--manifests',
    'deploy/examples/cafe',
  ]);
  processes.push(running);
  const server = { address: '127.0.0.1', port: dns };
  await until(
    async () => (await status(`http://127.0.0.1:${ready}/ready`)) === 200,
    30_000,
    () => running.stderr,
  );
  expect((await dig(server, 'cluster.local', 'SOA')).status).toBe('NOERROR');
  expect(await status(`http://127.0.0.1:${health}/health`)).toBe(200);
  expect(await status(`http://127.0.0.1:${metrics}/metrics`)).toBe(200);
  await profilesAreServed(`http://127.0.0.1:${profiles}/debug/pprof`);
  process.kill(Number(readFileSync(pidfile, 'utf8')), 'SIGTERM');
  await until(
    async () => (await status(`http://127.0.0.1:${ready}/ready`)) === 503,
    2000,
    () => 'still ready',
  );
  expect((await dig(server, 'cluster.local', 'SOA')).status).toBe('NOERROR');
  expect(await running.exited).toMatchObject({ code: 0 });
});

async function profilesAreServed(at: string): Promise<void> {
  expect(await (await fetch(`${at}/`)).text()).toContain('There is no Go here');
  const cpu = (await (await fetch(`${at}/profile?seconds=0.1`)).json()) as { readonly nodes: readonly unknown[] };
  expect(cpu.nodes.length).toBeGreaterThan(0);
  const heap = (await (await fetch(`${at}/heap?seconds=0.1`)).json()) as { readonly head: unknown };
  expect(heap.head).toBeDefined();
  expect(await (await fetch(`${at}/cmdline`)).text()).toContain('\0dns\0-conf\0');
  expect(await status(`${at}/profile?seconds=3600`)).toBe(400);
}

const WEB = `apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: pg, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db-0, labels: {app: db}}
status: {podIP: 10.0.0.9, phase: Running, conditions: [{type: Ready, status: "False"}]}
`;

test('a changed Corefile moves health, ready and metrics, and reads Pods that it needs; one that cannot be taken changes nothing', async () => {
  const [dns, first, second, taken] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const text = (at: number, pods: string): string =>
    `.:${dns} {\n  bind 127.0.0.1\n  reload 2s 0s\n  ready 127.0.0.1:${at}\n  kubernetes cluster.local {\n    pods ${pods}\n  }\n}\n`;
  const path = corefile(text(first, 'disabled'));
  const manifests = join(folder, 'manifests');
  mkdirSync(manifests);
  writeFileSync(join(manifests, 'web.yaml'), WEB);
  const running = new FairleadProcess(['dns', '-conf', path, '--manifests', manifests]);
  processes.push(running);
  const is = async (at: number, wanted: number): Promise<void> => {
    await until(
      async () => (await status(`http://127.0.0.1:${at}/ready`)) === wanted,
      20_000,
      () => running.stderr,
    );
  };
  const server = { address: '127.0.0.1', port: dns };
  const pod = async (): Promise<string | undefined> => (await dig(server, '10-0-0-9.shop.pod.cluster.local')).status;
  await is(first, 200);
  expect(await pod()).toBe('NXDOMAIN');
  corefile(text(second, 'verified'));
  await is(second, 200);
  await is(first, 0);
  expect(await pod()).toBe('NOERROR');
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(taken, '127.0.0.1', resolve));
  corefile(text(taken, 'insecure'));
  await until(
    () => /the old one stays.*cannot listen on 127\.0\.0\.1:\d+ for readiness/.test(running.stderr),
    20_000,
    () => running.stderr,
  );
  await new Promise((resolve) => blocker.close(resolve));
  await is(second, 200);
  expect(await pod()).toBe('NOERROR');
});

test('SIGUSR1 makes it read a Corefile that has no reload, and SIGHUP is nothing to it', async () => {
  const dns = await freePort();
  const text = (answer: string): string =>
    `.:${dns} {\n  bind 127.0.0.1\n  template IN TXT . {\n    answer "{{ .Name }} 60 IN TXT ${answer}"\n  }\n}\n`;
  const running = new FairleadProcess(['dns', '-conf', corefile(text('one')), '--workers', '0']);
  processes.push(running);
  const answers = async (wanted: string, signal?: NodeJS.Signals): Promise<void> => {
    await until(
      async () => {
        if (signal) running.kill(signal);
        return (await dig({ address: '127.0.0.1', port: dns }, 'x.test', 'TXT')).answer[0]?.endsWith(`"${wanted}"`);
      },
      20_000,
      () => running.stderr,
    );
  };
  await answers('one');
  running.kill('SIGHUP');
  corefile(text('two'));
  await answers('two', 'SIGUSR1');
  corefile('.:53 {\n  nosuch\n}\n');
  running.kill('SIGUSR1');
  await until(
    () => running.stderr.includes('the old one stays'),
    20_000,
    () => running.stderr,
  );
  await answers('two');
  running.kill();
  expect(await running.exited).toMatchObject({ code: 0 });
});

test('explain name says what a name answers and why, of a folder and of a running process', async () => {
  const manifests = join(folder, 'manifests');
  mkdirSync(manifests);
  writeFileSync(join(manifests, 'web.yaml'), WEB);
  const explain = async (...words: readonly string[]): Promise<string> => {
    const { stdout, stderr } = await runFairlead(['explain', 'name', ...words]);
    return stdout + stderr;
  };
  const folderFlags = ['--manifests', manifests, '--namespace', 'shop'];
  expect(await explain('web', ...folderFlags)).toBe(`web. A: asked upstream
  block     .
  plugin    forward
  why       the name is in no zone of the cluster; the servers of /etc/resolv.conf would be asked

A Pod's resolver asks, up to the first that is there (1 name, each for A and AAAA):
  web.shop.svc.cluster.local.  NOERROR (kubernetes)
`);
  expect(await explain('db.shop.svc.cluster.local.', ...folderFlags)).toBe(`db.shop.svc.cluster.local. A: NXDOMAIN
  block     .
  plugin    kubernetes
  object    Service shop/db
  why       a headless Service has the names of its ready endpoints, and none is ready: not ready: db-0
  mend      see to the readiness of its Pods, or set publishNotReadyAddresses
`);
  const renaming = corefile(
    '. {\n  rewrite continue name suffix .corp .shop\n  rewrite name suffix .shop .shop.svc.cluster.local\n  loadbalance\n  kubernetes cluster.local\n}\n',
  );
  expect(await explain('web.corp', ...folderFlags, '--conf', renaming)).toContain(
    'why       rewrite asks for web.shop.svc.cluster.local. in its place: ',
  );
  const path = corefile('cluster.local {\n  kubernetes cluster.local\n}\n');
  expect(await explain('www.example.test', ...folderFlags, '--conf', path)).toMatch(
    /REFUSED\n.*\n.*\n  why {7}no server block has this name/,
  );
  const metrics = await freePort();
  const at = `127.0.0.1:${metrics}`;
  const port = await freePort();
  const served = corefile(
    `.:${port} {\n  bind 127.0.0.1\n  prometheus ${at}\n  hosts\n  kubernetes cluster.local\n}\n`,
  );
  const running = new FairleadProcess(['dns', '-conf', served, '--manifests', manifests]);
  processes.push(running);
  await until(
    async () => (await status(`http://${at}/explain/name?name=web`)) === 200,
    20_000,
    () => running.stderr,
  );
  const told: unknown = JSON.parse(await explain('webb.shop.svc.cluster.local.', '--address', at, '--output', 'json'));
  expect(told).toMatchObject({ result: 'NXDOMAIN', plugin: 'kubernetes', mend: 'did you mean shop/web?' });
  const zone: unknown = await (await fetch(`http://${at}/debug/zone?namespace=shop`)).json();
  expect(zone).toMatchObject({
    zone: 'cluster.local.',
    records: expect.arrayContaining(['web.shop.svc.cluster.local. 5 IN A 10.96.0.7']),
  });
});

test('a Corefile with a mistake ends with code 2 and its line', async () => {
  const path = corefile('.:53 {\n  errors\n  dnssec\n}\n');
  const { code, stderr } = await runFairlead(['dns', '-conf', path]);
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: `fairlead: ${path}:3: the plugin "dnssec" is known and not built yet; remove it\n`,
  });
});

test('flags that the Corefile stands for are refused beside it', async () => {
  const { code, stderr } = await runFairlead(['dns', '-conf', corefile('whoami\n'), '--upstream', '192.0.2.1']);
  expect(code).toBe(2);
  expect(stderr).toMatch(/--conf and --upstream exclude each other/);
});

test('the version and the plugins are printed', async () => {
  expect((await runFairlead(['dns', '-version'])).stdout).toMatch(/^fairlead \d/);
  expect((await runFairlead(['dns', '-plugins'])).stdout).toContain('dns.kubernetes\n');
});
