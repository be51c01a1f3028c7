// The nftables rules: the first sync of a cluster against `nft -f` loading the same maps from a file, in turn, and what one
// changed endpoint costs. Everything happens in network namespaces that are removed again.

import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { benchIptables } from './iptables.ts';
import { createNamespace, netnsMissing, removeNamespace } from '../support/netns.ts';
import { PeakMemory } from './peak-memory.ts';

const execFileAsync = promisify(execFile);
const CHILD = fileURLToPath(new URL('./rules-child.ts', import.meta.url));

interface Size {
  readonly services: number;
  readonly endpoints: number;
}

interface ChildResult {
  readonly loadMs: number;
  readonly nodePeakMb: number;
  readonly nftPeakMb: number;
  readonly latencies: readonly number[];
  readonly cpuMsPerChange: number | null;
}

interface RawResult {
  readonly loadMs: number;
  readonly nftPeakMb: number;
}

export async function benchRules(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (typeof options === 'string') {
    process.stderr.write(`${options}\n`);
    return 2;
  }
  const missing = netnsMissing();
  if (missing) {
    process.stderr.write(`the rules benchmark cannot run here: ${missing}\n`);
    return 1;
  }
  for (const size of options.sizes) await firstSync(size, options.rounds);
  const smallest = { services: 100, endpoints: 10 };
  for (const size of [smallest, ...options.sizes]) await changes(size, options.changes);
  await benchIptables({ services: 5000, endpoints: 10 }, options.rounds, Math.min(options.changes, 10));
  return 0;
}

interface Options {
  readonly sizes: readonly Size[];
  readonly rounds: number;
  readonly changes: number;
}

/** The options, or what is wrong with them. */
function readOptions(argv: readonly string[]): Options | string {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        size: { type: 'string', multiple: true, default: ['5000x10'] },
        rounds: { type: 'string', default: '5' },
        changes: { type: 'string', default: '200' },
      },
    });
    const sizes = values.size.map((text) => {
      const match = /^([1-9][0-9]*)x([1-9][0-9]*)$/.exec(text);
      if (!match) throw new Error(`--size is SERVICESxENDPOINTS, for example 5000x10, not "${text}"`);
      return { services: Number(match[1]), endpoints: Number(match[2]) };
    });
    const rounds = Number(values.rounds);
    const changeCount = Number(values.changes);
    if (!(rounds >= 1) || !(changeCount >= 1)) throw new Error('--rounds and --changes are numbers from 1');
    return { sizes, rounds, changes: changeCount };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function firstSync(size: Size, rounds: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'));
  try {
    const file = join(folder, 'rules.nft');
    await writeFile(file, await child(['render', ...sizeWords(size)]));
    const ours: ChildResult[] = [];
    const raw: RawResult[] = [];
    for (let round = 0; round < rounds; round++) {
      ours.push(await inNamespace((name) => load(name, size)));
      raw.push(await inNamespace((name) => rawLoad(name, file)));
    }
    const ourMs = median(ours.map(({ loadMs }) => loadMs));
    const rawMs = median(raw.map(({ loadMs }) => loadMs));
    print(
      `first sync, ${size.services} Services × ${size.endpoints} endpoints, median of ${rounds} alternating rounds`,
      [
        ['', 'time', 'node peak', 'nft peak'],
        [
          'fairlead',
          ms(ourMs),
          mb(median(ours.map((each) => each.nodePeakMb))),
          mb(median(ours.map((each) => each.nftPeakMb))),
        ],
        ['nft -f', ms(rawMs), '', mb(median(raw.map((each) => each.nftPeakMb)))],
        ['ratio', `${(ourMs / rawMs).toFixed(2)} ×`, '', ''],
      ],
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function changes(size: Size, count: number): Promise<void> {
  const result = await inNamespace((name) => load(name, size, count));
  const sorted = [...result.latencies].sort((a, b) => a - b);
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  print(`one endpoint changed, ${size.services} Services × ${size.endpoints} endpoints, ${count} changes`, [
    ['', 'latency p50', 'latency p99', 'CPU a change, nft included'],
    ['fairlead', ms(at(0.5)), ms(at(0.99)), ms(result.cpuMsPerChange ?? 0)],
  ]);
}

async function inNamespace<T>(run: (namespace: string) => Promise<T>): Promise<T> {
  const host = await createNamespace('bench');
  try {
    return await run(host.namespace);
  } finally {
    await removeNamespace(host);
  }
}

async function load(namespace: string, size: Size, changeCount = 0): Promise<ChildResult> {
  const output = await child([changeCount > 0 ? 'change' : 'load', ...sizeWords(size), String(changeCount)], namespace);
  return JSON.parse(output) as ChildResult;
}

function sizeWords({ services, endpoints }: Size): readonly string[] {
  return [String(services), String(endpoints)];
}

async function child(words: readonly string[], namespace?: string): Promise<string> {
  const command = [process.execPath, CHILD, ...words];
  const [file = '', ...args] = namespace === undefined ? command : ['ip', 'netns', 'exec', namespace, ...command];
  const { stdout } = await execFileAsync(file, args, { maxBuffer: 1 << 30 });
  return stdout;
}

function rawLoad(namespace: string, file: string): Promise<RawResult> {
  return new Promise((resolve, reject) => {
    const memory = new PeakMemory();
    const start = performance.now();
    const nft = spawn('ip', ['netns', 'exec', namespace, 'nft', '-f', file], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    nft.once('error', reject);
    nft.once('exit', (code) => {
      const loadMs = performance.now() - start;
      const nftPeakMb = memory.stop();
      if (code === 0) resolve({ loadMs, nftPeakMb });
      else reject(new Error(`nft -f ended with code ${code}`));
    });
  });
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function ms(value: number): string {
  return `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
}

function mb(value: number): string {
  return `${Math.round(value)} MiB`;
}

function print(title: string, rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
  process.stdout.write(`${title}\n${lines.map((line) => `  ${line.trimEnd()}`).join('\n')}\n\n`);
}
