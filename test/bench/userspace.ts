// The userspace relays against others that carry TCP: haproxy, and socat, which forks for each connection. What counts is what each does with a second of
// CPU; the same two ends stand around all of them, and they take turns.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { messageOf } from '../../src/lib/message-of.ts';
import { cpuSecondsOf } from '../support/cpu-time.ts';
import { describeTools, missingTools } from '../support/debian-tools.ts';
import { freePort } from '../support/free-port.ts';
import { until } from '../support/until.ts';
import { median, printTable } from './table.ts';

const CHILD = fileURLToPath(new URL('./userspace-child.ts', import.meta.url));
const ENTRY = fileURLToPath(new URL('../../src/cli/entry.js', import.meta.url));
const ADDRESS = '127.96.210.1';
const BACKEND = '127.0.0.1';

interface Options {
  readonly rounds: number;
  readonly seconds: number;
}

interface Place {
  readonly folder: string;
  readonly port: number;
  readonly backendPort: number;
}

interface Relay {
  readonly name: string;
  readonly command: (place: Place) => Promise<readonly string[]>;
}

interface Figures {
  /** For each second of the relay's CPU, and of time. */
  readonly connections: { readonly perCpuSecond: number; readonly perSecond: number };
  readonly mebibytes: { readonly perCpuSecond: number; readonly perSecond: number };
}

const FAIRLEAD: Relay = {
  name: 'fairlead',
  command: async ({ folder, port, backendPort }) => {
    await writeFile(join(folder, 'service.json'), manifests(port, backendPort));
    const quiet = ['--metrics-bind-address=127.0.0.1:0', '--healthz-bind-address=127.0.0.1:0'];
    const flags = ['--mode=userspace', '--userspace-catch-addresses=false', '--manifests', folder, ...quiet];
    return [process.execPath, ENTRY, 'proxy', ...flags];
  },
};

const HAPROXY: Relay = {
  name: 'haproxy, mode tcp, one thread',
  command: async ({ folder, port, backendPort }) => {
    const file = join(folder, 'haproxy.cfg');
    await writeFile(
      file,
      `global\n  nbthread 1\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n` +
        `listen relay\n  bind ${ADDRESS}:${port}\n  server one ${BACKEND}:${backendPort}\n`,
    );
    return ['haproxy', '-db', '-f', file];
  },
};

const SOCAT: Relay = {
  name: 'socat, a process for each',
  command: async ({ port, backendPort }) => [
    'socat',
    `TCP-LISTEN:${port},bind=${ADDRESS},fork,reuseaddr,backlog=1024,nodelay`,
    `TCP:${BACKEND}:${backendPort},nodelay`,
  ],
};

export async function benchUserspace(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (typeof options === 'string') {
    process.stderr.write(`${options}\n`);
    return 2;
  }
  const { rounds, seconds } = options;
  const missing = missingTools(
    new Map([
      ['haproxy', 'haproxy'],
      ['socat', 'socat'],
    ]),
  );
  if (missing.size > 0) process.stdout.write(`left out: ${describeTools(missing)} is not on this machine\n`);
  const relays = [FAIRLEAD, HAPROXY, SOCAT].filter(
    ({ name }) => ![...missing.keys()].some((tool) => name.startsWith(tool)),
  );
  const results = new Map<string, Figures[]>(relays.map(({ name }) => [name, []]));
  const backendPort = await freePort(BACKEND);
  const backend = spawn(process.execPath, [CHILD, 'serve', BACKEND, String(backendPort)], { stdio: 'ignore' });
  try {
    await answers(BACKEND, backendPort);
    for (let round = 0; round < rounds; round++) {
      for (const relay of relays) results.get(relay.name)?.push(await measure(relay, backendPort, seconds));
    }
  } finally {
    await end(backend);
  }
  print(results, rounds);
  return 0;
}

/** The options, or what is wrong with them. */
function readOptions(argv: readonly string[]): Options | string {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        mode: { type: 'string' },
        rounds: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '2' },
      },
    });
    const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
    if (!(rounds >= 1) || !(seconds >= 1)) throw new Error('--rounds and --seconds are numbers from 1');
    return { rounds, seconds };
  } catch (error) {
    return messageOf(error);
  }
}

async function measure(relay: Relay, backendPort: number, seconds: number): Promise<Figures> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'));
  const port = await freePort(ADDRESS);
  const [file = '', ...args] = await relay.command({ folder, port, backendPort });
  const child = spawn(file, args, { stdio: 'ignore' });
  try {
    await answers(ADDRESS, port);
    const connections = await load(
      child,
      ['connect', ADDRESS, String(port), String(seconds), '32'],
      ({ connections }) => connections,
    );
    const mebibytes = await load(
      child,
      ['fetch', ADDRESS, String(port), String(seconds), '4'],
      ({ bytes }) => bytes / 2 ** 20,
    );
    return { connections, mebibytes };
  } finally {
    await end(child);
    await rm(folder, { recursive: true });
  }
}

interface Done {
  readonly connections: number;
  readonly failures: number;
  readonly bytes: number;
  readonly seconds: number;
}

async function load(
  relay: ChildProcess,
  words: readonly string[],
  count: (done: Done) => number,
): Promise<Figures['connections']> {
  const before = cpuOf(relay);
  const { stdout } = await promisify(execFile)(process.execPath, [CHILD, ...words]);
  const cpu = cpuOf(relay) - before;
  const done = JSON.parse(stdout) as Done;
  if (done.failures > 0) throw new Error(`${done.failures} connections failed: ${words.join(' ')}`);
  return { perCpuSecond: count(done) / cpu, perSecond: count(done) / done.seconds };
}

function cpuOf({ pid = 0 }: ChildProcess): number {
  const { own, tools } = cpuSecondsOf(pid);
  return own + tools;
}

/** Resolves when a connection comes to stand and is answered. */
async function answers(host: string, port: number): Promise<void> {
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect({ host, port }, () => socket.write('c'));
        socket.once('data', () => {
          socket.destroy();
          resolve(true);
        });
        socket.once('error', () => resolve(false));
        socket.once('close', () => resolve(false));
      }),
  );
}

async function end(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await ended;
}

function manifests(port: number, backendPort: number): string {
  const metadata = { namespace: 'bench', name: 'one' };
  const items = [
    { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: ADDRESS, ports: [{ port }] } },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'one' } },
      addressType: 'IPv4',
      ports: [{ port: backendPort }],
      endpoints: [{ addresses: [BACKEND], conditions: { ready: true } }],
    },
  ];
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

function print(results: ReadonlyMap<string, readonly Figures[]>, rounds: number): void {
  const ours = results.get(FAIRLEAD.name) ?? [];
  for (const [title, what] of [
    ['connections, each opened, answered by a byte and closed, 32 at a time', 'connections'],
    ['MiB through 4 connections', 'mebibytes'],
  ] as const) {
    const of = (figures: readonly Figures[], by: 'perCpuSecond' | 'perSecond'): number =>
      median(figures.map((each) => each[what][by]));
    const rows = [...results].map(([name, figures]) => [
      name,
      String(Math.round(of(figures, 'perCpuSecond'))),
      String(Math.round(of(figures, 'perSecond'))),
      `${(of(ours, 'perCpuSecond') / of(figures, 'perCpuSecond')).toFixed(2)} ×`,
    ]);
    const head = ['', 'per CPU-second', 'per second', 'fairlead is'];
    printTable(`${title}, median of ${rounds} alternating rounds`, [head, ...rows]);
  }
}
