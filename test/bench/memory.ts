// What each role holds in memory once it serves a cluster and has come to rest: from a folder of manifests, and from the API server of the tests. In
// a network namespace, so that every role has its own ports and kernel tables.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { childrenOf, cpuSecondsOf } from '../support/cpu-time.ts';
import { RemoteApiServer } from '../support/api-server/remote.ts';
import type { Json } from '../support/api-server/json.ts';
import { createNamespace, netnsMissing, removeNamespace } from '../support/netns.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';
import { NODE, clusterObjects } from './memory-cluster.ts';
import { peakMbOf, residentMbOf } from './peak-memory.ts';

interface Size {
  readonly services: number;
  readonly endpoints: number;
}

interface Role {
  readonly name: string;
  readonly words: (source: Source) => Promise<readonly string[]>;
  readonly sources: readonly SourceKind[];
  readonly sizes: readonly string[];
  /** What is to be reached, in MiB, by size. CoreDNS 1.14.7 holds 102 MB at 1,000 × 3. */
  readonly limits?: Readonly<Record<string, number>>;
  /** An Ingress for each Service. */
  readonly ingresses?: boolean;
}

type SourceKind = 'manifests' | 'api';

interface Source {
  readonly kind: SourceKind;
  /** Flags that name it, and the node. */
  readonly flags: readonly string[];
  readonly url: string;
  readonly folder: string;
}

const BOTH: readonly SourceKind[] = ['manifests', 'api'];
const proxy = (mode: string): Role => ({
  name: `proxy --mode ${mode}`,
  words: async ({ flags }) => ['proxy', `--mode=${mode}`, '--cluster-cidr=10.0.0.0/8', ...flags],
  sources: BOTH,
  sizes: ['1000x10', '5000x10'],
});

const ROLES: readonly Role[] = [
  {
    name: 'up',
    words: async ({ flags }) => ['up', ...flags],
    sources: BOTH,
    sizes: ['1000x10'],
    limits: { '1000x10': 150 },
    ingresses: true,
  },
  proxy('nftables'),
  proxy('iptables'),
  proxy('userspace'),
  {
    name: 'dns',
    words: async ({ flags }) => ['dns', ...flags],
    sources: BOTH,
    sizes: ['1000x3', '5000x10'],
    limits: { '1000x3': 100, '5000x10': 100 },
  },
  {
    name: 'dns, the Corefile of kubeadm',
    words: async ({ url, folder }) => ['dns', '-conf', await corefile(folder, url), '--logging-format=json'],
    sources: ['api'],
    sizes: ['1000x3', '5000x10'],
    limits: { '1000x3': 100, '5000x10': 100 },
  },
  {
    name: 'ingress',
    words: async ({ flags }) => ['ingress', '--watch-ingress-without-class', ...flags],
    sources: BOTH,
    sizes: ['1000x10', '5000x10'],
    ingresses: true,
  },
];

async function corefile(folder: string, url: string): Promise<string> {
  const path = join(folder, 'Corefile');
  const lines = [
    '.:53 {',
    'errors',
    'health {\nlameduck 5s\n}',
    'ready',
    `kubernetes cluster.local in-addr.arpa ip6.arpa {\nendpoint ${url}\npods insecure\nfallthrough in-addr.arpa ip6.arpa\nttl 30\n}`,
    'prometheus :9153',
    'forward . 192.0.2.53 {\nmax_concurrent 1000\n}',
    'cache 30',
    'loadbalance',
    '}',
  ];
  await writeFile(path, `${lines.join('\n')}\n`);
  return path;
}

export async function benchMemory(argv: readonly string[]): Promise<number> {
  const missing = netnsMissing();
  if (missing) {
    process.stderr.write(`the benchmark of memory cannot run here: ${missing}\n`);
    return 1;
  }
  let only: { readonly role: string; readonly source: string; readonly size: readonly string[] | undefined };
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        role: { type: 'string', default: '' },
        source: { type: 'string', default: '' },
        size: { type: 'string', multiple: true },
      },
    });
    only = { role: values.role, source: values.source, size: values.size };
    if (!BOTH.some((source) => source.includes(only.source))) throw new Error(`--source is ${BOTH.join(' or ')}`);
    const roles = ROLES.map(({ name }) => name);
    if (!roles.some((name) => name.includes(only.role)))
      throw new Error(`--role is part of one of: ${roles.join('; ')}`);
    for (const size of only.size ?? []) sizeOf(size);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  print(['', 'source', 'Services × endpoints', 'at rest', 'peak', 'tools at rest', 'to reach']);
  for (const role of ROLES) {
    if (!role.name.includes(only.role)) continue;
    for (const source of role.sources) {
      if (!source.includes(only.source)) continue;
      for (const size of only.size ?? role.sizes) print(await measure(role, source, size));
    }
  }
  return 0;
}

function sizeOf(text: string): Size {
  const match = /^([1-9][0-9]*)x([1-9][0-9]*)$/.exec(text);
  if (!match) throw new Error(`--size is SERVICESxENDPOINTS, for example 5000x10, not "${text}"`);
  return { services: Number(match[1]), endpoints: Number(match[2]) };
}

async function measure(role: Role, kind: SourceKind, sizeText: string): Promise<readonly string[]> {
  const size = sizeOf(sizeText);
  const host = await createNamespace('memory');
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-memory-'));
  let server: RemoteApiServer | undefined;
  let running: FairleadProcess | undefined;
  try {
    if (kind === 'api') server = await RemoteApiServer.start(host.namespace);
    const source = await fill(
      kind,
      folder,
      server,
      clusterObjects(size.services, size.endpoints, role.ingresses ?? false),
    );
    running = new FairleadProcess(await role.words(source), { namespace: host.namespace });
    const { pid } = running;
    await atRest(running, size.services);
    const rest = residentMbOf(pid);
    const tools = childrenOf(pid).reduce((sum, child) => sum + residentMbOf(child), 0);
    const limit = role.limits?.[sizeText];
    return [
      role.name,
      kind === 'api' ? 'API server' : 'manifests',
      `${size.services} × ${size.endpoints}`,
      mb(rest),
      mb(peakMbOf(pid)),
      mb(tools),
      limit === undefined ? '' : `${limit} MiB${rest > limit ? ' (missed)' : ''}`,
    ];
  } finally {
    await running?.close();
    await server?.close();
    await rm(folder, { recursive: true });
    await removeNamespace(host);
  }
}

const BATCH = 500;
const COMMON = [`--node-name=${NODE}`, '--logging-format=json'];

async function fill(
  kind: SourceKind,
  folder: string,
  server: RemoteApiServer | undefined,
  objects: readonly Json[],
): Promise<Source> {
  if (server) {
    for (let at = 0; at < objects.length; at += BATCH) await server.apply(...objects.slice(at, at + BATCH));
    return { kind, flags: ['--master', server.url, ...COMMON], url: server.url, folder };
  }
  const { stringify } = await import('yaml');
  for (let at = 0; at < objects.length; at += BATCH) {
    const documents = objects.slice(at, at + BATCH).map((object) => stringify(object));
    await writeFile(join(folder, `part-${at}.yaml`), documents.join('---\n'));
  }
  return { kind, flags: ['--manifests', folder, ...COMMON], url: '', folder };
}

const PATIENCE_MS = 120_000;
const REST_MS = 2000;
/** Of one CPU: timers and the look-outs of a quiet process. */
const REST_SHARE = 0.05;

/** Until all Services are resolved and the process has nothing more to do. */
async function atRest(running: FairleadProcess, services: number): Promise<void> {
  const resolved = (): boolean =>
    running.log.some((line) => line.message === 'resolved' && Number(line['services']) >= services);
  await until(resolved, PATIENCE_MS, () => `it did not resolve ${services} Services:\n${running.stderr.slice(-2000)}`);
  let before = cpuSecondsOf(running.pid).own;
  let since = performance.now();
  await until(
    () => {
      if (performance.now() - since < REST_MS) return undefined;
      const now = cpuSecondsOf(running.pid).own;
      const busy = (now - before) / ((performance.now() - since) / 1000);
      [before, since] = [now, performance.now()];
      return busy < REST_SHARE;
    },
    PATIENCE_MS,
    () => 'it does not come to rest',
  );
}

function mb(value: number): string {
  return `${Math.round(value)} MiB`;
}

const WIDTHS = [30, 12, 22, 9, 9, 15, 20];

function print(cells: readonly string[]): void {
  process.stdout.write(
    `${cells
      .map((cell, column) => cell.padEnd(WIDTHS[column] ?? 0))
      .join('')
      .trimEnd()}\n`,
  );
}
