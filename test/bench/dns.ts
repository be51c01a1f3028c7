// DNS: queries per CPU-second and latency, ours and the peers' in turn on the same machine with the same names.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import {
  endpointAddress,
  endpointSlice,
  MIXES,
  MIX_TITLES,
  questions,
  serviceObjects,
  type ClusterSize,
  type Mix,
} from './dns-cluster.ts';
import { load, type LoadResult } from './dns-load.ts';
import {
  BARE,
  DNSMASQ,
  fairlead,
  fairleadOver,
  KNOT,
  memoryMb,
  missingCommands,
  startServer,
  startUpstream,
  UNBOUND,
  type RunningServer,
  type ServerKind,
} from './dns-servers.ts';
import { median, printTable } from './table.ts';

const SIZE: ClusterSize = { services: 1000, endpoints: 3 };
const TOOLS = ['dnsperf', 'knotd', 'unbound', 'dnsmasq', 'taskset'];
/** The load generator has this CPU to itself while a server has the first one. */
const LOAD_CPU = '1';
const FIRST_PORT = 16_100;

const PARTS = ['throughput', 'churn', 'memory'] as const;
type Part = (typeof PARTS)[number];

interface Options {
  readonly parts: readonly Part[];
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
    if (options.parts.includes('throughput')) await throughput(options, folder);
    if (options.parts.includes('churn')) await churn(options, folder);
    if (options.parts.includes('memory')) await memory(folder);
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
        part: { type: 'string', multiple: true, default: [...PARTS] },
        rounds: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '2' },
      },
    });
    const mixes = MIXES.filter((mix) => values.mix.includes(mix));
    if (mixes.length !== new Set(values.mix).size)
      throw new Error(`--mix is ${MIXES.join(', ')}; not ${values.mix.join(', ')}`);
    const parts = PARTS.filter((part) => values.part.includes(part));
    if (parts.length !== new Set(values.part).size)
      throw new Error(`--part is ${PARTS.join(', ')}; not ${values.part.join(', ')}`);
    const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
    if (!(rounds >= 1) || !(seconds >= 1)) throw new Error('--rounds and --seconds are numbers from 1');
    return { parts, mixes, rounds, seconds };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Rates of one server in one mix, a figure a round. */
type Figures = Map<ServerKind, { readonly full: LoadResult[]; readonly half: LoadResult[] }>;

async function throughput({ mixes, rounds, seconds }: Options, folder: string): Promise<void> {
  const kinds = [fairlead(1), fairlead(2), BARE, KNOT, UNBOUND, DNSMASQ];
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

/** Endpoints that change in a second, one Service after the other. */
const CHANGES_PER_SECOND = 500;

/** Latency under half of what it can do, at rest and while endpoints change, in turn. */
async function churn({ rounds, seconds }: Options, folder: string): Promise<void> {
  const api = await startTestApiServer();
  fill(api, SIZE);
  const place = { folder, port: FIRST_PORT + 100, upstreamPort: FIRST_PORT, size: SIZE };
  const server = await startServer(fairleadOver(api.url, 1), place);
  try {
    const file = join(folder, 'questions-churn');
    await writeFile(file, questions('cluster', SIZE, 0));
    const all = '0,1';
    const { qps } = await load({ server, file, seconds: 2, cpus: all });
    const rate = Math.round(qps / 2);
    const rest: LoadResult[] = [];
    const changing: LoadResult[] = [];
    let changes = 0;
    for (let round = 0; round < rounds; round++) {
      rest.push(await load({ server, file, seconds, rate, cpus: all }));
      const timer = setInterval(() => {
        for (let i = 0; i < CHANGES_PER_SECOND / 50; i++, changes++) {
          const service = changes % SIZE.services;
          api.apply(endpointSlice(service, [endpointAddress(service, 10 + (changes % 40))]));
        }
      }, 20);
      changing.push(await load({ server, file, seconds, rate, cpus: all }));
      clearInterval(timer);
    }
    const row = (name: string, results: readonly LoadResult[]): string[] => [
      name,
      `${median(results.map(({ p50 }) => p50)).toFixed(3)} ms`,
      `${median(results.map(({ p99 }) => p99)).toFixed(3)} ms`,
      String(results.reduce((sum, { lost }) => sum + lost, 0)),
    ];
    const ratio = median(changing.map(({ p99 }) => p99)) / median(rest.map(({ p99 }) => p99));
    printTable(
      `${rate} queries/s, half of what one worker did, ${changes} endpoint changes at ${CHANGES_PER_SECOND}/s; p99 changing / at rest: ${ratio.toFixed(2)}`,
      [['', 'p50', 'p99', 'lost'], row('at rest', rest), row('changing', changing)],
    );
  } finally {
    await server.stop();
    await api.stop();
  }
}

function fill(api: TestApiServer, { services, endpoints }: ClusterSize): void {
  for (let i = 0; i < services; i++) api.apply(...serviceObjects(i, endpoints));
}

const MEMORY_SIZES: readonly ClusterSize[] = [
  { services: 1, endpoints: 1 },
  { services: 1000, endpoints: 3 },
  { services: 1000, endpoints: 10 },
  { services: 5000, endpoints: 10 },
  { services: 10_000, endpoints: 10 },
];

/** Resident memory over an API server: in peace, and after the API server has lost its history, so that everything is listed again. */
async function memory(folder: string): Promise<void> {
  const rows = [['Services × endpoints', 'workers', 'resident', 'after a relist', 'peak']];
  for (const workers of [0, 1, 2]) {
    for (const size of MEMORY_SIZES) {
      const api = await startTestApiServer();
      fill(api, size);
      const place = { folder, port: FIRST_PORT + 200, upstreamPort: FIRST_PORT, size };
      const server = await startServer(fairleadOver(api.url, workers), place);
      try {
        const file = join(folder, 'questions-memory');
        await writeFile(file, questions('cluster', size, 0));
        await load({ server, file, seconds: 1, rate: 5000, cpus: LOAD_CPU });
        await settled();
        const before = await memoryMb(server.pid);
        api.dropWatches('expire');
        await settled();
        const after = await memoryMb(server.pid);
        const mb = (value: number): string => `${Math.round(value)} MB`;
        rows.push([
          `${size.services} × ${size.endpoints}`,
          String(workers),
          mb(before.now),
          mb(after.now),
          mb(after.peak),
        ]);
      } finally {
        await server.stop();
        await api.stop();
      }
    }
  }
  printTable('memory over an API server', rows);
}

/** For what is to be collected to be collected. */
function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 4000));
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
  printTable(
    `${MIX_TITLES[mix]}: ${SIZE.services} Services × ${SIZE.endpoints} endpoints, kubeadm's Corefile, median of ${rounds} alternating rounds`,
    rows,
  );
}
