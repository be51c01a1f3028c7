// dnsperf, and what it says.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { cpuSeconds, type RunningServer } from './dns-servers.ts';

const execFileAsync = promisify(execFile);

export interface LoadOptions {
  readonly server: RunningServer;
  readonly file: string;
  readonly seconds: number;
  /** Queries a second; as many as there can be by default. */
  readonly rate?: number;
  readonly clients?: number;
  /** Queries under way at one time. */
  readonly outstanding?: number;
  /** CPUs of the load generator, as taskset takes them. */
  readonly cpus: string;
}

export interface LoadResult {
  readonly qps: number;
  readonly perCpuSecond: number;
  readonly lost: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

export async function load(options: LoadOptions): Promise<LoadResult> {
  const { server, file, seconds, rate, clients = 20, outstanding = 100, cpus } = options;
  const before = await cpuSeconds(server.pid);
  const words = [
    '-c',
    cpus,
    'dnsperf',
    '-s',
    '127.0.0.1',
    '-p',
    String(server.port),
    '-d',
    file,
    '-l',
    String(seconds),
  ];
  words.push('-c', String(clients), '-q', String(outstanding), '-t', '2');
  // Each query's latency, which costs the load generator too much at full speed.
  if (rate !== undefined) words.push('-Q', String(rate), '-v');
  const { stdout } = await execFileAsync('taskset', words, { maxBuffer: 1 << 28 });
  const used = (await cpuSeconds(server.pid)) - before;
  const number = (label: string): number => Number(new RegExp(`${label}:\\s+([0-9.]+)`).exec(stdout)?.[1] ?? NaN);
  const completed = number('Queries completed');
  return {
    qps: number('Queries per second'),
    perCpuSecond: completed / used,
    lost: number('Queries lost'),
    ...percentiles(stdout),
  };
}

/** Lines of `> NOERROR name type 0.000123`. NaN where there are none. */
function percentiles(text: string): { readonly p50: number; readonly p99: number } {
  const latencies = [...text.matchAll(/^> \S+ \S+ \S+ ([0-9.]+)$/gm)].map((match) => Number(match[1]) * 1000);
  latencies.sort((a, b) => a - b);
  const at = (part: number): number => latencies[Math.floor(latencies.length * part)] ?? NaN;
  return { p50: at(0.5), p99: at(0.99) };
}
