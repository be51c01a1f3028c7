// Ingress: requests and WebSocket messages per CPU-second, and latency, against nginx, HAProxy and http-proxy in turn on the same machine;
// how long one change takes among many Ingresses, and what clients see of it; memory.

import { mkdtemp, readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { cpuSecondsOf, childrenOf } from '../support/cpu-time.ts';
import { CONNECTIONS, ECHO_PORT, MIXES, measure, wrk, type Measured, type Mix } from './ingress-load.ts';
import {
  FAIRLEAD,
  HAPROXY,
  HTTP_PROXY,
  NGINX,
  end,
  fairleadCommand,
  launch,
  listening,
  hostObjects,
  missingCommands,
  nginxText,
  pemFiles,
  secretObject,
  startBackend,
  startProxy,
  type HostSpec,
  type RunningProxy,
} from './ingress-servers.ts';
import { median, printTable } from './table.ts';

const TOOLS = ['nginx', 'haproxy', 'wrk', 'h2load', 'taskset'];
const FIRST_PORT = 17_100;
/** Until Node has compiled what it runs often. */
const WARM_UP_SECONDS = 3;

const PARTS = ['speed', 'change', 'memory'] as const;

type Result = Omit<Measured, 'requests'> & { readonly perCpuSecond: number };

export async function benchIngress(argv: readonly string[]): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...argv],
      options: {
        only: { type: 'string', multiple: true, default: [...PARTS] },
        mix: { type: 'string', multiple: true, default: Object.keys(MIXES) },
        rounds: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '1' },
        size: { type: 'string', multiple: true, default: ['10', '1000', '5000'] },
      },
    }));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  const wrong = [
    ...values.mix.filter((mix) => !(mix in MIXES)),
    ...values.only.filter((part) => !PARTS.some((known) => known === part)),
    ...values.size.filter((size) => !/^[1-9][0-9]{0,5}$/.test(size)),
  ];
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
  if (wrong.length > 0 || !(rounds >= 1) || !(seconds >= 1)) {
    process.stderr.write(
      `--only is ${PARTS.join(', ')}; --mix is ${Object.keys(MIXES).join(', ')}; --size, --rounds and --seconds are numbers from 1\n`,
    );
    return 2;
  }
  const missing = missingCommands(TOOLS);
  if (missing.length > 0) {
    process.stderr.write(
      `the Ingress benchmark needs ${missing.join(', ')} (Debian: nginx-light haproxy wrk nghttp2-client util-linux)\n`,
    );
    return 1;
  }
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'));
  const stopBackend = await startBackend(folder, FIRST_PORT);
  try {
    if (values.only.includes('speed')) await speed(folder, values.mix, rounds, seconds);
    if (values.only.includes('change')) for (const size of values.size) await change(folder, Number(size));
    if (values.only.includes('memory')) await memory();
    return 0;
  } finally {
    await stopBackend();
    await rm(folder, { recursive: true, force: true });
  }
}

// Speed.

async function speed(folder: string, names: readonly string[], rounds: number, seconds: number): Promise<void> {
  const mixes = names.flatMap((name) => MIXES[name] ?? []);
  const contests = (of: readonly Mix[], backend: number): Promise<void> =>
    withProxies(folder, backend, async (proxies) => {
      for (const mix of of) await contest(folder, mix, proxies, rounds, seconds);
    });
  const requests = mixes.filter(({ tool }) => tool !== 'websocket');
  const messages = mixes.filter(({ tool }) => tool === 'websocket');
  if (requests.length > 0) await contests(requests, FIRST_PORT);
  if (messages.length > 0) await contests(messages, ECHO_PORT);
}

async function withProxies(
  folder: string,
  backend: number,
  use: (proxies: readonly RunningProxy[]) => Promise<void>,
): Promise<void> {
  const proxies: RunningProxy[] = [];
  try {
    for (const [i, kind] of [FAIRLEAD, NGINX, HAPROXY, HTTP_PROXY].entries()) {
      const ports = { http: FIRST_PORT + 10 * (i + 1), https: FIRST_PORT + 10 * (i + 1) + 1 };
      proxies.push(await startProxy(kind, join(folder, kind.name), ports, backend));
    }
    await use(proxies);
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.stop()));
  }
}

async function contest(
  folder: string,
  mix: Mix,
  all: readonly RunningProxy[],
  rounds: number,
  seconds: number,
): Promise<void> {
  const proxies = all.filter(({ kind }) => kind.secure || !mix.secure);
  const results = new Map(proxies.map((proxy) => [proxy, [] as Result[]]));
  for (const proxy of proxies) await load(folder, proxy, mix, WARM_UP_SECONDS);
  for (let round = 0; round < rounds; round++) {
    for (const proxy of proxies) results.get(proxy)?.push(await load(folder, proxy, mix, seconds));
  }
  const rate = (name: string): number =>
    median(
      results
        .get(proxies.find(({ kind }) => kind.name === name) ?? (proxies[0] as RunningProxy))
        ?.map(({ perCpuSecond }) => perCpuSecond) ?? [],
    );
  const unit = mix.tool === 'websocket' ? 'messages' : 'requests';
  const rows = [['', `${unit}/CPU-s`, 'of nginx', 'p50', 'p99', 'errors']];
  for (const [{ kind }, list] of results) {
    const own = median(list.map(({ perCpuSecond }) => perCpuSecond));
    rows.push([
      kind.name,
      String(Math.round(own)),
      (own / rate('nginx')).toFixed(2),
      `${median(list.map(({ p50 }) => p50)).toFixed(2)} ms`,
      `${median(list.map(({ p99 }) => p99)).toFixed(2)} ms`,
      String(list.reduce((sum, { errors }) => sum + errors, 0)),
    ]);
  }
  printTable(
    `${mix.title}: ${CONNECTIONS} connections, proxy on one CPU, median of ${rounds} alternating rounds`,
    rows,
  );
}

async function load(folder: string, { ports, pid }: RunningProxy, mix: Mix, seconds: number): Promise<Result> {
  const before = usedBy(pid);
  const { requests, ...measured } = await measure(folder, mix, ports, seconds);
  return { ...measured, perCpuSecond: requests / (usedBy(pid) - before) };
}

function usedBy(pid: number): number {
  const { own, tools } = cpuSecondsOf(pid);
  return own + tools;
}

// One change among many.

async function change(folder: string, size: number): Promise<void> {
  const rows = [['', 'live after (median of 5)', 'slowest', 'errors', 'p99 during', 'memory']];
  const hosts = Array.from({ length: size - 1 }, (_, i) => ({ host: `host-${i}.example`, path: '/' }));
  for (const name of ['fairlead', 'nginx'] as const) {
    const ports = { http: FIRST_PORT + 60, https: FIRST_PORT + 61 };
    const place = join(folder, `${name}-${size}`);
    await mkdir(place, { recursive: true });
    const api = await startTestApiServer();
    const apply = name === 'fairlead' ? fairleadChanger(api, hosts) : nginxChanger(place, ports, hosts);
    await apply('/first');
    const command =
      name === 'fairlead' ? fairleadCommand(overApi(api), ports) : ['nginx', '-c', join(place, 'nginx.conf')];
    const child = launch(command, '0');
    try {
      await listening(ports.http, child);
      await answers(ports.http, '/first');
      const loading = wrk(folder, MIXES['1k'] as Mix, `http://127.0.0.1:${ports.http}/1k`, 8);
      await pause(500);
      const times: number[] = [];
      for (let i = 0; i < 5; i++) {
        const started = performance.now();
        await apply(`/live-${i}`);
        if (name === 'nginx') process.kill(child.pid ?? 0, 'SIGHUP');
        await answers(ports.http, `/live-${i}`);
        times.push(performance.now() - started);
        await pause(700);
      }
      const { errors, p99 } = await loading;
      rows.push([
        name,
        `${median(times).toFixed(0)} ms`,
        `${Math.max(...times).toFixed(0)} ms`,
        String(errors),
        `${p99.toFixed(1)} ms`,
        `${await megabytes(child.pid ?? 0)} MB`,
      ]);
    } finally {
      await end(child);
      await api.stop();
    }
  }
  printTable(`one Ingress of ${size} changed, five times, under load`, rows);
}

/** Of an API server, as a cluster has it: a folder is read again as a whole. */
function fairleadChanger(api: TestApiServer, hosts: readonly HostSpec[]): (path: string) => Promise<void> {
  api.apply(...hostObjects(hosts, FIRST_PORT, () => 'tls'), secretObject('tls'));
  return (path) => {
    api.apply({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'Ingress',
      metadata: { name: 'one' },
      spec: { rules: [rule('bench.example', path), rule('bench.example', '/1k')] },
    });
    return Promise.resolve();
  };
}

/** Without what the peers have not: the status of Ingresses, Events. */
function overApi(api: TestApiServer): readonly string[] {
  return ['--master', api.url, '--watch-ingress-without-class', '--update-status=false', '--disable-sync-events'];
}

function rule(host: string, path: string): object {
  const backend = { service: { name: 'echo', port: { number: 80 } } };
  return { host, http: { paths: [{ path, pathType: 'Prefix', backend }] } };
}

function nginxChanger(
  place: string,
  ports: { http: number; https: number },
  hosts: readonly HostSpec[],
): (path: string) => Promise<void> {
  pemFiles(place);
  return (path) => {
    const text = nginxText(place, ports, FIRST_PORT, [...hosts, { host: 'bench.example', path }]);
    // `/1k` of the host under load stays, as a location of its own.
    const both = text.replace(
      `location ${path} {`,
      `location /1k { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }\n      location ${path} {`,
    );
    return writeFile(join(place, 'nginx.conf'), both);
  };
}

/** Asks on new connections until the path is routed: the backend marks its answers, those of a proxy have no such mark. */
async function answers(port: number, path: string): Promise<void> {
  const until = performance.now() + 30_000;
  while (performance.now() < until) {
    const text = await new Promise<string>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      let received = '';
      socket.on('data', (chunk) => (received += chunk.toString('latin1')));
      socket.on('error', () => resolve(''));
      socket.on('close', () => resolve(received));
      socket.write(`GET ${path}/live HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n`);
    });
    if (text.includes('X-Backend: yes')) return;
    await pause(2);
  }
  throw new Error(`${path} was not routed within 30 s`);
}

// Memory.

async function memory(): Promise<void> {
  const ports = { http: FIRST_PORT + 70, https: FIRST_PORT + 71 };
  const hosts = Array.from({ length: 10_000 }, (_, i) => ({ host: `host-${i}.example`, path: '/' }));
  const api = await startTestApiServer();
  api.apply(...hostObjects(hosts, FIRST_PORT, (i) => `tls-${i % 5000}`));
  for (let i = 0; i < 5000; i++) api.apply(secretObject(`tls-${i}`));
  const started = performance.now();
  const child = launch(fairleadCommand(overApi(api), ports), '0');
  try {
    await listening(ports.http, child);
    await routed(ports.http);
    const seconds = (performance.now() - started) / 1000;
    await pause(3000);
    printTable('10,000 hosts, 5,000 certificates', [
      ['', 'start until served', 'memory'],
      ['fairlead', `${seconds.toFixed(1)} s`, `${await megabytes(child.pid ?? 0)} MB`],
    ]);
  } finally {
    await end(child);
    await api.stop();
  }
}

async function routed(port: number): Promise<void> {
  for (let i = 0; i < 6000; i++) {
    const response = await fetch(`http://127.0.0.1:${port}/0`, { headers: { host: 'host-0.example' } }).catch(
      () => undefined,
    );
    if (response && response.status !== 503) return;
    await pause(10);
  }
  throw new Error('nothing was routed within a minute');
}

async function megabytes(pid: number): Promise<string> {
  let kilobytes = 0;
  for (const each of [pid, ...childrenOf(pid)]) {
    const text = await readFile(`/proc/${each}/status`, 'utf8').catch(() => '');
    kilobytes += Number(/VmRSS:\s+([0-9]+)/.exec(text)?.[1] ?? 0);
  }
  return String(Math.round(kilobytes / 1024));
}
