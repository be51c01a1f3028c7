// The part of the userspace consumer that runs inside the namespace: endpoints, backend and client in one process. Prints a ScenarioResult.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { hostPort } from '../../../src/lib/ip.ts';
import type { Snapshot } from '../../../src/model/snapshot.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { createMetrics } from '../../../src/observe/metrics.ts';
import { defaultRulesConfig } from '../../../src/rules/config.ts';
import { carriedPorts } from '../../../src/rules/intent.ts';
import type { Packet } from '../../../src/rules/packet.ts';
import { createUserspaceBackend } from '../../../src/rules/userspace/backend.ts';
import { systemClock } from '../../../src/system/clock.ts';
import type { Start } from './consumer.ts';
import { expectedPacket } from './expect.ts';
import { parseScenario } from './parse.ts';
import { patienceMs, probeRow, type ProbeOutcome } from './probe.ts';
import { walk } from './run.ts';
import { DETECT_LOCAL, NODE_IPS, OTHER_NODE_IP } from './world.ts';

const start: Start = async ({ settings }, states) => {
  const stopServers = await serveEndpoints(states.map(({ snapshot }) => snapshot));
  const backend = createUserspaceBackend({
    config: { ...defaultRulesConfig, detectLocal: DETECT_LOCAL, ...settings },
    log: silentLogger,
    metrics: createMetrics(),
    clock: systemClock,
    addresses: () => [...NODE_IPS, OTHER_NODE_IP],
    stopGraceMs: 0,
  });
  const sync = async (snapshot: Snapshot): Promise<void> => {
    const outcome = await backend.sync(snapshot);
    if (outcome.kind !== 'applied') throw new Error(outcome.reason);
  };
  return {
    update: ({ snapshot }) => sync(snapshot),
    check: async (_kind, row) => {
      const expected = expectedPacket('', row);
      if (expected.packet.protocol === 'SCTP') return undefined;
      return probeRow(expected, {
        probe: ({ packet }) => (packet.protocol === 'TCP' ? probeTcp : probeUdp)(packet, patienceMs(expected)),
        seesMasquerade: false,
        dropMayReset: true,
      });
    },
    nothingRemains: async () => {
      const state = backend.state() as { listeners?: unknown[] };
      return state.listeners?.length ? `listeners remain: ${JSON.stringify(state.listeners)}` : undefined;
    },
    stop: async () => {
      await backend.cleanup();
      await backend.stop();
      stopServers();
    },
  };
};

async function serveEndpoints(snapshots: readonly Snapshot[]): Promise<() => void> {
  const wanted = new Map<string, { ip: string; port: number; protocol: string }>();
  for (const snapshot of snapshots) {
    for (const service of snapshot.services.values()) {
      for (const { protocol, endpoints } of carriedPorts(service)) {
        for (const { ip, port } of endpoints) wanted.set(`${protocol} ${ip} ${port}`, { ip, port, protocol });
      }
    }
  }
  const servers: (Server | UdpSocket)[] = [];
  for (const { ip, port, protocol } of wanted.values()) {
    servers.push(protocol === 'TCP' ? await serveTcp(ip, port) : await serveUdp(ip, port));
  }
  return () => {
    for (const server of servers) server.close();
  };
}

function serveTcp(ip: string, port: number): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`${hostPort(ip, port)} ${socket.remoteAddress}`);
  });
  return new Promise((resolve, reject) => server.once('error', reject).listen(port, ip, () => resolve(server)));
}

function serveUdp(ip: string, port: number): Promise<UdpSocket> {
  const socket = createSocket(ip.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (_data, peer) => socket.send(`${hostPort(ip, port)} ${peer.address}`, peer.port, peer.address));
  return new Promise((resolve, reject) => socket.once('error', reject).bind(port, ip, () => resolve(socket)));
}

function probeTcp({ source, destination, port }: Packet, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const socket = connect({ host: destination, port, localAddress: source });
    let text = '';
    const finish = (outcome: ProbeOutcome): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => finish({ kind: 'silence' }), timeoutMs);
    socket.on('data', (data) => (text += data.toString()));
    socket.on('end', () => finish(text === '' ? { kind: 'refused' } : answered(text)));
    socket.on('error', () => finish({ kind: 'refused' }));
  });
}

function probeUdp({ source, destination, port }: Packet, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const socket = createSocket(destination.includes(':') ? 'udp6' : 'udp4');
    const finish = (outcome: ProbeOutcome): void => {
      clearTimeout(timer);
      socket.close();
      resolve(outcome);
    };
    const timer = setTimeout(() => finish({ kind: 'silence' }), timeoutMs);
    socket.on('message', (data) => finish(answered(data.toString())));
    socket.on('error', () => finish({ kind: 'refused' }));
    socket.bind({ address: source }, () => socket.connect(port, destination, () => socket.send('?')));
  });
}

function answered(text: string): ProbeOutcome {
  const [by = '', peerSeen = ''] = text.split(' ');
  return { kind: 'answered', by, peerSeen };
}

const file = process.argv[2] ?? '';
const scenario = parseScenario(file, readFileSync(file, 'utf8'));
const result = await walk(scenario, { name: 'userspace', reads: ['packets'] }, start);
process.stdout.write(JSON.stringify(result), () => process.exit(0));
