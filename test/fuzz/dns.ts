// Malformed packets against the DNS server: most through the real parse-and-answer path, some over real sockets.
// What must hold: nothing throws, every packet takes a bounded time, every answer is well-formed, memory stays flat.

import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createMetrics } from '../../src/observe/metrics.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { systemClock } from '../../src/system/clock.ts';
import { KeptAnswers } from '../../src/dns/kept-answers.ts';
import { createDnsMetrics } from '../../src/dns/metrics.ts';
import { startDnsPlane } from '../../src/dns/plane.ts';
import { createDnsServer, type Arrival, type DnsServer } from '../../src/dns/server.ts';
import { frame, FrameReader } from '../../src/dns/wire/frame.ts';
import { parseMessage } from '../../src/dns/wire/message.ts';
import { parseName, type DnsName } from '../../src/dns/wire/name.ts';
import { encodeQuery, parseQuery } from '../../src/dns/wire/query.ts';
import { FLAG, RR } from '../../src/dns/wire/types.ts';
import { compileZone } from '../../src/dns/zone/compile.ts';
import { buildSnapshot } from '../dns/snapshot-builder.ts';
import { CLUSTER } from '../dns/world.ts';
import { zoneSite } from '../dns/zone-site.ts';
import { ip } from '../support/values.ts';

export interface FuzzResult {
  readonly cases: number;
  readonly answered: number;
  readonly dropped: number;
  readonly seconds: number;
  readonly heapGrowthBytes: number;
  readonly slowestMs: number;
}

type Random = () => number;

const CLIENT = { address: '127.0.0.1', port: 40_000 };

/** Of each 40 cases one goes over sockets as well, at most this many. */
const MOST_ON_SOCKETS = 4000;
/** A packet after which a valid question must still be answered, on sockets. */
const PROBE_EVERY = 100;
const PROBE_TIMEOUT_MS = 5000;

/** Rejects with the packet in hex when something does not hold. The same seed gives the same packets. */
export async function fuzzDns(options: { readonly cases: number; readonly seed: number }): Promise<FuzzResult> {
  const start = performance.now();
  const random = mulberry32(options.seed);
  const { server, arrivals } = serverUnderTest();
  const heap = heapMeter();
  let answered = 0;
  let slowestMs = 0;
  let before = 0;
  for (let i = 0; i < options.cases; i++) {
    // The first tenth warms caches and the compiler up.
    if (i === Math.floor(options.cases / 10)) before = heap();
    const packet = malformedPacket(random);
    const began = performance.now();
    const reply = checked(server, packet, arrivals[i & 1]);
    slowestMs = Math.max(slowestMs, performance.now() - began);
    if (reply) answered++;
  }
  const heapGrowthBytes = heap() - before;
  await fuzzSockets(Math.min(MOST_ON_SOCKETS, Math.ceil(options.cases / 40)), random);
  return {
    cases: options.cases,
    answered,
    dropped: options.cases - answered,
    seconds: (performance.now() - start) / 1000,
    heapGrowthBytes,
    slowestMs,
  };
}

function serverUnderTest(): { server: DnsServer; arrivals: readonly [Arrival, Arrival] } {
  const metrics = createDnsMetrics(createMetrics());
  const origin = name('cluster.local');
  const zone = compileZone(buildSnapshot(CLUSTER), { origin, ttl: 5, pods: 'insecure', selfIps: [ip('127.0.0.1')] }, 1);
  const server = createDnsServer({
    log: silentLogger,
    metrics: {
      ...metrics,
      panicked: () => {
        throw new Error('a handler threw');
      },
    },
    clock: systemClock,
  });
  const counters = metrics.forServer('dns://:53');
  const site = zoneSite(zone);
  return {
    server,
    arrivals: [
      {
        transport: 'udp',
        ipv6: false,
        address: '0.0.0.0',
        port: 53,
        metrics: counters,
        site,
        kept: new KeptAnswers(counters),
      },
      {
        transport: 'tcp',
        ipv6: true,
        address: '::',
        port: 53,
        metrics: counters,
        site,
        kept: new KeptAnswers(counters),
      },
    ],
  };
}

function checked(server: DnsServer, packet: Buffer, arrival: Arrival | undefined): Buffer | undefined {
  if (!arrival) throw new Error('no arrival');
  try {
    // The reader of upstream's replies gets the same bytes.
    parseMessage(packet);
    const reply = server.receive(packet, arrival, CLIENT);
    if (reply instanceof Promise) throw new Error('waits for somebody');
    if (!reply) return undefined;
    if (!Buffer.isBuffer(reply)) throw new Error('answered with a transfer');
    const message = parseMessage(reply);
    if (!message) throw new Error(`answered with ${reply.toString('hex')}`);
    if (message.id !== packet.readUInt16BE(0) || !(message.flags & FLAG.QR)) throw new Error('not a reply to this');
    const query = parseQuery(packet);
    const limit =
      arrival.transport === 'tcp' ? 65_535 : Math.max(512, query.kind === 'query' ? (query.edns?.udpSize ?? 0) : 0);
    if (reply.length > limit) throw new Error(`answered with ${reply.length} bytes, more than ${limit}`);
    return reply;
  } catch (error) {
    throw new Error(`packet ${packet.toString('hex')}`, { cause: error });
  }
}

// Packets.

const NAMES = [
  'web.shop.svc.cluster.local',
  '_pg._tcp.db.shop.svc.cluster.local',
  'crowd.shop.svc.cluster.local',
  'ext.shop.svc.cluster.local',
  '10-244-1-11.shop.pod.cluster.local',
  '1.10.96.10.in-addr.arpa',
  'cluster.local',
  'www.example.test',
].map(name);
const TYPES = [RR.A, RR.AAAA, RR.SRV, RR.PTR, RR.TXT, RR.NS, RR.SOA, RR.ANY, RR.OPT, 0, 0xffff];

function malformedPacket(random: Random): Buffer {
  const valid = validQuery(random);
  switch (below(random, 8)) {
    case 0:
      return bytes(random, below(random, 600));
    case 1:
      return mutated(valid, random);
    case 2:
      return valid.subarray(0, below(random, valid.length + 1));
    case 3:
      return absurdCounts(valid, random);
    case 4:
      return compressionLoop(random);
    case 5:
      return ednsGarbage(random);
    case 6:
      return Buffer.concat([valid.subarray(0, 12), bytes(random, below(random, 300))]);
    default:
      return longName(random);
  }
}

function validQuery(random: Random): Buffer {
  return encodeQuery({
    id: below(random, 0x10000),
    flags: random() < 0.9 ? FLAG.RD : below(random, 0x10000),
    name: pick(random, NAMES),
    type: pick(random, TYPES),
    klass: random() < 0.9 ? 1 : below(random, 0x10000),
    udpSize: random() < 0.5 ? below(random, 0x10000) : undefined,
    dnssecOk: random() < 0.5,
  });
}

function mutated(packet: Buffer, random: Random): Buffer {
  const copy = Buffer.from(packet);
  for (let i = 1 + below(random, 6); i > 0; i--) copy[below(random, copy.length)] = below(random, 256);
  return copy;
}

function absurdCounts(packet: Buffer, random: Random): Buffer {
  const copy = Buffer.from(packet);
  for (let at = 4; at < 12; at += 2) if (random() < 0.5) copy.writeUInt16BE(below(random, 0x10000), at);
  return copy;
}

/** Pointers anywhere, in the question and in an additional record. */
function compressionLoop(random: Random): Buffer {
  const labels = Buffer.concat([Buffer.from('\x03web', 'latin1'), pointer(random)]);
  const question = Buffer.concat([random() < 0.5 ? labels : Buffer.from('\0', 'latin1'), Buffer.from([0, 1, 0, 1])]);
  const record = Buffer.concat([pointer(random), pointer(random), bytes(random, 10)]);
  const header = Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
  return Buffer.concat([header, question, record]);
}

function pointer(random: Random): Buffer {
  return Buffer.from([0xc0 | below(random, 2), below(random, 64)]);
}

function ednsGarbage(random: Random): Buffer {
  const query = encodeQuery({ id: 1, flags: 0, name: pick(random, NAMES), type: RR.A, udpSize: 1232 });
  const options = bytes(random, below(random, 60));
  const packet = Buffer.concat([query, options]);
  packet.writeUInt16BE(random() < 0.7 ? options.length : below(random, 0x10000), query.length - 2);
  if (random() < 0.3) packet.writeUInt32BE(below(random, 0x7fffffff), query.length - 6);
  return packet;
}

function longName(random: Random): Buffer {
  const labels: Buffer[] = [];
  for (let i = below(random, 140); i > 0; i--) {
    const length = random() < 0.8 ? 1 + below(random, 3) : below(random, 64);
    labels.push(Buffer.from([length]), bytes(random, length));
  }
  const zone = Buffer.from(random() < 0.5 ? name('svc.cluster.local') : '\0', 'latin1');
  return Buffer.concat([Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, zone, Buffer.from([0, 1, 0, 1])]);
}

// Sockets.

async function fuzzSockets(cases: number, random: Random): Promise<void> {
  const plane = await startDnsPlane({
    listen: [{ address: ip('127.0.0.1'), port: 0 }],
    upstream: { kind: 'none' },
    log: silentLogger,
    metrics: createMetrics(),
    clock: systemClock,
  });
  try {
    plane.update(buildSnapshot(CLUSTER));
    const port = plane.addresses[0]?.port ?? 0;
    await fuzzUdp(port, cases / 2, random);
    await fuzzTcp(port, cases / 2, random);
  } finally {
    await plane.stop();
  }
}

async function fuzzUdp(port: number, cases: number, random: Random): Promise<void> {
  const socket = createSocket('udp4');
  try {
    await new Promise<void>((resolve) => socket.connect(port, '127.0.0.1', resolve));
    for (let i = 1; i <= cases; i++) {
      const packet = malformedPacket(random);
      await new Promise<void>((resolve) => socket.send(packet, () => resolve()));
      if (i % PROBE_EVERY !== 0) continue;
      const id = 0x8000 | (i / PROBE_EVERY);
      await within('UDP', (done) => {
        const listen = (reply: Buffer): void => {
          if (!isProbeReply(reply, id)) return;
          socket.off('message', listen);
          done();
        };
        socket.on('message', listen);
        socket.send(probe(id));
      });
    }
  } finally {
    await new Promise<void>((resolve) => socket.close(resolve));
  }
}

/** A connection for each handful of messages: some framed, some with a wrong length, some not framed at all. */
async function fuzzTcp(port: number, cases: number, random: Random): Promise<void> {
  for (let i = 0; i < cases; i += 20) {
    const parts = Array.from({ length: 20 }, () => frame(malformedPacket(random)));
    const kind = below(random, 3);
    if (kind === 0) parts.push(bytes(random, below(random, 100)));
    await within('TCP', (done) => {
      const socket = connect(port, '127.0.0.1');
      const frames = new FrameReader();
      socket.on('error', () => socket.destroy());
      socket.on('close', done);
      socket.on('data', (chunk: Buffer) => {
        if (frames.push(chunk).some((reply) => isProbeReply(reply, 0x8001))) socket.destroy();
      });
      // With garbage behind, the stream is lost and only its end can be waited for.
      if (kind === 0) socket.end(Buffer.concat(parts));
      else socket.write(Buffer.concat([...parts, frame(probe(0x8001))]));
    });
  }
}

function probe(id: number): Buffer {
  return encodeQuery({ id, flags: FLAG.RD, name: pick(() => 0, NAMES), type: RR.A, udpSize: 4001 });
}

function isProbeReply(reply: Buffer, id: number): boolean {
  const message = parseMessage(reply);
  return message?.id === id && message.edns?.udpSize === 4001;
}

function within(what: string, start: (done: () => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer over ${what} any more`)), PROBE_TIMEOUT_MS);
    start(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

// Chance and memory.

function mulberry32(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function below(random: Random, bound: number): number {
  return Math.floor(random() * bound);
}

function pick<T>(random: Random, from: readonly T[]): T {
  const one = from[below(random, from.length)];
  if (one === undefined) throw new Error('nothing to pick from');
  return one;
}

function bytes(random: Random, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  for (let i = 0; i < length; i++) buffer[i] = below(random, 256);
  return buffer;
}

function name(text: string): DnsName {
  const parsed = parseName(text);
  if (!parsed) throw new Error(`no name: ${text}`);
  return parsed;
}

/** Bytes in use after a full collection, buffers included. */
function heapMeter(): () => number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  return () => {
    collect();
    const usage = process.memoryUsage();
    return usage.heapUsed + usage.external;
  };
}
