// What has come to an address by the time that a reload takes it away, or the server stops: all of it is answered.

import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { startListener, type Listener, type Scheme } from '../../src/dns/listener.ts';
import { createDnsMetrics } from '../../src/dns/metrics.ts';
import { Routes } from '../../src/dns/route.ts';
import type { Answered, DnsServer } from '../../src/dns/server.ts';
import { frame, FrameReader } from '../../src/dns/wire/frame.ts';
import { RCODE } from '../../src/dns/wire/types.ts';
import { createTally } from '../../src/observe/tally.ts';
import { systemClock } from '../../src/system/clock.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/api-server/certificate.ts';
import { freePort } from '../support/free-port.ts';
import { until } from '../support/until.ts';
import { ip } from '../support/values.ts';
import { codeOf, question } from './ask.ts';
import { serveCorefile } from './corefile-plane.ts';
import { startHeldUpstream } from './fake-upstream.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Listens on a port of 127.0.0.1 and gives every packet back. */
async function echo(scheme: Scheme): Promise<{ readonly listener: Listener; readonly port: number }> {
  const server: DnsServer = {
    receive: (packet): Answered => Buffer.from(packet),
    idle: async () => {},
    underWay: async () => {},
  };
  const listener = await startListener({
    at: { address: ip('127.0.0.1'), port: 0, scheme },
    server,
    site: { routes: new Routes([]), version: 0 },
    metrics: createDnsMetrics(createTally()),
    clock: systemClock,
    idleMs: 10_000,
    maxConnections: 100,
    shared: false,
    tls:
      scheme === 'dns'
        ? undefined
        : { certificate: TEST_CERTIFICATE, key: TEST_KEY, ca: undefined, clientAuth: 'nocert' },
  });
  closing.push(() => listener.close());
  return { listener, port: listener.addresses[0]?.port ?? 0 };
}

interface Client {
  /** Holds this thread until the client has sent everything: what it has sent is unread then. */
  blockUntilSent(): void;
  /** What came back, as told so far. */
  readonly answers: () => number;
  readonly ended: () => boolean;
}

/** A client in a thread of its own; `code` sees `port`, and calls `sent()`, `answer()` and `end()`. */
async function clientThread(port: number, code: string): Promise<Client> {
  const shared = new Int32Array(new SharedArrayBuffer(16));
  const worker = new Worker(
    `const { workerData: { port, shared } } = require('node:worker_threads');
     const sent = () => { Atomics.store(shared, 1, 1); Atomics.notify(shared, 1); };
     const answer = () => Atomics.add(shared, 2, 1);
     const end = () => Atomics.store(shared, 3, 1);
     Atomics.store(shared, 0, 1);
     const go = () => Atomics.wait(shared, 0, 1);
     ${code}`,
    { eval: true, workerData: { port, shared } },
  );
  closing.push(() => worker.terminate());
  await until(() => Atomics.load(shared, 0) === 1);
  return {
    blockUntilSent: () => {
      Atomics.store(shared, 0, 2);
      Atomics.notify(shared, 0);
      expect(Atomics.wait(shared, 1, 0, 20_000)).not.toBe('timed-out');
    },
    answers: () => Atomics.load(shared, 2),
    ended: () => Atomics.load(shared, 3) === 1,
  };
}

test('datagrams that are still unread are answered before the socket is closed', async () => {
  const { listener, port } = await echo('dns');
  const client = await clientThread(
    port,
    `const socket = require('node:dgram').createSocket('udp4');
     socket.on('message', answer);
     socket.connect(port, '127.0.0.1', () => {
       go();
       let left = 150;
       for (let i = 0; i < 150; i++) socket.send(Buffer.alloc(40, i), () => --left === 0 && sent());
     });`,
  );
  client.blockUntilSent();
  await listener.drain();
  await listener.close();
  await until(() => client.answers() === 150);
  expect(listener.connections).toBe(0);
});

test('connections that are not accepted yet are, and what they ask is answered', async () => {
  const { listener, port } = await echo('dns');
  const client = await clientThread(
    port,
    `go();
     const { connect } = require('node:net');
     let left = 20, open = 20;
     for (let i = 0; i < 20; i++) {
       const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.from([0, 3, 1, 2, 3]), () => --left === 0 && sent()));
       socket.on('data', answer);
       socket.on('error', () => {});
       socket.on('close', () => --open === 0 && end());
     }`,
  );
  client.blockUntilSent();
  await listener.drain();
  await listener.close();
  await until(() => client.ended());
  expect(client.answers()).toBe(20);
});

test('what was sent on a connection and is still unread is answered before its end', async () => {
  const { listener, port } = await echo('dns');
  const client = await clientThread(
    port,
    `const socket = require('node:net').connect(port, '127.0.0.1');
     socket.on('end', end);
     socket.on('error', () => {});
     let bytes = 0;
     const first = Buffer.from([0, 1, 9]);
     socket.write(first);
     socket.once('data', () => {
       answer();
       socket.on('data', (chunk) => { bytes += chunk.length; while (bytes >= 3) { bytes -= 3; answer(); } });
       go();
       socket.write(Buffer.concat(Array.from({ length: 100 }, () => first)), sent);
     });`,
  );
  await until(() => client.answers() === 1);
  client.blockUntilSent();
  await listener.drain();
  await listener.close();
  await until(() => client.ended());
  expect(client.answers()).toBe(101);
});

test('a client that goes on asking is not waited for, and one that says nothing is told the end', async () => {
  const { listener, port } = await echo('dns');
  const client = await clientThread(
    port,
    `const { connect } = require('node:net');
     const busy = connect(port, '127.0.0.1');
     setInterval(() => busy.writable && busy.write(Buffer.from([0, 1, 9])), 5);
     busy.on('data', answer);
     busy.on('error', () => {});
     const silent = connect(port, '127.0.0.1');
     silent.on('end', end);
     silent.on('error', () => {});`,
  );
  await until(() => client.answers() > 3 && listener.connections === 2);
  await listener.drain();
  await until(() => client.ended());
  await listener.close();
  // The one that goes on is told by now, or soon.
  await until(() => listener.connections === 0);
  expect(listener.addresses).toHaveLength(2);
});

test.each(['tls', 'https'] as const)('an answer over %s that is under way at a reload arrives', async (scheme) => {
  const upstream = await startHeldUpstream();
  closing.push(() => upstream.close());
  const [before, after] = [await freePort(), await freePort()];
  const corefile = (port: number): string =>
    `${scheme}://.:${port} {\n bind 127.0.0.1\n tls cert.pem key.pem\n kubernetes cluster.local\n forward . ${upstream.server.address}:${upstream.server.port}\n reload 2s 0s\n}\n`;
  const beside = { 'cert.pem': TEST_CERTIFICATE, 'key.pem': TEST_KEY };
  let reload = (): void => {};
  const onReloadAsked = (ask: () => void): (() => void) => {
    reload = ask;
    return () => {};
  };
  const server = await serveCorefile(corefile(before), { workers: 2, beside, onReloadAsked });
  closing.push(() => server.stop());
  const told = askOver(scheme, before);
  await until(() => upstream.asked.length > 0);
  await server.rewrite(corefile(after));
  reload();
  await until(() => server.lines.some((line) => line.includes('is in force')));
  upstream.release();
  expect(await told).toBe(RCODE.NOERROR);
  // And who comes now is served at the new address.
  expect(await askOver(scheme, after)).toBe(RCODE.NOERROR);
});

/** The code of the answer; `closed` when none came. */
function askOver(scheme: 'tls' | 'https', port: number): Promise<number | 'closed'> {
  const packet = question('www.example.test');
  return new Promise((resolve) => {
    if (scheme === 'tls') {
      const socket = connectTls({ host: '127.0.0.1', port, ca: TEST_CERTIFICATE }, () => socket.write(frame(packet)));
      const frames = new FrameReader();
      closing.push(() => socket.destroy());
      socket.on('error', () => {});
      socket.on('data', (data: Buffer) => frames.push(data).forEach((answer) => resolve(codeOf(answer))));
      socket.on('close', () => resolve('closed'));
      return;
    }
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: TEST_CERTIFICATE });
    closing.push(() => session.destroy());
    session.on('error', () => {});
    const headers = { ':method': 'POST', ':path': '/dns-query', 'content-type': 'application/dns-message' };
    const stream = session.request(headers);
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => resolve(codeOf(chunk)));
    stream.on('close', () => resolve('closed'));
    stream.end(packet);
  });
}
