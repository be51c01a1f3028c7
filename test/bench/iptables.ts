// iptables against `iptables-legacy-restore` of the same rules, alternating in one run. The legacy tool, since the one over
// nf_tables does not load 50,000 endpoints in minutes.

import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createNamespace, netnsMissing, removeNamespace, type Host } from '../support/netns.ts';

const execFileAsync = promisify(execFile);
const CHILD = fileURLToPath(new URL('./iptables-child.ts', import.meta.url));
/** kube-proxy v1.36.2 in iptables mode with the legacy tool, at 5,000 × 10 on this kind of machine. */
const KUBE_PROXY = 'kube-proxy v1.36.2: 3.4 s, 0.89 s CPU a change';

interface Size {
  readonly services: number;
  readonly endpoints: number;
}

interface Round {
  readonly loadMs: number;
  readonly nodePeakMb: number;
  readonly toolPeakMb: number;
  readonly latencies: readonly number[];
  readonly cpuMsPerChange: number;
  readonly restartMs: number;
}

interface RawRound {
  readonly loadMs: number;
  /** The least that a change can cost: the tool reads and replaces the whole table for one empty chain. */
  readonly leastMs: number;
}

/** Prints the rows, or why there are none. */
export async function benchIptables(size: Size, rounds: number, changes: number): Promise<void> {
  const missing = netnsMissing('iptables');
  if (missing !== undefined) {
    process.stdout.write(`iptables: left out: ${missing}\n`);
    return;
  }
  const words = [String(size.services), String(size.endpoints)];
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'));
  try {
    const file = join(folder, 'rules.txt');
    await writeFile(file, await child(['render', ...words]));
    const ours: Round[] = [];
    const raw: RawRound[] = [];
    for (let round = 0; round < rounds; round++) {
      ours.push(
        await inNamespace(async (host) => JSON.parse(await child(['load', ...words, String(changes)], host)) as Round),
      );
      raw.push(await inNamespace((host) => rawRound(host, file)));
    }
    print(size, rounds, ours, raw);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function print({ services, endpoints }: Size, rounds: number, ours: readonly Round[], raw: readonly RawRound[]): void {
  const of = (pick: (round: Round) => number): number => median(ours.map(pick));
  const load = of(({ loadMs }) => loadMs);
  const rawLoad = median(raw.map(({ loadMs }) => loadMs));
  const latencies = ours.flatMap((round) => round.latencies).sort((a, b) => a - b);
  const at = (part: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * part))] ?? 0;
  const lines = [
    `iptables, legacy tool, ${services} Services × ${endpoints} endpoints, median of ${rounds} alternating rounds (${KUBE_PROXY})`,
    `  first sync  fairlead ${ms(load)}, iptables-legacy-restore ${ms(rawLoad)}, ratio ${(load / rawLoad).toFixed(2)} ×; node ${mb(of((each) => each.nodePeakMb))}, tool ${mb(of((each) => each.toolPeakMb))}`,
    `  restart     over the same rules ${ms(of(({ restartMs }) => restartMs))}`,
    `  one change  p50 ${ms(at(0.5))}, p99 ${ms(at(0.99))}, CPU ${ms(of(({ cpuMsPerChange }) => cpuMsPerChange))} with the tool; the tool alone, for one empty chain: ${ms(median(raw.map(({ leastMs }) => leastMs)))}`,
  ];
  process.stdout.write(`${lines.join('\n')}\n\n`);
}

async function inNamespace<T>(run: (host: Host) => Promise<T>): Promise<T> {
  const host = await createNamespace('bench');
  try {
    // What kubelet leaves where it uses the legacy tool.
    await host.run('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT');
    return await run(host);
  } finally {
    await removeNamespace(host);
  }
}

async function child(words: readonly string[], host?: Host): Promise<string> {
  const command = [process.execPath, CHILD, ...words];
  const [file = '', ...args] = host === undefined ? command : ['ip', 'netns', 'exec', host.namespace, ...command];
  const { stdout } = await execFileAsync(file, args, { maxBuffer: 1 << 30 });
  return stdout;
}

async function rawRound({ namespace }: Host, file: string): Promise<RawRound> {
  const restore = async (feed: (stdin: NodeJS.WritableStream) => Promise<unknown>): Promise<number> => {
    const start = performance.now();
    const running = execFileAsync('ip', ['netns', 'exec', namespace, 'iptables-legacy-restore', '--noflush']);
    const { stdin } = running.child;
    if (!stdin) throw new Error('no input');
    await Promise.all([feed(stdin), running]);
    return performance.now() - start;
  };
  const loadMs = await restore((stdin) => pipeline(createReadStream(file), stdin));
  const leastMs = await restore(async (stdin) => void stdin.end('*nat\n:KUBE-BENCH - [0:0]\nCOMMIT\n'));
  return { loadMs, leastMs };
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
