// The servers that the DNS benchmark compares: ours, the bare responder, and the peers from Debian; each with the same names.

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  kubeadmCorefile,
  manifests,
  OUTSIDE_ZONE,
  serviceAddress,
  serviceName,
  ZONE,
  zoneFile,
  type ClusterSize,
  type Mix,
} from './dns-cluster.ts';

const ENTRY = fileURLToPath(new URL('../../src/cli/entry.js', import.meta.url));
const RESPONDER = fileURLToPath(new URL('./dns-responder.ts', import.meta.url));
/** Servers run on this CPU and the load generator on the others; with two workers they have them all. */
export const SERVER_CPU = '0';

export interface Place {
  readonly folder: string;
  readonly port: number;
  /** Where forwarded questions go. */
  readonly upstreamPort: number;
  readonly size: ClusterSize;
}

export interface ServerKind {
  readonly name: string;
  readonly mixes: readonly Mix[];
  /** On all CPUs, not on one. */
  readonly everywhere?: boolean;
  readonly command: (place: Place) => Promise<readonly string[]>;
}

export interface RunningServer {
  readonly kind: ServerKind;
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

export function fairlead(workers: number): ServerKind {
  return {
    name: `fairlead, ${workers} worker${workers === 1 ? '' : 's'}`,
    mixes: ['cluster', 'search', 'cached', 'misses'],
    everywhere: workers > 1,
    command: async ({ folder, port, upstreamPort, size }) => {
      const upstream = `127.0.0.1:${upstreamPort}`;
      const ports = { dns: port, health: port + 1, ready: port + 2, metrics: port + 3, upstream };
      await writeFile(join(folder, 'Corefile'), kubeadmCorefile(ports));
      const objects = join(folder, 'manifests');
      await mkdir(objects, { recursive: true });
      await writeFile(join(objects, 'cluster.json'), manifests(size));
      const flags = ['--manifests', objects, '--workers', String(workers)];
      return [process.execPath, ENTRY, 'dns', '-conf', join(folder, 'Corefile'), ...flags];
    },
  };
}

/** The same over an API server, without anything outside. */
export function fairleadOver(url: string, workers: number): ServerKind {
  return {
    name: `fairlead over an API server, ${workers} worker${workers === 1 ? '' : 's'}`,
    mixes: ['cluster'],
    everywhere: true,
    command: async ({ folder, port, upstreamPort }) => {
      const upstream = `127.0.0.1:${upstreamPort}`;
      const text = kubeadmCorefile({ dns: port, health: port + 1, ready: port + 2, metrics: port + 3, upstream });
      await writeFile(join(folder, 'Corefile'), text.replace('pods insecure', `endpoint ${url}\n       pods insecure`));
      return [process.execPath, ENTRY, 'dns', '-conf', join(folder, 'Corefile'), '--workers', String(workers)];
    },
  };
}

export const BARE: ServerKind = {
  name: 'bare dgram responder',
  mixes: ['cluster', 'search', 'cached', 'misses'],
  command: async ({ port }) => [process.execPath, RESPONDER, 'bare', String(port)],
};

export const KNOT: ServerKind = {
  name: 'knot',
  mixes: ['cluster', 'search'],
  command: async ({ folder, port, size }) => {
    await writeFile(join(folder, 'zone'), zoneFile(size));
    const text = [
      'server:',
      `    listen: 127.0.0.1@${port}`,
      '    udp-workers: 1',
      '    tcp-workers: 1',
      '    background-workers: 1',
      `    rundir: ${folder}`,
      'database:',
      `    storage: ${folder}/knot`,
      'zone:',
      `  - domain: ${ZONE}`,
      `    file: ${folder}/zone`,
      '    zonefile-load: whole',
      '    zonefile-sync: -1',
    ];
    await writeFile(join(folder, 'knot.conf'), `${text.join('\n')}\n`);
    return ['knotd', '-c', join(folder, 'knot.conf')];
  },
};

export const UNBOUND: ServerKind = {
  name: 'unbound',
  mixes: ['cluster', 'search', 'cached', 'misses'],
  command: async ({ folder, port, upstreamPort, size }) => {
    const data = Array.from(
      { length: size.services },
      (_, i) => `    local-data: "${serviceName(i)}. 30 IN A ${serviceAddress(i)}"`,
    );
    const text = [
      'server:',
      '    interface: 127.0.0.1',
      `    port: ${port}`,
      '    num-threads: 1',
      '    do-daemonize: no',
      '    do-not-query-localhost: no',
      '    username: ""',
      '    chroot: ""',
      `    directory: "${folder}"`,
      '    pidfile: ""',
      '    use-syslog: no',
      '    logfile: ""',
      '    module-config: "iterator"',
      `    local-zone: "${ZONE}." static`,
      ...data,
      'forward-zone:',
      '    name: "."',
      `    forward-addr: 127.0.0.1@${upstreamPort}`,
    ];
    await writeFile(join(folder, 'unbound.conf'), `${text.join('\n')}\n`);
    return ['unbound', '-d', '-c', join(folder, 'unbound.conf')];
  },
};

export const DNSMASQ: ServerKind = {
  name: 'dnsmasq',
  mixes: ['cluster', 'search', 'cached', 'misses'],
  command: async ({ folder, port, upstreamPort, size }) => {
    const names = Array.from({ length: size.services }, (_, i) => `${serviceAddress(i)} ${serviceName(i)}`);
    await writeFile(join(folder, 'hosts'), `${names.join('\n')}\n`);
    const flags = [
      '-k',
      '-C',
      '/dev/null',
      '-p',
      String(port),
      '-a',
      '127.0.0.1',
      '-z',
      '-h',
      '-H',
      join(folder, 'hosts'),
    ];
    const local = [`--local=/${ZONE}/`, `--server=/${OUTSIDE_ZONE}/127.0.0.1#${upstreamPort}`, '-R', '-c', '10000'];
    return ['dnsmasq', ...flags, ...local, '-0', '1000', '--pid-file=', '-u', 'root'];
  },
};

/** What of the commands that the benchmark needs is not installed. */
export function missingCommands(kinds: readonly string[]): readonly string[] {
  return kinds.filter((command) => {
    try {
      execFileSync('sh', ['-c', `command -v ${command}`], {
        stdio: 'ignore',
        env: { ...process.env, PATH: TOOL_PATH },
      });
      return false;
    } catch {
      return true;
    }
  });
}

const TOOL_PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

/** Starts a server in a folder of its own and waits until it answers. */
export async function startServer(kind: ServerKind, place: Place): Promise<RunningServer> {
  const folder = join(place.folder, kind.name.replaceAll(/[^a-z0-9]/g, '-'));
  await mkdir(join(folder, 'knot'), { recursive: true });
  const command = await kind.command({ ...place, folder });
  const pinned = kind.everywhere ? command : ['taskset', '-c', SERVER_CPU, ...command];
  const child = spawn(pinned[0] ?? '', pinned.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: TOOL_PATH },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (said = (said + data).slice(-4000)));
  const { pid } = child;
  if (pid === undefined) throw new Error(`cannot start ${kind.name}`);
  try {
    await untilAnswered(place.port, child);
  } catch (error) {
    await end(child);
    throw new Error(`${kind.name} does not answer: ${said}`, { cause: error });
  }
  return { kind, port: place.port, pid, stop: () => end(child) };
}

export async function startUpstream(port: number): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, [RESPONDER, 'upstream', String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await untilAnswered(port, child);
  return () => end(child);
}

/** `svc-0.ns-0.svc.cluster.local A`, until NOERROR comes back, 30 s at most. */
async function untilAnswered(port: number, child: ChildProcess): Promise<void> {
  const query = Buffer.from(
    '123401000001000000000000057376632d30046e732d300373766307636c7573746572056c6f63616c0000010001',
    'hex',
  );
  const socket = createSocket('udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      const again = setInterval(() => socket.send(query, port, '127.0.0.1', () => {}), 50);
      const late = setTimeout(() => stop(new Error('no answer in 30 s')), 30_000);
      const stop = (error?: Error): void => {
        clearInterval(again);
        clearTimeout(late);
        if (error) reject(error);
        else resolve();
      };
      socket.on('error', () => {});
      socket.on('message', (answer) => ((answer[3] ?? 0) & 0xf) === 0 && stop());
      child.once('exit', (code) => stop(new Error(`it ended with ${code}`)));
    });
  } finally {
    socket.close();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), 5000);
  await ended;
  clearTimeout(force);
}

/** Seconds of CPU that a process has used, its threads included. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Resident megabytes: now, and the most so far. */
export async function memoryMb(pid: number): Promise<{ readonly now: number; readonly peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number => Number(new RegExp(`${name}:\\s+([0-9]+)`).exec(status)?.[1] ?? 0) / 1024;
  return { now: of('VmRSS'), peak: of('VmHWM') };
}
