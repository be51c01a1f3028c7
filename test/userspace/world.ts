// A small cluster for the userspace tests: Services and endpoints in, Snapshots out, and servers on loopback as Pods.

import { createSocket } from 'node:dgram';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type { EndpointSliceRecord, Protocol, Records, ServiceRecord } from '../../src/model/records.ts';
import { resolve, type Resolution } from '../../src/model/resolve.ts';
import type { NodeIdentity } from '../../src/model/snapshot.ts';
import type { Level, Metrics } from '../../src/observe/metrics.ts';
import { silentLogger, type Logger } from '../../src/observe/log.ts';
import { defaultRulesConfig, type RulesConfig, type UserspaceConfig } from '../../src/rules/config.ts';
import { createUserspaceBackend, type UserspaceOptions } from '../../src/rules/userspace/backend.ts';
import { EMPTY_RECORDS } from '../../src/source/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { serviceRecord } from '../support/records.ts';
import { ip, port } from '../support/values.ts';

interface EndpointSpec {
  readonly ip: string;
  readonly port: number;
  readonly ready?: boolean;
  /** `node-a`, the node of the tests, unless given. */
  readonly node?: string;
}

export interface ServiceSpec extends Partial<Omit<ServiceRecord, 'name' | 'ports' | 'clusterIPs'>> {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly protocol?: Protocol;
  readonly nodePort?: number;
  readonly endpoints: readonly EndpointSpec[];
}

const NODE: NodeIdentity = { name: 'node-a', ips: [], zone: undefined, podCIDRs: [] };

/** The defaults, but for what is said of this mode. */
export function configWith(userspace: Partial<UserspaceConfig>): RulesConfig {
  return { ...defaultRulesConfig, userspace: { ...defaultRulesConfig.userspace, ...userspace } };
}

/** The Snapshot of these Services and no others; with `previous`, made from what differs. */
export function cluster(
  services: readonly ServiceSpec[],
  previous?: Resolution,
  node: NodeIdentity = NODE,
): Resolution {
  const records: Records = {
    ...EMPTY_RECORDS,
    services: PersistentMap.from(services.map((spec) => [`shop/${spec.name}`, recordOf(spec)])),
    endpointSlices: PersistentMap.from(services.map((spec) => [`shop/${spec.name}`, slices(spec)])),
  };
  return resolve(records, node, previous);
}

function recordOf(spec: ServiceSpec): ServiceRecord {
  const { name, ip: clusterIP, port: number, protocol = 'TCP', nodePort, endpoints: _, ...rest } = spec;
  return serviceRecord({
    name,
    type: nodePort === undefined ? 'ClusterIP' : 'NodePort',
    clusterIPs: [ip(clusterIP)],
    ports: [{ name: '', protocol, port: port(number), nodePort: nodePort === undefined ? undefined : port(nodePort) }],
    ...rest,
  });
}

/** A slice for each endpoint, so that each may have a port of its own. */
function slices({ name, protocol = 'TCP', endpoints }: ServiceSpec): readonly EndpointSliceRecord[] {
  return endpoints.map((endpoint, i) => ({
    namespace: 'shop',
    name: `${name}-${i}`,
    serviceName: name,
    family: endpoint.ip.includes(':') ? 6 : 4,
    ports: [{ name: '', protocol, port: port(endpoint.port) }],
    endpoints: [
      {
        ip: ip(endpoint.ip),
        ready: endpoint.ready ?? true,
        serving: endpoint.ready ?? true,
        terminating: false,
        nodeName: endpoint.node ?? 'node-a',
        zone: undefined,
        hostname: undefined,
        podName: undefined,
        zoneHints: undefined,
        nodeHints: undefined,
      },
    ],
  }));
}

/** Metrics that can be asked for their newest value. */
export function fakeMetrics(): Metrics & { readonly values: ReadonlyMap<string, number> } {
  const values = new Map<string, number>();
  const level = (name: string): Level => ({ set: (value) => void values.set(name, value) });
  return {
    values,
    counter: ({ name }) => ({ add: (amount = 1) => void values.set(name, (values.get(name) ?? 0) + amount) }),
    gauge: ({ name }) => level(name),
    histogram: () => ({ observe: () => {} }),
    collected: () => {},
    beforeText: () => {},
    text: () => Promise.resolve(''),
  };
}

/** A log that keeps its warnings and notes. */
export function fakeLog(): Logger & { readonly warnings: readonly string[]; readonly notes: readonly string[] } {
  const warnings: string[] = [];
  const notes: string[] = [];
  const log = {
    ...silentLogger,
    warnings,
    notes,
    warn: (message: string) => void warnings.push(message),
    info: (message: string) => void notes.push(message),
    named: () => log,
  };
  return log;
}

/** A backend that is stopped after the test. */
export function userspace(options: Partial<UserspaceOptions> = {}) {
  const metrics = fakeMetrics();
  const log = fakeLog();
  const backend = createUserspaceBackend({
    config: defaultRulesConfig,
    log,
    metrics,
    clock: systemClock,
    stopGraceMs: 0,
    random: () => 0,
    ...options,
  });
  onTestFinished(() => backend.stop());
  return { backend, metrics, log };
}

export interface Pod extends EndpointSpec {
  /** Connections accepted, or datagrams received. */
  readonly seen: () => number;
  readonly stop: () => Promise<void>;
}

/** A TCP server on the address, on a port of the system's choice. Without a handler it says its name and ends when the client does. */
export async function tcpPod(address: string, handle?: (socket: Socket) => void): Promise<Pod> {
  let seen = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    seen++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    if (handle) {
      handle(socket);
      return;
    }
    socket.write(`${address}\n`);
    socket.on('end', () => socket.end());
    socket.resume();
  });
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(0, address, done);
  });
  const bound = server.address();
  const stop = (): Promise<void> =>
    new Promise((done) => {
      server.close(() => done());
      for (const socket of sockets) socket.destroy();
    });
  onTestFinished(async () => {
    if (server.listening) await stop();
  });
  return { ip: address, port: typeof bound === 'object' && bound ? bound.port : 0, seen: () => seen, stop };
}

/** A UDP server that answers each datagram with its address and what it was sent. */
export async function udpPod(address: string): Promise<Pod> {
  let seen = 0;
  let closed = false;
  const socket = createSocket('udp4');
  socket.on('message', (data, from) => {
    seen++;
    socket.send(`${address} ${data.toString()}`, from.port, from.address);
  });
  await new Promise<void>((done) => socket.bind(0, address, done));
  const bound = socket.address().port;
  const stop = (): Promise<void> =>
    new Promise((done) => {
      closed = true;
      socket.close(() => done());
    });
  onTestFinished(async () => {
    if (!closed) await stop();
  });
  return { ip: address, port: bound, seen: () => seen, stop };
}

/** Connects, sends `data` and its end, and resolves with all that came back; rejects with the socket's error. */
export function ask(address: string, number: number, data = '', localAddress?: string): Promise<string> {
  return new Promise((done, fail) => {
    const socket = connect({ host: address, port: number, ...(localAddress === undefined ? {} : { localAddress }) });
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => (answer += part));
    socket.on('end', () => done(answer.trim()));
    socket.on('error', fail);
    socket.end(data);
  });
}

/** An open connection that is destroyed after the test. */
export function dial(address: string, number: number, localAddress?: string): Promise<Socket> {
  return new Promise((done, fail) => {
    const socket = connect({
      host: address,
      port: number,
      allowHalfOpen: true,
      ...(localAddress === undefined ? {} : { localAddress }),
    });
    socket.once('connect', () => {
      socket.off('error', fail);
      socket.on('error', () => {});
      done(socket);
    });
    socket.once('error', fail);
    onTestFinished(() => void socket.destroy());
  });
}

/** How often each answer came. */
export function tally(answers: readonly string[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1;
  return counts;
}
