// The rules: the first sync of a cluster against the tool that loads the same rules from a file, in turn; a restart over them; what one changed
// endpoint costs; and how long a connection takes to stand among so many others. In network namespaces that are removed again.

import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { Topology, createNamespace, netnsMissing, removeNamespace } from '../support/netns.ts';
import { PeakMemory } from './peak-memory.ts';
import { KUBE_PROXY, PROBE, RAW, type BenchMode, type RawTool } from './rules-modes.ts';
import { median, printTable } from './table.ts';

const execFileAsync = promisify(execFile);
const CHILD = fileURLToPath(new URL('./rules-child.ts', import.meta.url));

interface Size {
  readonly services: number;
  readonly endpoints: number;
}

interface ChildResult {
  readonly loadMs: number;
  readonly nodePeakMb: number;
  readonly toolPeakMb: number;
  readonly latencies: readonly number[];
  readonly cpuMsPerChange: number | null;
}

interface RawResult {
  readonly loadMs: number;
  readonly toolPeakMb: number;
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
  const { sizes, mode, raw, rounds, latency } = options;
  for (const size of sizes) await firstSync(size, { mode, raw, rounds });
  for (const size of sizes) await changes(size, mode, options.changes);
  if (latency) await firstPacket(sizes, mode);
  return 0;
}

const SIZES = ['100x10', '1000x5', '5000x10', '10000x5', '5000x50', '50000x5'];

interface Options {
  readonly mode: BenchMode;
  readonly raw: RawTool;
  readonly latency: boolean;
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
        size: { type: 'string', multiple: true, default: SIZES },
        mode: { type: 'string', default: 'nftables' },
        'no-latency': { type: 'boolean', default: false },
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
    const mode = values.mode as BenchMode;
    if (!Object.hasOwn(RAW, mode))
      throw new Error(`--mode is ${Object.keys(RAW).join(', ')} or userspace, not "${values.mode}"`);
    return { sizes, mode, raw: RAW[mode], rounds, changes: changeCount, latency: !values['no-latency'] };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

interface Contest {
  readonly mode: BenchMode;
  readonly raw: RawTool;
  readonly rounds: number;
}

async function firstSync(size: Size, { mode, raw, rounds }: Contest): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'));
  try {
    const file = join(folder, 'rules');
    await writeFile(file, await child(['render', mode, ...sizeWords(size)]));
    const first: ChildResult[] = [];
    const again: ChildResult[] = [];
    const alone: RawResult[] = [];
    for (let round = 0; round < rounds; round++) {
      await inNamespace(async (name) => {
        first.push(await load(name, mode, size));
        again.push(await load(name, mode, size));
      });
      alone.push(await inNamespace((name) => rawLoad(name, raw.words(file))));
    }
    const ourMs = median(first.map(({ loadMs }) => loadMs));
    const rawMs = median(alone.map(({ loadMs }) => loadMs));
    const kube = KUBE_PROXY[`${mode} ${sizeText(size)}`];
    printTable(`first sync, ${sizeTitle(size)}, mode ${mode}, median of ${rounds} alternating rounds`, [
      ['', 'time', 'node peak', 'tool peak'],
      loadRow('fairlead', first),
      loadRow('fairlead, restarted over its rules', again),
      [raw.name, ms(rawMs), '', mb(median(alone.map((each) => each.toolPeakMb)))],
      ['ratio', `${(ourMs / rawMs).toFixed(2)} ×`, '', ''],
      ...(kube ? [['kube-proxy v1.36.2, measured before', kube.firstSync, kube.memory, '']] : []),
    ]);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function loadRow(name: string, results: readonly ChildResult[]): readonly string[] {
  return [
    name,
    ms(median(results.map(({ loadMs }) => loadMs))),
    mb(median(results.map((each) => each.nodePeakMb))),
    mb(median(results.map((each) => each.toolPeakMb))),
  ];
}

async function changes(size: Size, mode: BenchMode, count: number): Promise<void> {
  const result = await inNamespace((name) => load(name, mode, size, count));
  const sorted = [...result.latencies].sort((a, b) => a - b);
  const kube = KUBE_PROXY[`${mode} ${sizeText(size)}`];
  printTable(`one endpoint changed, ${sizeTitle(size)}, mode ${mode}, ${count} changes`, [
    ['', 'latency p50', 'latency p99', 'CPU a change, tool included'],
    ['fairlead', ms(share(sorted, 0.5)), ms(share(sorted, 0.99)), ms(result.cpuMsPerChange ?? 0)],
    ...(kube ? [['kube-proxy v1.36.2, measured before', kube.latency, '', kube.cpu]] : []),
  ]);
}

/** From the begin of a TCP connection until it stands, through the last Service of many, and straight to the Pod behind it. */
async function firstPacket(sizes: readonly Size[], mode: BenchMode): Promise<void> {
  const topology = await Topology.create();
  try {
    const pod = await topology.addPod('probe', [PROBE.pod]);
    await pod.serve({ protocol: 'TCP', address: PROBE.pod, port: 8080, name: 'probe' });
    const rows = [await connectRow(topology, 'no rules, straight to the Pod', PROBE.pod, 8080)];
    for (const size of sizes) {
      await load(topology.node.namespace, mode, size);
      rows.push(await connectRow(topology, sizeTitle(size), PROBE.address, 80));
    }
    printTable(`a connection through a Service, mode ${mode}, until it stands`, [['', 'p50', 'p90', 'p99'], ...rows]);
  } finally {
    await topology.close();
  }
}

const CONNECTS_MS = 5000;

async function connectRow(topology: Topology, name: string, address: string, port: number): Promise<readonly string[]> {
  const targets = [{ protocol: 'TCP' as const, address, port }];
  const hammer = await topology.client.hammer({ targets, everyMs: 5, timeoutMs: 3000 });
  await new Promise((resolve) => setTimeout(resolve, CONNECTS_MS));
  const { connectMs, failures } = await hammer.stop();
  if (failures.length > 0) throw new Error(`${failures.length} connections to ${address} failed`);
  return [name, ...[0.5, 0.9, 0.99].map((part) => `${share(connectMs, part).toFixed(3)} ms`)];
}

/** The value below which that part of the sorted values lies. */
function share(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

function sizeTitle({ services, endpoints }: Size): string {
  return `${services} Services × ${endpoints} endpoints`;
}

function sizeText({ services, endpoints }: Size): string {
  return `${services}x${endpoints}`;
}

async function inNamespace<T>(run: (namespace: string) => Promise<T>): Promise<T> {
  const host = await createNamespace('bench');
  try {
    return await run(host.namespace);
  } finally {
    await removeNamespace(host);
  }
}

async function load(namespace: string, mode: BenchMode, size: Size, changeCount = 0): Promise<ChildResult> {
  const words = [changeCount > 0 ? 'change' : 'load', mode, ...sizeWords(size), String(changeCount)];
  const output = await child(words, namespace);
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

function rawLoad(namespace: string, words: readonly string[]): Promise<RawResult> {
  return new Promise((resolve, reject) => {
    const memory = new PeakMemory();
    const start = performance.now();
    const tool = spawn('ip', ['netns', 'exec', namespace, ...words], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    tool.once('error', reject);
    tool.once('exit', (code) => {
      const loadMs = performance.now() - start;
      const toolPeakMb = memory.stop();
      if (code === 0) resolve({ loadMs, toolPeakMb });
      else reject(new Error(`${words.join(' ')} ended with code ${code}`));
    });
  });
}

function ms(value: number): string {
  return `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
}

function mb(value: number): string {
  return `${Math.round(value)} MiB`;
}
