// DNS: queries per CPU-second and latency, ours and the peers' in turn on the same machine with the same names.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MIXES, MIX_TITLES, questions, type ClusterSize, type Mix } from './dns-cluster.ts';
import { load, type LoadResult } from './dns-load.ts';
import {
  BARE,
  DNSMASQ,
  fairlead,
  KNOT,
  missingCommands,
  startServer,
  startUpstream,
  UNBOUND,
  type RunningServer,
  type ServerKind,
} from './dns-servers.ts';

const SIZE: ClusterSize = { services: 1000, endpoints: 3 };
const TOOLS = ['dnsperf', 'knotd', 'unbound', 'dnsmasq', 'taskset'];
/** The load generator has this CPU to itself while a server has the first one. */
const LOAD_CPU = '1';
const FIRST_PORT = 16_100;

interface Options {
  readonly mixes: readonly Mix[];
  readonly rounds: number;
  readonly seconds: number;
}

export async function benchDns(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (typeof options === 'string') {
    process.stderr.write(`${options}\n`);
    return 2;
  }
  const missing = missingCommands(TOOLS);
  if (missing.length > 0) {
    process.stderr.write(
      `the DNS benchmark needs ${missing.join(', ')} (Debian: dnsperf knot unbound dnsmasq-base util-linux)\n`,
    );
    return 1;
  }
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-bench-'));
  try {
    await throughput(options, folder);
    return 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The options, or what is wrong with them. */
function readOptions(argv: readonly string[]): Options | string {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        mix: { type: 'string', multiple: true, default: [...MIXES] },
        rounds: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '2' },
      },
    });
    const mixes = MIXES.filter((mix) => values.mix.includes(mix));
    if (mixes.length !== new Set(values.mix).size)
      throw new Error(`--mix is ${MIXES.join(', ')}; not ${values.mix.join(', ')}`);
    const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
    if (!(rounds >= 1) || !(seconds >= 1)) throw new Error('--rounds and --seconds are numbers from 1');
    return { mixes, rounds, seconds };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Rates of one server in one mix, a figure a round. */
type Figures = Map<ServerKind, { readonly full: LoadResult[]; readonly half: LoadResult[] }>;

async function throughput({ mixes, rounds, seconds }: Options, folder: string): Promise<void> {
  const kinds = [fairlead(1), BARE, KNOT, UNBOUND, DNSMASQ];
  const upstreamPort = FIRST_PORT;
  const stopUpstream = await startUpstream(upstreamPort);
  const servers: RunningServer[] = [];
  try {
    for (const [i, kind] of kinds.entries()) {
      const place = { folder, port: FIRST_PORT + 10 * (i + 1), upstreamPort, size: SIZE };
      servers.push(await startServer(kind, place));
    }
    for (const mix of mixes) await contest({ mix, rounds, seconds, folder, servers });
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    await stopUpstream();
  }
}

interface Contest {
  readonly mix: Mix;
  readonly rounds: number;
  readonly seconds: number;
  readonly folder: string;
  readonly servers: readonly RunningServer[];
}

async function contest({ mix, rounds, seconds, folder, servers }: Contest): Promise<void> {
  const file = join(folder, `questions-${mix}`);
  const taking = servers.filter(({ kind }) => kind.mixes.includes(mix));
  const figures: Figures = new Map(taking.map(({ kind }) => [kind, { full: [], half: [] }]));
  await writeFile(file, questions(mix, SIZE, 0));
  for (const server of taking) await load({ server, file, seconds: 1, cpus: LOAD_CPU });
  for (let round = 1; round <= rounds; round++) {
    for (const server of taking) {
      // What is asked for once must be new to each.
      if (mix === 'misses') await writeFile(file, questions(mix, SIZE, round * 100 + taking.indexOf(server)));
      const full = await load({ server, file, seconds, cpus: LOAD_CPU });
      figures.get(server.kind)?.full.push(full);
      if (mix === 'misses') await writeFile(file, questions(mix, SIZE, round * 100 + 50 + taking.indexOf(server)));
      figures
        .get(server.kind)
        ?.half.push(await load({ server, file, seconds: 1, rate: Math.round(full.qps / 2), cpus: LOAD_CPU }));
    }
  }
  printContest(mix, rounds, figures);
}

function printContest(mix: Mix, rounds: number, figures: Figures): void {
  const rows: string[][] = [['', 'queries/CPU-s', 'of bare', 'of knot', 'p50 half load', 'p99 half load', 'lost']];
  const rate = (kind: ServerKind): number =>
    median(figures.get(kind)?.full.map(({ perCpuSecond }) => perCpuSecond) ?? []);
  const ratio = (a: number, b: number): string => (Number.isNaN(b) ? '–' : (a / b).toFixed(2));
  for (const [kind, { full, half }] of figures) {
    const own = rate(kind);
    rows.push([
      kind.name,
      String(Math.round(own)),
      ratio(own, rate(BARE)),
      ratio(own, rate(KNOT)),
      `${median(half.map(({ p50 }) => p50)).toFixed(3)} ms`,
      `${median(half.map(({ p99 }) => p99)).toFixed(3)} ms`,
      String(full.reduce((sum, { lost }) => sum + lost, 0)),
    ]);
  }
  print(
    `${MIX_TITLES[mix]}: ${SIZE.services} Services × ${SIZE.endpoints} endpoints, kubeadm's Corefile, median of ${rounds} alternating rounds`,
    rows,
  );
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

function print(title: string, rows: readonly (readonly string[])[]): void {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  const lines = rows.map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  );
  process.stdout.write(`\n${title}\n${lines.join('\n')}\n`);
}
