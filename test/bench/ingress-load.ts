// What the Ingress benchmark asks of each proxy, and the tools that ask it: wrk, h2load, and for WebSockets a child of its own.

import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { LOAD_CPU, type Ports } from './ingress-servers.ts';

const run = promisify(execFile);
export const CONNECTIONS = 32;
/** Where the load of WebSockets is the backend, too. */
export const ECHO_PORT = 17_101;
const WEBSOCKET_CHILD = fileURLToPath(new URL('./websocket-child.ts', import.meta.url));

export interface Mix {
  readonly title: string;
  readonly secure: boolean;
  readonly tool: 'wrk' | 'h2load' | 'websocket';
  readonly path: string;
  readonly post?: number;
  readonly closes?: true;
}

export const MIXES: Readonly<Record<string, Mix>> = {
  '0': { title: '0 B', secure: false, tool: 'wrk', path: '/0' },
  '1k': { title: '1 KB', secure: false, tool: 'wrk', path: '/1k' },
  '100k': { title: '100 KB', secure: false, tool: 'wrk', path: '/100k' },
  '1m': { title: '1 MB', secure: false, tool: 'wrk', path: '/1m' },
  post: { title: 'POST 100 KB', secure: false, tool: 'wrk', path: '/post', post: 102_400 },
  tls: { title: 'TLS 1 KB', secure: true, tool: 'wrk', path: '/1k' },
  'tls-new': { title: 'TLS, new connection each', secure: true, tool: 'wrk', path: '/0', closes: true },
  h2: { title: 'HTTP/2 1 KB, 10 streams', secure: true, tool: 'h2load', path: '/1k' },
  websocket: { title: 'WebSocket, messages of 32 B, 4 in flight each', secure: false, tool: 'websocket', path: '/ws' },
};

export interface Measured {
  /** Answered ones; of WebSockets the messages that came back. */
  readonly requests: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly errors: number;
}

export async function measure(folder: string, mix: Mix, ports: Ports, seconds: number): Promise<Measured> {
  const url = `${mix.secure ? 'https' : 'http'}://127.0.0.1:${mix.secure ? ports.https : ports.http}${mix.path}`;
  switch (mix.tool) {
    case 'wrk':
      return wrk(folder, mix, url, seconds);
    case 'h2load':
      return h2load(folder, url, seconds);
    case 'websocket':
      return webSockets(ports.http, mix.path, seconds);
  }
}

export async function wrk(folder: string, mix: Mix, url: string, seconds: number): Promise<Measured> {
  const script = join(folder, 'wrk.lua');
  const body = mix.post === undefined ? '' : `wrk.method = "POST"\nwrk.body = string.rep("x", ${mix.post})\n`;
  const closes = mix.closes ? 'wrk.headers["Connection"] = "close"\n' : '';
  const done =
    'function done(s, l, r) io.write(string.format("RESULT %d %d %d %d\\n", s.requests, l:percentile(50), l:percentile(99), s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout)) end\n';
  await writeFile(script, `wrk.headers["Host"] = "bench.example"\n${body}${closes}${done}`);
  const words = ['-c', LOAD_CPU, 'wrk', '-t', '1', '-c', String(CONNECTIONS), '-d', `${seconds}s`, '-s', script, url];
  const { stdout } = await run('taskset', words);
  const [requests = 0, p50 = 0, p99 = 0, errors = 0] = (/RESULT (.*)/.exec(stdout)?.[1] ?? '').split(' ').map(Number);
  return { requests, p50: p50 / 1000, p99: p99 / 1000, errors };
}

async function h2load(folder: string, url: string, seconds: number): Promise<Measured> {
  const log = join(folder, 'h2load.log');
  const words = [
    '-c',
    LOAD_CPU,
    'h2load',
    '-c',
    String(CONNECTIONS),
    '-m',
    '10',
    '-D',
    String(seconds),
    '-H',
    ':authority: bench.example',
  ];
  await rm(log, { force: true });
  const { stdout } = await run('taskset', [...words, '--log-file', log, url]);
  const times = (await readFile(log, 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Number(line.split('\t')[2]))
    .sort((a, b) => a - b);
  const at = (share: number): number => (times[Math.floor(times.length * share)] ?? NaN) / 1000;
  const [, done = '0', failed = '0'] =
    /requests: [0-9]+ total, [0-9]+ started, ([0-9]+) done, [0-9]+ succeeded, ([0-9]+) failed/.exec(stdout) ?? [];
  return { requests: Number(done), p50: at(0.5), p99: at(0.99), errors: Number(failed) };
}

async function webSockets(port: number, path: string, seconds: number): Promise<Measured> {
  const words = [
    '-c',
    LOAD_CPU,
    process.execPath,
    WEBSOCKET_CHILD,
    ...[ECHO_PORT, port, path, seconds, CONNECTIONS].map(String),
  ];
  const { stdout } = await run('taskset', words);
  return JSON.parse(stdout) as Measured;
}
